#include "ipc/frame.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What an ordinary user may ask for (net.core.wmem_max); the kernel doubles it for its own needs.
 */
#define SOCKET_BUFFER 212992

int ipc_pair(int fds[2])
{
	const int size = SOCKET_BUFFER;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		/* Smaller buffers work too, only slower. */
		(void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		(void)setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	}
	return 0;
}

void ipc_frame_head(uint8_t head[IPC_HEADER_LEN], enum ipc_kind kind, uint16_t type,
	uint64_t serial, size_t body_len, size_t num_fds)
{
	const uint16_t le_type = htole16(type);
	const uint32_t le_len = htole32((uint32_t)body_len);
	const uint64_t le_serial = htole64(serial);

	memcpy(head, &le_type, 2);
	head[2] = (uint8_t)kind;
	head[3] = (uint8_t)num_fds;
	memcpy(head + 4, &le_len, 4);
	memcpy(head + 8, &le_serial, 8);
}

int ipc_frame_parse(struct ipc_frame *frame, const uint8_t *data, size_t len)
{
	uint16_t le_type;
	uint32_t le_len;
	uint64_t le_serial;

	if (len < IPC_HEADER_LEN || len > IPC_MSG_MAX)
		return -EBADMSG;
	memcpy(&le_type, data, 2);
	memcpy(&le_len, data + 4, 4);
	memcpy(&le_serial, data + 8, 8);
	if (data[2] < IPC_REQUEST || data[2] > IPC_HELLO || data[3] != frame->num_fds)
		return -EBADMSG;
	if (le32toh(le_len) != len - IPC_HEADER_LEN)
		return -EBADMSG;
	frame->kind = data[2];
	frame->type = le16toh(le_type);
	frame->serial = le64toh(le_serial);
	frame->body = data + IPC_HEADER_LEN;
	frame->len = len - IPC_HEADER_LEN;
	return 0;
}

void ipc_frame_reader(struct ipc_frame *frame, struct ipc_reader *r)
{
	ipc_reader_init(r, frame->body, frame->len);
	r->fds = frame->fds;
	r->num_fds = frame->num_fds;
}

void ipc_frame_close_fds(struct ipc_frame *frame)
{
	for (size_t i = 0; i < frame->num_fds; i++) {
		if (frame->fds[i] >= 0)
			close(frame->fds[i]);
		frame->fds[i] = -1;
	}
}

union control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(IPC_FDS_MAX * sizeof(int))];
};

int ipc_frame_send(int fd, const uint8_t *data, size_t len, const int *fds, size_t num_fds)
{
	struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control;

	if (num_fds > IPC_FDS_MAX)
		return -EINVAL;
	if (num_fds) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, num_fds * sizeof(int));
	}
	while (sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static void collect_fds(struct msghdr *msg, struct ipc_frame *frame)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t len;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		/* Never more than IPC_FDS_MAX: the control buffer has no room for them. */
		len = c->cmsg_len - CMSG_LEN(0);
		memcpy(frame->fds, CMSG_DATA(c), len);
		frame->num_fds = len / sizeof(int);
	}
}

long ipc_frame_receive(int fd, uint8_t *buf, struct ipc_frame *frame)
{
	struct iovec iov = { .iov_base = buf, .iov_len = IPC_MSG_MAX };
	union control control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;
	int r;

	frame->num_fds = 0;
	do {
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		/*
		 * ECONNRESET is reported once when the peer closed without having read all that we
		 * sent; what it sent before is still there to be read.
		 */
	} while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0)
		return -errno;
	if (n == 0)
		return 0;
	collect_fds(&msg, frame);
	r = msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EBADMSG
						     : ipc_frame_parse(frame, buf, (size_t)n);
	if (r < 0) {
		ipc_frame_close_fds(frame);
		return r;
	}
	return n;
}
