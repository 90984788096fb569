#include "supervisor/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/scope.h"

#define BACKLOG 128

static int bind_any(int family, unsigned port, int *ret_fd)
{
	_cleanup_(closep) int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	const int one = 1, zero = 0;
	int r;

	if (fd < 0)
		return -errno;
	/* A server that was stopped a moment ago has connections in TIME_WAIT on this port. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (family == AF_INET6) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
		r = bind(fd, (struct sockaddr *)&six, sizeof(six));
	} else {
		r = bind(fd, (struct sockaddr *)&four, sizeof(four));
	}
	if (r < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* A host may have been booted without IPv6. */
static int bind_both(unsigned port, int *ret_fd)
{
	int r = bind_any(AF_INET6, port, ret_fd);

	if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)
		r = bind_any(AF_INET, port, ret_fd);
	return r;
}

int listener_port(int fd, unsigned *ret_port)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);

	if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		return -errno;
	*ret_port = ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
						     : ((struct sockaddr_in *)&addr)->sin_port);
	return 0;
}

int listener_open(unsigned port, int *ret_fd, unsigned *ret_port)
{
	int r = bind_both(port ? port : LISTENER_PORT, ret_fd);

	if (r == -EADDRINUSE && port == 0)
		r = bind_both(0, ret_fd);
	return r < 0 ? r : listener_port(*ret_fd, ret_port);
}
