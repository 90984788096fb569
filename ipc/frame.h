/*
 * Datagrams on a SOCK_SEQPACKET socketpair: a header, a msgpack body, file descriptors.
 *
 * Header, 16 bytes, little-endian: u16 type (the message's number), u8 kind, u8 number of
 * descriptors, u32 length of the body, u64 serial (a reply carries its request's; requests of each
 * side count up from 1; notices have 0). The body is the rest of the datagram, which is at most
 * IPC_MSG_MAX long.
 *
 * Bodies: request, reply, notice: as the schema says. error: [errno, text 1024]. progress: [done,
 * total, text 200]. hello: [channel name, version, sha256 of the schema]; the first message of both
 * directions.
 */
#ifndef BAZIL_IPC_FRAME_H
#define BAZIL_IPC_FRAME_H

#include "ipc/writer.h"

#include <stddef.h>
#include <stdint.h>

#define IPC_MSG_MAX    (128 * 1024)
#define IPC_HEADER_LEN 16

enum ipc_kind {
	IPC_REQUEST = 1,
	IPC_REPLY = 2,
	IPC_NOTICE = 3,
	IPC_ERROR = 4,
	IPC_PROGRESS = 5,
	IPC_HELLO = 6,
};

/* A message as it came. body points into the datagram; fds that are not -1 are still to be closed.
 */
struct ipc_frame {
	enum ipc_kind kind;
	uint16_t type;
	uint64_t serial;
	const uint8_t *body;
	size_t len;
	int fds[IPC_FDS_MAX];
	size_t num_fds;
};

/* A pair of connected sockets: close-on-exec, non-blocking, with room for several large datagrams.
 */
int ipc_pair(int fds[2]);

/* Writes the header of a datagram whose body has body_len bytes. */
void ipc_frame_head(uint8_t head[IPC_HEADER_LEN], enum ipc_kind kind, uint16_t type,
	uint64_t serial, size_t body_len, size_t num_fds);

/* Reads and checks a datagram's header; frame->fds and num_fds are already those received.
 * -EBADMSG. */
int ipc_frame_parse(struct ipc_frame *frame, const uint8_t *data, size_t len);

/* A reader of the body and its descriptors. */
void ipc_frame_reader(struct ipc_frame *frame, struct ipc_reader *r);

void ipc_frame_close_fds(struct ipc_frame *frame);

/* Sends one datagram without waiting: 0, -EAGAIN, -EPIPE and other -errno. */
int ipc_frame_send(int fd, const uint8_t *data, size_t len, const int *fds, size_t num_fds);

/*
 * Receives one datagram into buf (IPC_MSG_MAX bytes) without waiting and parses it. Returns its
 * length, 0 when the peer is gone, -EAGAIN, -EBADMSG, -errno. After an error no descriptor is left
 * open.
 */
long ipc_frame_receive(int fd, uint8_t *buf, struct ipc_frame *frame);

#endif
