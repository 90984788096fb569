/*
 * A stored and a keyd for tests, in memory and in a thread of the test: records in a list, objects
 * in one memfd, keys from a fixed sharing key. It does what ipc/mountd-stored.msg says and
 * nothing well. fake_start() gives the client ends of both edges and the ring.
 *
 * far: fake_hide() makes an object absent until a store_fetch brings it; fake_die() closes the
 * edges as a dying stored does, fake_return() makes new ones.
 */
#ifndef BAZIL_TESTS_MOUNTD_FAKE_H
#define BAZIL_TESTS_MOUNTD_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fake;

struct fake_edges {
	int store_fd, key_fd, ring_fd;
};

struct fake *fake_start(struct fake_edges *ret);
void fake_stop(struct fake *fake);
/* Connections break; new ends are given. */
void fake_restart(struct fake *fake, struct fake_edges *ret);
/* Everything stored so far is far until it is fetched; or cannot be reached at all. */
void fake_hide_all(struct fake *fake, bool reachable);
void fake_set_error(struct fake *fake, uint32_t error);
size_t fake_num_records(struct fake *fake);
size_t fake_num_objects(struct fake *fake);

#endif
