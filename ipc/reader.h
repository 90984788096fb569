/*
 * A bounded pull reader of msgpack: the only code that interprets bytes of another process.
 *
 * It builds no tree and never allocates by a size that a message merely claims: a count or length
 * is first compared with the schema's bound and with the bytes that are left. (The unpacker of
 * msgpack-c asks for gigabytes on five bytes of input; it is used nowhere.)
 *
 * Calling order: ipc_reader_init(), then ipc_read_*() in the order of the fields, then
 * ipc_reader_end(). Errors are sticky: after the first one every read returns zero and does
 * nothing, so a decoder checks once, at the end. Errors: -EBADMSG (malformed, out of bounds),
 * -ENOMEM.
 *
 * Views (ipc_read_bytes) point into the input and live as long as it; texts and lists are in
 * reader->mem, which the decoded message takes over (or the caller frees).
 */
#ifndef BAZIL_IPC_READER_H
#define BAZIL_IPC_READER_H

#include "ipc/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ipc_bytes {
	const uint8_t *data;
	size_t len;
};

struct ipc_reader {
	const uint8_t *p, *end;
	int err;
	struct ipc_mem *mem;
	/*
	 * File descriptors that came with the message. Reading one takes it (its place becomes -1),
	 * unless borrow_fds: then fields read as -1 and are only counted, to check a message.
	 */
	int *fds;
	size_t num_fds, next_fd;
	bool borrow_fds;
};

void ipc_reader_init(struct ipc_reader *r, const void *data, size_t len);

/* The array of the fields of a message: exactly count elements. */
void ipc_read_array(struct ipc_reader *r, uint32_t count);

/* Keyed messages: for (n = ipc_read_map(r), key = 0; ipc_read_key(r, &n, &key);) one value each.
 * Keys ascend strictly, so that no field is given twice. */
uint32_t ipc_read_map(struct ipc_reader *r);
bool ipc_read_key(struct ipc_reader *r, uint32_t *num_left, uint64_t *key);

uint64_t ipc_read_uint(struct ipc_reader *r, uint64_t max);
int64_t ipc_read_int(struct ipc_reader *r);
bool ipc_read_bool(struct ipc_reader *r);

/* Exactly size bytes, copied to out. */
void ipc_read_fixed(struct ipc_reader *r, void *out, size_t size);

struct ipc_bytes ipc_read_bytes(struct ipc_reader *r, size_t max);

/* A NUL-terminated copy, never NULL; a NUL inside is malformed. max does not count the end. */
const char *ipc_read_text(struct ipc_reader *r, size_t max);

/* The head of a list of at most max elements, each at least min_wire bytes long, and zeroed memory
 * of elem_size for each; NULL when empty. */
void *ipc_read_list(
	struct ipc_reader *r, size_t max, size_t min_wire, size_t elem_size, size_t *ret_num);

int ipc_read_fd(struct ipc_reader *r);

/* Any one value of any type, nested or not, is passed over without recursion. */
void ipc_read_skip(struct ipc_reader *r);

/* 0 when all went well and nothing is left over, neither bytes nor descriptors. */
int ipc_reader_end(struct ipc_reader *r);

#endif
