/*
 * Minimal perfect hashes, made by CMPH: each of some keys has a slot of its own, from 0 on, and the
 * keys themselves are not kept. For any other key mph_find returns anything.
 *
 * MPH_CHD is what sealed arenas have (stored/sealed_arena.h): 4.3 bits a key. MPH_BDZ (Botelho,
 * Pagh, Ziviani: Simple and space-efficient minimal perfect hash functions, WADS 2007) takes 2.8
 * bits and finds a third faster.
 *
 * Calling order: mph_make, mph_find as often as needed, free(). All of it is pure, but for CMPH's
 * use of rand(): the same keys get other slots the next time.
 *
 * Errors: -ERANGE: there is none (equal keys, few or unlucky ones), be ready to do without;
 * -ENOMEM.
 */
#ifndef BAZIL_STORED_MPH_H
#define BAZIL_STORED_MPH_H

#include <stdint.h>

enum mph_kind {
	MPH_CHD,
	MPH_BDZ,
};

struct mph_keys {
	const uint8_t *const *keys;
	uint32_t num;
	uint32_t len; /* of each, in bytes */
};

/* ret_slots: room for the slot of each key. The caller frees *ret; it lies anywhere that is a
 * multiple of 4, when it is copied. */
int mph_make(enum mph_kind kind, const struct mph_keys *keys, uint32_t *ret_slots, void **ret,
	uint32_t *ret_len);
uint32_t mph_find(void *mph, const uint8_t *key, uint32_t len);

#endif
