/*
 * Frames on a connected, non-blocking socket: u16 length (big-endian, as Noise suggests), then that
 * many bytes. Knows nothing of what is in them.
 *
 * wire_open() takes the socket. Then: ops->frame() for each frame received (the bytes may be
 * changed in place, and are gone when it returns); ops->room(), after wire_want_room() or a failed
 * wire_reserve(), when no more than WIRE_LOW is left to be sent; ops->dead() once, always from the
 * event loop and never from inside a call of ours, when the socket ended: err 0 is an orderly end
 * between two frames. The owner then calls wire_close(), as it may at any other time, also inside a
 * callback.
 *
 * Memory is bounded: one frame in, WIRE_OUT_MAX out. A handshake passes its wire on to the session
 * by wire_hand_over(); while nobody may be given frames (a step of the handshake waits for another
 * process) wire_pause() keeps them in the kernel, where TCP slows the sender down.
 */
#ifndef BAZIL_SYNCD_WIRE_H
#define BAZIL_SYNCD_WIRE_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_FRAME_MAX 65535
#define WIRE_OUT_MAX   (256 * 1024)
#define WIRE_LOW       (64 * 1024)

struct wire;

struct wire_ops {
	void (*frame)(void *self, uint8_t *data, size_t len);
	void (*room)(void *self);
	void (*dead)(void *self, int err);
};

/* Takes fd in any case. -ENOMEM, -errno. */
int wire_open(
	struct wire **ret, struct ev_loop *loop, int fd, const struct wire_ops *ops, void *self);
void wire_close(struct wire *w);

void wire_hand_over(struct wire *w, const struct wire_ops *ops, void *self);
void wire_pause(struct wire *w, bool is_paused);

/* No frame longer than this is accepted (-EMSGSIZE to dead()); WIRE_FRAME_MAX at first. */
void wire_limit(struct wire *w, size_t max);

/* Room for a frame of len bytes, to be filled at once; NULL when there is none now, or the wire is
 * dead. */
uint8_t *wire_reserve(struct wire *w, size_t len);
void wire_commit(struct wire *w, size_t len);

/* room() shall be called; from the event loop, also when there is room already. */
void wire_want_room(struct wire *w);

/* Writes what the socket takes; called after the last commit of a round. */
void wire_flush(struct wire *w);

/* When the last byte came (ev_now): also in the middle of a long frame. */
ev_tstamp wire_received_at(const struct wire *w);

size_t wire_queued(const struct wire *w);

#endif
