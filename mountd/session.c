#define FUSE_USE_VERSION 314
#include "mountd/session.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ipc/chan.h"
#include "mountd/changed.h"
#include "mountd/group.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/next_dir.h"
#include "mountd/ops.h"
#include "mountd/sealers.h"
#include "mountd/stream.h"
#include "mountd/unmount.h"
#include "worker/log.h"

#define NOTIFY_RESEND	 7
#define OPCODE_STATX	 52
#define REQUESTS_AT_ONCE 512
#define LONG_REQUEST	 (64u << 10)

static int write_all(int fd, const void *data, size_t len)
{
	ssize_t n;

	do {
		n = write(fd, data, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

static int read_init(int fd, uint8_t *buf, size_t size, size_t *ret_len)
{
	for (;;) {
		ssize_t n = read(fd, buf, size);

		if (n >= 0) {
			*ret_len = (size_t)n;
			return 0;
		}
		if (errno == EAGAIN)
			(void)poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, -1);
		else if (errno != EINTR)
			return -errno;
	}
}

/* Flags that libfuse 3.14 does not know. Without HANDLE_KILLPRIV_V2 the kernel asks for the
 * security.capability attribute before every write; without SETXATTR_EXT it does not say whether a
 * change of an access list takes the set-group-id bit away. */
static void patch_reply(struct session *session, const uint8_t *init, size_t init_len,
	uint8_t *reply, size_t reply_len)
{
	struct fuse_init_in in = { 0 };
	struct fuse_init_out out;
	size_t in_len = init_len - sizeof(struct fuse_in_header);

	memcpy(&in, init + sizeof(struct fuse_in_header),
		in_len < sizeof(in) ? in_len : sizeof(in));
	if (reply_len != sizeof(struct fuse_out_header) + sizeof(out))
		return;
	memcpy(&out, reply + sizeof(struct fuse_out_header), sizeof(out));
	out.flags |= in.flags & (FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT);
	session->has_setxattr_ext = out.flags & FUSE_SETXATTR_EXT;
	memcpy(reply + sizeof(struct fuse_out_header), &out, sizeof(out));
}

/* What libfuse answers to this INIT. */
static int answer_init(struct session *session, int reply_fd, const uint8_t *init, size_t init_len,
	uint8_t reply[STATE_REPLY_MAX], size_t *ret_reply_len)
{
	struct fuse_buf buf = { .size = init_len };
	const struct fuse_in_header *head = (const struct fuse_in_header *)init;
	struct fuse_init_in in;
	ssize_t n;

	if (init_len < sizeof(*head) + 16 || head->opcode != FUSE_INIT)
		return -EPROTO;
	memcpy(&in, init + sizeof(*head), 16);
	session->kernel_minor = in.minor;
	memcpy(session->buf, init, init_len);
	buf.mem = session->buf;
	fuse_session_process_buf(session->se, &buf);
	n = read(reply_fd, reply, STATE_REPLY_MAX);
	if (n < (ssize_t)sizeof(struct fuse_out_header))
		return n < 0 ? -errno : -EPROTO;
	if (((const struct fuse_out_header *)reply)->error != 0)
		return -EPROTO;
	patch_reply(session, init, init_len, reply, (size_t)n);
	*ret_reply_len = (size_t)n;
	return 0;
}

static int init_first(struct mountd *m, int fuse_fd, int reply_fd)
{
	uint8_t reply[STATE_REPLY_MAX];
	size_t init_len, reply_len;
	int r;

	r = read_init(fuse_fd, m->io_buf, SESSION_BUF, &init_len);
	if (r == 0)
		r = answer_init(&m->session, reply_fd, m->io_buf, init_len, reply, &reply_len);
	if (r == 0)
		r = state_save_init(&m->state, m->io_buf, init_len, reply, reply_len);
	return r < 0 ? r : write_all(fuse_fd, reply, reply_len);
}

static int init_again(struct mountd *m, int fuse_fd, int reply_fd)
{
	uint8_t init[STATE_INIT_MAX], saved[STATE_REPLY_MAX], reply[STATE_REPLY_MAX];
	struct fuse_out_header resend = { .len = sizeof(resend), .error = NOTIFY_RESEND };
	size_t init_len, saved_len, reply_len;
	int r;

	r = state_load_init(&m->state, init, &init_len, saved, &saved_len);
	if (r == 0)
		r = answer_init(&m->session, reply_fd, init, init_len, reply, &reply_len);
	if (r < 0)
		return r;
	if (reply_len != saved_len || memcmp(reply, saved, saved_len) != 0)
		return -EPROTO;
	r = write_all(fuse_fd, &resend, sizeof(resend));
	/* Kernels before 6.9: what was in flight stays unanswered; only a new mount helps. */
	return r == -EINVAL ? -EPROTO : r;
}

static void note_flags(
	struct session *session, const struct fuse_in_header *head, const uint8_t *body, size_t len)
{
	session->uid = head->uid;
	session->gid = head->gid;
	/* These two are left to us, and not said is whether the caller may keep the bits. */
	session->kills_priv = head->uid != 0 && (session->opcode == FUSE_FALLOCATE ||
							session->opcode == FUSE_COPY_FILE_RANGE);
	if (session->opcode == FUSE_WRITE && len >= sizeof(struct fuse_write_in))
		session->kills_priv =
			((const struct fuse_write_in *)body)->write_flags & FUSE_WRITE_KILL_SUIDGID;
	else if (session->opcode == FUSE_SETATTR && len >= sizeof(struct fuse_setattr_in))
		session->kills_priv =
			((const struct fuse_setattr_in *)body)->valid & FATTR_KILL_SUIDGID;
}

/* What libfuse 3.14 does not know it gets as what it knows: FUSE_TMPFILE is laid out as
 * FUSE_CREATE, and the longer FUSE_SETXATTR loses what it has more, after a look at it. Returns the
 * length. */
static size_t translate(struct session *session, size_t len)
{
	struct fuse_in_header *head = (struct fuse_in_header *)session->buf;
	uint8_t *body = session->buf + sizeof(*head);
	struct fuse_setxattr_in in;

	session->kills_sgid = false;
	if (head->opcode == FUSE_TMPFILE)
		head->opcode = FUSE_CREATE;
	if (head->opcode != FUSE_SETXATTR || !session->has_setxattr_ext ||
		len < sizeof(*head) + sizeof(in))
		return len;
	memcpy(&in, body, sizeof(in));
	session->kills_sgid = in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID;
	memmove(body + FUSE_COMPAT_SETXATTR_IN_SIZE, body + sizeof(in),
		len - sizeof(*head) - sizeof(in));
	len -= sizeof(in) - FUSE_COMPAT_SETXATTR_IN_SIZE;
	head->len = (uint32_t)len;
	return len;
}

static void process(struct mountd *m, size_t len)
{
	struct session *session = &m->session;
	const struct fuse_in_header *head = (const struct fuse_in_header *)session->buf;
	struct fuse_buf buf = { .mem = session->buf };

	session->unique = head->unique;
	session->opcode = head->opcode;
	note_flags(session, head, session->buf + sizeof(*head), len - sizeof(*head));
	buf.size = translate(session, len);
	m->num_requests++;
	if (head->opcode == OPCODE_STATX)
		op_statx(m, head->unique, head->nodeid);
	else
		fuse_session_process_buf(session->se, &buf);
	session->unique = 0;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Answers to our own requests (store_sync) must not wait for the end of the spinning. */
static void spin(struct mountd *m)
{
	group_poll(m->group);
	if (m->edges.store != NULL && ipc_chan_pending(m->edges.store) > 0) {
		(void)ipc_chan_pump(m->edges.store, 0);
		next_dir_load(m);
	} else {
		__builtin_ia32_pause();
	}
}

static void on_readable(struct ev_loop *loop, ev_io *io, int events)
{
	struct mountd *m = io->data;
	uint64_t last = now_ns(), spin_ns = SESSION_SPIN_NS;

	for (int i = 0; i < REQUESTS_AT_ONCE;) {
		ssize_t n = read(m->session.fd, m->session.buf, SESSION_BUF);

		if (n >= (ssize_t)sizeof(struct fuse_in_header)) {
			process(m, (size_t)n);
			last = now_ns();
			/* Who writes this much needs longer for the next than a wake-up takes. */
			spin_ns = n > LONG_REQUEST || sealers_are_busy(m->sealers)
					  ? 0
					  : SESSION_SPIN_NS;
			stream_poll(m->stream);
			group_poll(m->group);
			i++;
		} else if (n < 0 && errno == EAGAIN) {
			if (now_ns() - last > spin_ns)
				break;
			spin(m);
		} else if (n < 0 && (errno == EINTR || errno == ENOENT)) {
			continue; /* ENOENT: the request was aborted before it was read */
		} else {
			ev_io_stop(loop, io);
			unmount_happened(m);
			return;
		}
		if (m->session.is_held || m->is_stopping)
			break;
	}
	load_trim(m);
	ev_now_update(loop);
}

void session_hold(struct mountd *m)
{
	if (m->nested++ == 0 && m->session.se != NULL)
		ev_io_stop(m->loop, &m->session.io);
}

void session_resume(struct mountd *m)
{
	if (--m->nested == 0 && m->session.se != NULL && m->is_mounted)
		ev_io_start(m->loop, &m->session.io);
}

int session_start(struct mountd *m, int fuse_fd)
{
	struct session *session = &m->session;
	char name[] = "bazil", path[32];
	char *argv[] = { name, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	bool again = state_has_init(&m->state);
	int fds[2], r;

	session->se = fuse_session_new(&args, &mountd_ops, sizeof(mountd_ops), m);
	fuse_opt_free_args(&args);
	if (session->se == NULL || pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -ENOMEM;
	snprintf(path, sizeof(path), "/dev/fd/%d", fds[1]);
	if (fuse_session_mount(session->se, path) < 0)
		return -EBADF;
	r = fcntl(fuse_fd, F_SETFL, fcntl(fuse_fd, F_GETFL) | O_NONBLOCK);
	if (r == 0)
		r = again ? init_again(m, fuse_fd, fds[0]) : init_first(m, fuse_fd, fds[0]);
	/* From here on libfuse's descriptor is the kernel. */
	if (r == 0 && dup3(fuse_fd, fds[1], O_CLOEXEC) < 0)
		r = -errno;
	close(fds[0]);
	close(fuse_fd);
	if (r < 0)
		return r;
	session->fd = fds[1];
	m->is_mounted = true;
	ev_io_init(&session->io, on_readable, session->fd, EV_READ);
	session->io.data = m;
	ev_io_start(m->loop, &session->io);
	/* The kernel remembers what the last mountd told it; a pull may have come since. */
	if (again)
		changed_all(m->changed, m->view);
	return 0;
}

void session_stop(struct mountd *m)
{
	if (m->session.se == NULL)
		return;
	ev_io_stop(m->loop, &m->session.io);
	m->is_mounted = false;
}
