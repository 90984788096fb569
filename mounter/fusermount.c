#include "mounter/fusermount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mounter/mountpoint.h"
#include "worker/scope.h"

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

#define TIMEOUT_MS 10000

/* The child's fixed descriptors. */
#define COMM_FD 3

struct child {
	pid_t pid;
	int comm; /* -1 for unmounting */
	int errors;
};

/* Only where root installs programs: never along a PATH that the user chose. */
static const char *program(void)
{
	static const char *const paths[] = { "/usr/bin/fusermount3", "/bin/fusermount3" };

	for (size_t i = 0; i < 2; i++)
		if (access(paths[i], X_OK) == 0)
			return paths[i];
	return NULL;
}

static void clean_name(char *ret, size_t size, const char *name)
{
	size_t n = 0;

	for (; *name && n + 1 < size; name++) {
		bool plain = (*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
			     (*name >= '0' && *name <= '9') || strchr("._-", *name);
		ret[n++] = plain ? *name : '_';
	}
	ret[n] = '\0';
}

static void exec_child(const char *path, const char *const argv[], int comm, int errors)
{
	static const char *const env[] = { "_FUSE_COMMFD=3", "PATH=/usr/bin:/bin", "LC_ALL=C",
		NULL };
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	/* Both above the numbers that they are moved to, so that neither overwrites the other. */
	comm = comm < 0 ? -1 : fcntl(comm, F_DUPFD_CLOEXEC, 10);
	errors = fcntl(errors, F_DUPFD_CLOEXEC, 10);
	dup2(errors, 1);
	dup2(errors, 2);
	if (comm >= 0)
		dup2(comm, COMM_FD);
	close_range(comm >= 0 ? COMM_FD + 1 : COMM_FD, ~0u, 0);
	execve(path, (char *const *)argv, (char *const *)env);
	_exit(127);
}

static int start(struct child *c, const char *const argv[], bool with_comm)
{
	_cleanup_(closep) int comm = -1, errors = -1;
	int pair[2], pipes[2];

	c->comm = -1;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	c->errors = pipes[0];
	errors = pipes[1];
	if (with_comm && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
		c->comm = pair[0];
		comm = pair[1];
	}
	c->pid = fork();
	if (c->pid == 0)
		exec_child(argv[0], argv, comm, errors);
	return c->pid < 0 ? -errno : 0;
}

/* The descriptor that fusermount3 sends; -errno when it ends or stalls without one. */
static int receive_fd(int comm)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	struct pollfd p = { .fd = comm, .events = POLLIN };
	struct cmsghdr *cmsg;
	ssize_t n;
	int fd;

	if (poll(&p, 1, TIMEOUT_MS) <= 0)
		return -ETIMEDOUT;
	n = recvmsg(comm, &msg, MSG_CMSG_CLOEXEC);
	cmsg = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS || cmsg->cmsg_len != CMSG_LEN(sizeof(int)))
		return -EIO;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

/* What it printed, as one line without its own name, into why; "" when it said nothing. */
static void read_errors(int fd, char why[FUSERMOUNT_WHY])
{
	size_t n = 0;
	char *text;

	while (n + 1 < FUSERMOUNT_WHY) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t got =
			poll(&p, 1, TIMEOUT_MS) > 0 ? read(fd, why + n, FUSERMOUNT_WHY - 1 - n) : 0;

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	why[n] = '\0';
	why[strcspn(why, "\n")] = '\0';
	/* "/usr/bin/fusermount3: text" */
	text = strstr(why, "fusermount3: ");
	if (text)
		memmove(why, text + 13, strlen(text + 13) + 1);
}

/* Reaps the child; 0 when it succeeded. One that does not end is killed: it is stuck in a dead
 * mount. */
static int finish(struct child *c)
{
	int status = -1;

	for (int ms = 0; waitpid(c->pid, &status, WNOHANG) == 0; ms += 10) {
		if (ms == TIMEOUT_MS)
			kill(c->pid, SIGKILL);
		usleep(10 * 1000);
	}
	if (c->comm >= 0)
		close(c->comm);
	close(c->errors);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

static int check_installed(char why[FUSERMOUNT_WHY])
{
	struct stat st;

	if (!program()) {
		snprintf(why, FUSERMOUNT_WHY,
			"the program fusermount3 is missing: install the package fuse3");
		return -ENOENT;
	}
	if (stat("/dev/fuse", &st) < 0 || !S_ISCHR(st.st_mode)) {
		snprintf(why, FUSERMOUNT_WHY,
			"/dev/fuse is missing: load the kernel module with `modprobe fuse`, or "
			"give the "
			"container this device");
		return -ENODEV;
	}
	if (access("/dev/fuse", R_OK | W_OK) < 0) {
		snprintf(why, FUSERMOUNT_WHY,
			"/dev/fuse: %s: its mode should be 0666: ask root for `chmod 0666 "
			"/dev/fuse`",
			strerror(errno));
		return -EACCES;
	}
	return 0;
}

static bool is_in_fuse(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC;
}

int fusermount_mount(const char *path, const char *volume, bool read_only, bool allow_other,
	int *ret_fuse, char why[FUSERMOUNT_WHY])
{
	char name[65], options[256];
	const char *argv[] = { NULL, "-o", options, "--", path, NULL };
	struct child c;
	int fd, r = check_installed(why);

	if (r < 0)
		return r;
	clean_name(name, sizeof(name), volume);
	snprintf(options, sizeof(options),
		"fsname=bazil:%s,subtype=bazil,default_permissions,nosuid,nodev%s%s", name,
		read_only ? ",ro" : ",rw", allow_other ? ",allow_other" : "");
	argv[0] = program();
	r = start(&c, argv, true);
	if (r < 0) {
		snprintf(why, FUSERMOUNT_WHY, "fusermount3: %s", strerror(-r));
		return r;
	}
	fd = receive_fd(c.comm);
	read_errors(c.errors, why);
	r = finish(&c);
	if (fd >= 0 && r == 0) {
		*ret_fuse = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	if (is_in_fuse(path))
		snprintf(why, FUSERMOUNT_WHY,
			"it is in a FUSE mount, where fusermount3 may not look: give a directory "
			"outside");
	else if (!*why)
		snprintf(why, FUSERMOUNT_WHY, "fusermount3 failed: try `fusermount3 -o ro -- %s`",
			path);
	return -EIO;
}

int fusermount_unmount(const char *path, bool lazy, char why[FUSERMOUNT_WHY])
{
	const char *argv[] = { NULL, lazy ? "-uz" : "-u", "--", path, NULL };
	struct child c;
	int r;

	if (!mountpoint_mounted(path)) {
		snprintf(why, FUSERMOUNT_WHY, "nothing is mounted there");
		return -ENOENT;
	}
	argv[0] = program();
	if (!argv[0])
		return check_installed(why);
	r = start(&c, argv, false);
	if (r < 0) {
		snprintf(why, FUSERMOUNT_WHY, "fusermount3: %s", strerror(-r));
		return r;
	}
	read_errors(c.errors, why);
	r = finish(&c);
	if (r == 0)
		return 0;
	if (strstr(why, "busy"))
		return -EBUSY;
	if (!*why)
		snprintf(why, FUSERMOUNT_WHY, "fusermount3 -u failed");
	return r;
}
