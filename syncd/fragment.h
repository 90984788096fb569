/*
 * What a session puts inside one Noise transport message: exactly one fragment. Pure: no I/O.
 *
 * Little-endian. One byte kind, one byte flags (bit 0 first, bit 1 last, the others zero), then:
 *
 *   ASK, ANSWER   first: u32 total, bytes; later: bytes. A message (ipc/chan.h) of the sender's
 * asking or answering channel. Pieces of one message are in order and not mixed with pieces of
 * another one of the same kind; the two kinds and OBJECT may alternate. OBJECT        first:
 * id[32], u32 total, bytes; later: bytes. One object at a time. CREDIT        u32: the sender is
 * ready for this many more bytes of objects. PING, PONG    u64: the PONG repeats it. REKEY nothing:
 * the last message of this direction under the present key.
 *
 * CREDIT, PING, PONG and REKEY have both flags set. Every piece of a message carries at least a
 * byte.
 *
 * struct assembly puts pieces together. Its memory is bounded by the max of assembly_add(), which
 * is compared with the announced total before anything is allocated.
 */
#ifndef BAZIL_SYNCD_FRAGMENT_H
#define BAZIL_SYNCD_FRAGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAGMENT_HEAD_MAX  (2 + 32 + 4)
#define FRAGMENT_ID_SIZE   32
/* Longest piece of an object, so that a control message waits for at most this much. */
#define FRAGMENT_BULK_MAX  (32 * 1024)
/* Longest piece of a control message: on a slow line each one is a sign of progress. */
#define FRAGMENT_PIECE_MAX (16 * 1024)

enum fragment_kind {
	FRAGMENT_ASK = 1,
	FRAGMENT_ANSWER = 2,
	FRAGMENT_OBJECT = 3,
	FRAGMENT_CREDIT = 4,
	FRAGMENT_PING = 5,
	FRAGMENT_PONG = 6,
	FRAGMENT_REKEY = 7,
};

struct fragment {
	enum fragment_kind kind;
	bool is_first, is_last;
	/* length of the whole message; set in the first piece */
	uint32_t total;
	/* of an OBJECT, in the first piece; a view */
	const uint8_t *id;
	/* CREDIT, PING, PONG */
	uint64_t value;
	/* a view of the piece */
	const uint8_t *data;
	size_t len;
};

/* Strict. -EBADMSG: not a fragment. Views point into <data, len>. */
int fragment_parse(struct fragment *ret, const uint8_t *data, size_t len);

/* Length of what fragment_emit() writes. */
size_t fragment_size(const struct fragment *f);

/* Writes fragment_size(f) bytes. */
void fragment_emit(const struct fragment *f, uint8_t *out);

struct assembly {
	uint8_t *buf;
	size_t have, total;
	uint8_t id[FRAGMENT_ID_SIZE];
	bool is_open;
};

/*
 * Adds a piece. 1: the message is complete in <buf, total>; take buf (set it to NULL) or leave it
 * to the next call. 0: more to come. -EBADMSG: wrong order, longer than announced or than max;
 * -ENOMEM.
 */
int assembly_add(struct assembly *a, const struct fragment *f, size_t max);

void assembly_release(struct assembly *a);

#endif
