/*
 * bazil-attack: enters the sandbox of a role by the same way as its worker does
 * (supervisor/spawn.h, worker/sandbox.h), does one forbidden thing, and looks from outside whether
 * it was done.
 *
 *   bazil-attack --list                           names of attacks, allowed roles and depth
 *   bazil-attack [--without=LAYER,...] ROLE ATTACK
 *
 * LAYER: all, seccomp, landlock, root, caps, nnp, limits, dumpable, namespaces. Prints "stopped:
 * how" or "done"; exit status 0 stopped, 1 done, 2 something else went wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attacks.h"
#include "supervisor/spawn.h"
#include "supervisor/topology.h"
#include "worker/sandbox.h"

#define NAMESPACES (SANDBOX_USER_NS | SANDBOX_NET_NS | SANDBOX_PID_NS | SANDBOX_IPC_NS)

/* What the outside tells the inside, over fd 3. */
struct order {
	enum sandbox_profile profile;
	uint32_t without;
	unsigned attack;
	struct canaries canaries;
};

static const struct {
	const char *name;
	uint32_t layers;
} layer_names[] = {
	{ "all", SANDBOX_ALL },
	{ "seccomp", SANDBOX_SECCOMP },
	{ "landlock", SANDBOX_LANDLOCK },
	{ "root", SANDBOX_ROOT },
	{ "caps", SANDBOX_CAPS },
	{ "nnp", SANDBOX_NO_NEW_PRIVS },
	{ "limits", SANDBOX_RLIMITS },
	{ "dumpable", SANDBOX_NOT_DUMPABLE },
	{ "namespaces", NAMESPACES },
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bazil-attack: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* Inside. The result is the exit status: 0 done, else the errno; 255 could not be tried. */
static int inside(void)
{
	struct sandbox_report report;
	struct order o;
	struct stat st;
	int r;

	if (recv(3, &o, sizeof(o), 0) != sizeof(o))
		return 255;
	r = sandbox_enter(
		o.profile, o.without, fstat(4, &st) == 0 && S_ISDIR(st.st_mode) ? 4 : -1, &report);
	if (r < 0)
		return 255;
	/* Once in a while a worker is stopped by nothing at all but a missing layer: say so. */
	if (*report.missing && write(2, report.missing, strlen(report.missing)) < 0)
		return 255;
	r = attacks[o.attack].run(&o.canaries);
	return r < 0 ? -r & 0x7f : 0;
}

/* Outside: the canaries. */

struct outside {
	struct canaries canaries;
	int tcp, udp, path, abstract;
	volatile uint64_t *word; /* shared with the victim */
	int dir_fd;
};

static int listening(int family, int type, const void *addr, socklen_t len)
{
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, addr, len) < 0 || (type == SOCK_STREAM && listen(fd, 4) < 0))
		die("canary socket");
	return fd;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);

	if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		die("getsockname");
	return ntohs(addr.sin_port);
}

static void make_sockets(struct outside *o)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t len;

	o->tcp = listening(AF_INET, SOCK_STREAM, &in, sizeof(in));
	o->udp = listening(AF_INET, SOCK_DGRAM, &in, sizeof(in));
	o->canaries.tcp = port_of(o->tcp);
	o->canaries.udp = port_of(o->udp);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s/socket", o->canaries.dir);
	o->path = listening(AF_UNIX, SOCK_STREAM, &un, sizeof(un));
	len = snprintf(
		o->canaries.abstract, sizeof(o->canaries.abstract), "bazil-attack-%d", getpid());
	memset(&un, 0, sizeof(un));
	un.sun_family = AF_UNIX;
	memcpy(un.sun_path + 1, o->canaries.abstract, len);
	o->abstract = listening(
		AF_UNIX, SOCK_STREAM, &un, offsetof(struct sockaddr_un, sun_path) + 1 + len);
}

