#include "keyd/secret.h"

#include "ipc/call.h"
#include "keyd/keyd.h"

#include <errno.h>
#include <ev.h>
#include <linux/magic.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

/* In locked memory as a whole, for the sake of bytes. */
struct secret {
	struct secret *next;
	struct keyd *keyd;
	struct ipc_call *call;
	secret_done_fn *done;
	int fd;
	struct ev_io readable;
	struct ev_timer deadline;
	char name[KEYRING_NAME_MAX + 1];
	size_t len;
	/* One more than wanted: to see that there is more. */
	uint8_t bytes[KEYRING_SECRET_SIZE + 1];
};

static void secret_free(struct secret *s)
{
	struct secret **p = &s->keyd->secrets;

	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	ev_io_stop(s->keyd->loop, &s->readable);
	ev_timer_stop(s->keyd->loop, &s->deadline);
	close(s->fd);
	sodium_free(s);
}

static void finish(struct secret *s, int err)
{
	if (err == 0 && s->len != KEYRING_SECRET_SIZE)
		err = -EMSGSIZE;
	s->done(s->keyd, s->call, s->name, err, s->bytes, s->len);
	secret_free(s);
}

void secret_cancel(struct secret *s)
{
	ipc_call_fail(s->call, -ECANCELED, "keyd is stopping: nothing was changed, try again");
	secret_free(s);
}

/* 1 at the end of the file, or when there are too many bytes; 0 when there may be more. */
static int read_some(struct secret *s)
{
	ssize_t n = read(s->fd, s->bytes + s->len, sizeof(s->bytes) - s->len);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	s->len += (size_t)n;
	return n == 0 || s->len == sizeof(s->bytes);
}

static void readable(struct ev_loop *loop, struct ev_io *io, int events)
{
	struct secret *s = io->data;
	int r = read_some(s);

	if (r != 0)
		finish(s, r < 0 ? r : 0);
}

static void deadline(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	finish(timer->data, -ETIMEDOUT);
}

static void read_file(struct secret *s)
{
	struct statfs fs;
	int r;

	if (fstatfs(s->fd, &fs) < 0) {
		finish(s, -errno);
		return;
	}
	if (fs.f_type == FUSE_SUPER_MAGIC) {
		finish(s, -EREMOTE);
		return;
	}
	do
		r = read_some(s);
	while (r == 0);
	finish(s, r < 0 ? r : 0);
}

/*
 * The loop says when a read will not wait. Making the descriptor non-blocking instead would do so
 * for everybody who shares it, the user's shell for instance.
 */
static void start(struct secret *s)
{
	ev_io_start(s->keyd->loop, &s->readable);
	ev_timer_start(s->keyd->loop, &s->deadline);
}

int secret_read(
	struct keyd *keyd, int fd, struct ipc_call *call, const char *name, secret_done_fn *done)
{
	size_t num = 0;
	struct secret *s;
	struct stat st;

	for (s = keyd->secrets; s; s = s->next)
		num++;
	s = num < SECRET_MAX ? sodium_malloc(sizeof(*s)) : NULL;
	if (!s) {
		if (fd >= 0)
			close(fd);
		return num < SECRET_MAX ? -ENOMEM : -EBUSY;
	}
	memset(s, 0, sizeof(*s));
	s->next = keyd->secrets;
	s->keyd = keyd;
	s->call = call;
	s->done = done;
	s->fd = fd;
	memcpy(s->name, name, strnlen(name, KEYRING_NAME_MAX));
	ev_io_init(&s->readable, readable, fd, EV_READ);
	ev_timer_init(&s->deadline, deadline, SECRET_SECONDS, 0.);
	s->readable.data = s;
	s->deadline.data = s;
	keyd->secrets = s;
	if (fstat(fd, &st) < 0)
		finish(s, -errno);
	else if (S_ISREG(st.st_mode))
		read_file(s);
	else if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))
		start(s);
	else
		finish(s, -EINVAL);
	return 0;
}
