#include "supervisor/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "supervisor/supervisor.h"
#include "worker/scope.h"

static void put_fd(struct msghdr *msg, char *control, size_t size, int fd)
{
	struct cmsghdr *c;

	memset(control, 0, size);
	msg->msg_control = control;
	msg->msg_controllen = size;
	c = CMSG_FIRSTHDR(msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
}

static void tell(const char *state, int passed)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct iovec iov = { .iov_base = (char *)state, .iov_len = strlen(state) };
	struct msghdr msg = { .msg_name = &addr, .msg_iov = &iov, .msg_iovlen = 1 };
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	_cleanup_(closep) int fd = -1;
	size_t len;

	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(addr.sun_path))
		return;
	len = strlen(path);
	memcpy(addr.sun_path, path, len);
	if (path[0] == '@')
		addr.sun_path[0] = '\0';
	msg.msg_namelen = offsetof(struct sockaddr_un, sun_path) + len;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (passed >= 0)
		put_fd(&msg, control, sizeof(control), passed);
	/* Nobody listening is systemd's matter, not ours. */
	(void)!sendmsg(fd, &msg, MSG_NOSIGNAL);
}

void notify(const char *state)
{
	tell(state, -1);
}

void notify_store(const char *name, int fd)
{
	char text[100];

	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
	tell(text, fd);
}

void notify_forget(const char *name)
{
	char text[100];

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	tell(text, -1);
}

static void on_watchdog(struct ev_loop *loop, struct ev_timer *w, int events)
{
	notify("WATCHDOG=1");
}

void notify_start_watchdog(struct supervisor *s)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	const double seconds = usec ? strtod(usec, NULL) / 1e6 : 0;

	if (seconds <= 0 || (pid && strtol(pid, NULL, 10) != getpid()))
		return;
	ev_timer_init(&s->watchdog, on_watchdog, 0., seconds / 3);
	ev_timer_start(s->loop, &s->watchdog);
}