static void make_files(struct outside *o)
{
	char path[128];
	FILE *f;

	snprintf(o->canaries.dir, sizeof(o->canaries.dir), "/var/tmp/bazil-attack.XXXXXX");
	if (!mkdtemp(o->canaries.dir))
		die("canary directory");
	snprintf(path, sizeof(path), "%s/secret", o->canaries.dir);
	f = fopen(path, "w");
	if (!f || fputs("secret", f) < 0 || fclose(f) != 0)
		die("canary file");
	snprintf(path, sizeof(path), "%s/own", o->canaries.dir);
	if (mkdir(path, 0700) < 0)
		die("own directory");
	o->dir_fd = open(o->canaries.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* A process of the same user, which everybody may look into who is allowed to at all. */
static void make_victim(struct outside *o)
{
	o->word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*o->word = 42;
	o->canaries.word = (uintptr_t)o->word;
	o->canaries.victim = fork();
	if (o->canaries.victim == 0) {
		prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
		for (;;)
			pause();
	}
}

static bool is_ready(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* What an attack has left behind, or NULL. */
static const char *side_effect(struct outside *o)
{
	char path[128], text[16] = "";
	struct stat st;
	FILE *f;

	snprintf(path, sizeof(path), "%s/secret", o->canaries.dir);
	f = fopen(path, "r");
	if (!f || !fgets(text, sizeof(text), f) || strcmp(text, "secret") != 0)
		return "the file is changed";
	fclose(f);
	for (int i = 0; i < 3; i++) {
		static const char *const made[] = { "made", "device", "link" };

		snprintf(path, sizeof(path), "%s/%s", o->canaries.dir, made[i]);
		if (lstat(path, &st) == 0)
			return "something was made";
	}
	if (is_ready(o->tcp) || is_ready(o->path) || is_ready(o->abstract))
		return "somebody connected";
	if (is_ready(o->udp))
		return "a datagram came";
	if (*o->word != 42)
		return "memory was written";
	if (waitpid(o->canaries.victim, NULL, WNOHANG) != 0)
		return "the victim is dead";
	return NULL;
}

static void clean(struct outside *o)
{
	static const char *const names[] = { "secret", "made", "device", "link", "socket",
		"own/setuid" };
	char path[128];

	kill(o->canaries.victim, SIGKILL);
	/* The attack that mounts there, with nothing to stop it. */
	syscall(SYS_umount2, o->canaries.dir, 2);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", o->canaries.dir, names[i]);
		unlink(path);
	}
	snprintf(path, sizeof(path), "%s/own", o->canaries.dir);
	rmdir(path);
	rmdir(o->canaries.dir);
}

static void send_fd(int sock, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	if (sendmsg(sock, &msg, 0) < 0)
		die("sendmsg");
}

static int spawn_inside(struct outside *o, const struct role *role, uint32_t without, int work_fd,
	struct spawned *ret)
{
	char self[4096], own[128];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		die("/proc/self/exe");
	self[n] = '\0';
	snprintf(own, sizeof(own), "%s/own", o->canaries.dir);
	return spawn(
		&(struct spawn){
			.program = self,
			.arg = "--inside",
			.work_fd = work_fd,
			.dir_fd = role->dir ? open(own, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1,
			.log_fd = STDERR_FILENO,
			.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC),
			.layers = sandbox_expected(role->profile) & ~without,
			.resolves = role->profile == SANDBOX_DIALER,
		},
		ret);
}

static int judge(struct outside *o, const siginfo_t *info)
{
	const char *effect = side_effect(o);

	if (info->si_code == CLD_EXITED && info->si_status == 255) {
		fprintf(stderr, "bazil-attack: the sandbox could not be entered\n");
		return 2;
	}
	if (effect) {
		printf("done: %s\n", effect);
		return 1;
	}
	if (info->si_code != CLD_EXITED) {
		printf("stopped: %s\n", info->si_status == SIGSYS ? "SIGSYS" : "another signal");
		return info->si_status == SIGSYS || info->si_status == SIGSEGV ? 0 : 2;
	}
	if (info->si_status == 0) {
		printf("done\n");
		return 1;
	}
	printf("stopped: %s\n", strerrorname_np(info->si_status));
	return 0;
}

static int outside(const struct role *role, unsigned attack, uint32_t without)
{
	struct outside o = { 0 };
	struct order order = { .profile = role->profile, .without = without, .attack = attack };
	struct spawned spawned;
	siginfo_t info = { 0 };
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		die("socketpair");
	make_files(&o);
	make_sockets(&o);
	make_victim(&o);
	gethostname(o.canaries.host, sizeof(o.canaries.host) - 1);
	order.canaries = o.canaries;
	r = spawn_inside(&o, role, without, fds[1], &spawned);
	if (r < 0) {
		errno = -r;
		die("spawn");
	}
	if (*spawned.missing)
		fprintf(stderr, "bazil-attack: %s\n", spawned.missing);
	if (send(fds[0], &order, sizeof(order), 0) < 0)
		die("send");
	send_fd(fds[0], o.dir_fd);
	if (waitid(P_PIDFD, spawned.pidfd, &info, WEXITED) < 0)
		die("waitid");
	r = judge(&o, &info);
	clean(&o);
	return r;
}

static int list(void)
{
	for (size_t i = 0; i < num_attacks; i++) {
		printf("%s %u", attacks[i].name, attacks[i].depth);
		for (size_t k = 0; k <= NUM_ROLES; k++)
			if (attacks[i].allowed & (1u << topology_roles[k].profile))
				printf(" %s", topology_roles[k].name);
		printf("\n");
	}
	return 0;
}

static uint32_t parse_layers(const char *text)
{
	uint32_t layers = 0;

	for (size_t i = 0; i < sizeof(layer_names) / sizeof(layer_names[0]); i++)
		if (strstr(text, layer_names[i].name))
			layers |= layer_names[i].layers;
	return layers;
}

int main(int argc, char **argv)
{
	const struct role *role;
	uint32_t without = 0;
	int at = 1;

	/* Else a line printed before a fork is printed twice. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2 && strcmp(argv[1], "--inside") == 0)
		return inside();
	if (argc == 2 && strcmp(argv[1], "--list") == 0)
		return list();
	if (argc > at && strncmp(argv[at], "--without=", 10) == 0)
		without = parse_layers(argv[at++] + 10);
	role = argc == at + 2 ? topology_find(argv[at]) : NULL;
	for (unsigned i = 0; role && i < num_attacks; i++)
		if (strcmp(attacks[i].name, argv[at + 1]) == 0)
			return outside(role, i, without);
	fprintf(stderr, "usage: bazil-attack [--without=LAYER,...] ROLE ATTACK | --list\n");
	return 2;
}
