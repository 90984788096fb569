/*
 * The socket that peers come in by.
 */
#ifndef BAZIL_SUPERVISOR_LISTENER_H
#define BAZIL_SUPERVISOR_LISTENER_H

#define LISTENER_PORT 34211

/*
 * Listens on TCP port `port` of all addresses, IPv6 and IPv4. port 0: 34211, or any free one when
 * that is taken. Returns 0 or -errno.
 */
int listener_open(unsigned port, int *ret_fd, unsigned *ret_port);

/* Of a socket that listens already. 0 or -errno. */
int listener_port(int fd, unsigned *ret_port);

#endif
