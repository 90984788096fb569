/*
 * The kernel's connection: libfuse's low-level session over the /dev/fuse descriptor that the
 * supervisor also holds.
 *
 * session_start() does FUSE_INIT through a pipe: libfuse writes its reply there, it is saved
 * together with the request (mountd/state.h), and then goes to the kernel. A later mountd of the
 * same mount feeds the saved request to its own libfuse, compares the reply with the saved one, and
 * asks the kernel to send again what was read and not answered (FUSE_NOTIFY_RESEND, once, before
 * the first read).
 *
 * What libfuse 3.14 does not know is put beside it in session.c: flags of FUSE_INIT, FUSE_STATX
 * (op_statx.c), FUSE_TMPFILE (as a FUSE_CREATE), the longer FUSE_SETXATTR.
 *
 * Requests are read by our own loop, so that their `unique` and flags that libfuse 3.14 does
 * not pass on are seen. After a request the descriptor is polled for SESSION_SPIN_NS before the
 * thread sleeps: a sleeping core answers in about 50 us, a spinning one in 16.
 */
#ifndef BAZIL_MOUNTD_SESSION_H
#define BAZIL_MOUNTD_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ev.h>

struct mountd;
struct fuse_session;

#define SESSION_SPIN_NS 100000
#define SESSION_IO_MAX	(1u << 20)
#define SESSION_BUF	(SESSION_IO_MAX + (64u << 10))

struct session {
	struct fuse_session *se;
	int fd; /* se's descriptor */
	ev_io io;
	bool is_held; /* kernel requests wait while a handler waits */
	uint8_t *buf;
	/* Of the request being handled. unique 0: none. */
	uint64_t unique;
	uint32_t opcode;
	bool kills_priv;   /* FUSE_WRITE_KILL_SUIDGID, FATTR_KILL_SUIDGID */
	uint32_t uid, gid; /* the caller's */
	bool kills_sgid;   /* FUSE_SETXATTR_ACL_KILL_SGID */
	uint32_t kernel_minor;
	bool has_setxattr_ext;
};

/* Takes fuse_fd. -EPROTO: the kernel or libfuse does not go with the saved INIT: mount anew. */
int session_start(struct mountd *m, int fuse_fd);
void session_stop(struct mountd *m);
/* Around a nested run of the event loop. */
void session_hold(struct mountd *m);
void session_resume(struct mountd *m);

#endif
