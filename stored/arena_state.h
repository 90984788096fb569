/*
 * What is behind stored/arena.h; for the files stored/arena*.c. arena.c has the files and their
 * descriptors; arena_open.c finds those that there are, and mends or sets aside; arena_scan.c goes
 * through their frames; arena_append.c writes at the end of the last.
 */
#ifndef BAZIL_STORED_ARENA_STATE_H
#define BAZIL_STORED_ARENA_STATE_H

#include "stored/arena.h"

#define ARENA_NAME_SIZE 32

void arena_name(uint32_t number, char ret_name[ARENA_NAME_SIZE]);
/* The one that is appended to. */
struct arena *arenas_last(const struct arenas *a);
/* Its descriptor, opened again if need be: good until the next call. */
int arena_fd(struct arenas *a, struct arena *arena);

/* Makes arena `number`, durable with its name before anything is put into it: the index may name
 * it only when it cannot vanish any more. It is the last then. */
int arena_create(struct arenas *a, uint32_t number);
/* Puts it behind the last; the list has room. fd is the arenas' from now on. */
struct arena *arena_adopt(struct arenas *a, int fd, const struct frame_super *super);

#endif
