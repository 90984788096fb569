/*
 * Writes msgpack (by msgpack-c's packer) into a buffer of fixed size.
 *
 * Calling order: ipc_writer_init(), ipc_write_*() in the order of the fields, then look at
 * writer->err once: errors are sticky. -EMSGSIZE: the buffer or a bound of the schema is exceeded;
 * -EINVAL: a list without elements behind it, too many descriptors. File descriptors are only noted
 * in writer->fds, they stay the caller's.
 */
#ifndef BAZIL_IPC_WRITER_H
#define BAZIL_IPC_WRITER_H

#include "ipc/reader.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IPC_FDS_MAX 16

struct ipc_writer {
	uint8_t *data;
	size_t len, cap;
	int err;
	int fds[IPC_FDS_MAX];
	size_t num_fds;
};

void ipc_writer_init(struct ipc_writer *w, void *buf, size_t cap);

void ipc_write_array(struct ipc_writer *w, uint32_t count);
void ipc_write_map(struct ipc_writer *w, uint32_t count);
void ipc_write_uint(struct ipc_writer *w, uint64_t v);
void ipc_write_int(struct ipc_writer *w, int64_t v);
void ipc_write_bool(struct ipc_writer *w, bool v);
void ipc_write_fixed(struct ipc_writer *w, const void *data, size_t size);
void ipc_write_bytes(struct ipc_writer *w, struct ipc_bytes b, size_t max);
/* NULL is written as the empty text. */
void ipc_write_text(struct ipc_writer *w, const char *text, size_t max);
/* The head of a list; false (and nothing to iterate) when it may not be written. */
bool ipc_write_list(struct ipc_writer *w, const void *list, size_t num, size_t max);
/* -1 is absent. */
void ipc_write_fd(struct ipc_writer *w, int fd);

#endif
