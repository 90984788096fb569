/*
 * The addresses that the dialer may connect to, as the supervisor sent them: one for each peer.
 * Nothing else is ever dialed, whatever syncd asks for.
 */
#ifndef BAZIL_DIALER_ADDRESSES_H
#define BAZIL_DIALER_ADDRESSES_H

#include <stddef.h>
#include <stdint.h>

#define ADDRESS_MAX  256
#define DEFAULT_PORT "34211"

struct addresses {
	size_t num;
	struct address {
		uint8_t peer[32];
		char text[ADDRESS_MAX + 1]; /* HOST, HOST:PORT, [V6] or [V6]:PORT */
	} * list;
};

/* Forgets all. */
void addresses_clear(struct addresses *a);
/* -ENOMEM, or -EINVAL for an address that cannot be split. */
int addresses_add(struct addresses *a, const uint8_t peer[32], const char *text);
/* The address of a peer, or NULL. */
const char *addresses_find(const struct addresses *a, const uint8_t peer[32]);

/* Splits "HOST:PORT" and its like; the port is DEFAULT_PORT when there is none. 0 or -EINVAL. */
int address_split(const char *text, char ret_host[ADDRESS_MAX + 1], char ret_port[6]);

#endif
