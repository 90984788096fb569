#include "attacks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/sandbox.h"

#define RESULT(x) ((x) < 0 ? -errno : 0)
#define BIT(role) (1u << (role))

static int in_dir(char path[128], const struct canaries *c, const char *name)
{
	return snprintf(path, 128, "%s/%s", c->dir, name);
}

/* Files. */

static int read_file(const struct canaries *c)
{
	char path[128], byte;
	int fd;

	in_dir(path, c, "secret");
	fd = open(path, O_RDONLY);
	return fd < 0 ? -errno : RESULT(read(fd, &byte, 1));
}

static int write_file(const struct canaries *c)
{
	char path[128];

	in_dir(path, c, "secret");
	int fd = open(path, O_WRONLY | O_TRUNC);

	return fd < 0 ? -errno : RESULT(write(fd, "x", 1));
}

static int make_file(const struct canaries *c)
{
	char path[128];

	in_dir(path, c, "made");
	return RESULT(open(path, O_CREAT | O_WRONLY, 0600));
}

static int remove_file(const struct canaries *c)
{
	char path[128];

	in_dir(path, c, "secret");
	return RESULT(unlink(path));
}

static int list_dir(const struct canaries *c)
{
	char buf[1024];
	int fd = open(c->dir, O_RDONLY | O_DIRECTORY);

	return fd < 0 ? -errno : RESULT(syscall(SYS_getdents64, fd, buf, sizeof(buf)));
}

/* From the role's own directory, or the working directory, up and down again. */
static int dot_dot(const struct canaries *c)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "../../../../../../../..%s/secret", c->dir);
	return RESULT(
		openat(fstat(4, &st) == 0 && S_ISDIR(st.st_mode) ? 4 : AT_FDCWD, path, O_RDONLY));
}

/* bazil-attack sends the canaries' directory over fd 3: a descriptor that was leaked to a worker.
 */
static int leaked_directory(const struct canaries *c)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg;
	int fd;

	if (recvmsg(3, &msg, 0) < 0)
		return -errno;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg)
		return -EBADF;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	fd = openat(fd, "secret", O_RDONLY);
	return fd < 0 ? -errno : RESULT(read(fd, &byte, 1));
}

static int own_memory_file(const struct canaries *c)
{
	return RESULT(open("/proc/self/mem", O_RDWR));
}

static int device(const struct canaries *c)
{
	char path[128];

	in_dir(path, c, "device");
	return RESULT(mknod(path, S_IFCHR | 0600, 0x103));
}

static int link_file(const struct canaries *c)
{
	char path[128];

	in_dir(path, c, "link");
	return RESULT(symlink("secret", path));
}

static int setuid_file(const struct canaries *c)
{
	int fd = open(".", O_RDWR | O_TMPFILE, 0600);

	if (fd < 0)
		fd = openat(4, "setuid", O_CREAT | O_RDWR, 0600);
	return fd < 0 ? -errno : RESULT(fchmod(fd, 04755));
}

static int by_handle(const struct canaries *c)
{
	struct {
		struct file_handle h;
		unsigned char bytes[MAX_HANDLE_SZ];
	} f = { .h.handle_bytes = MAX_HANDLE_SZ };
	char path[128];
	int mount, dir;

	in_dir(path, c, "secret");
	if (name_to_handle_at(AT_FDCWD, path, &f.h, &mount, 0) < 0)
		return -errno;
	dir = open(c->dir, O_RDONLY);
	return RESULT(open_by_handle_at(dir, &f.h, O_RDONLY));
}

/* Code. */

static int map_code(const struct canaries *c)
{
	void *p = mmap(
		NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? -errno : 0;
}

static int make_code(const struct canaries *c)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return RESULT(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

/* Succeeds by becoming true(1): its status 0 counts as done. */
static int run_program(const struct canaries *c)
{
	execl("/usr/bin/true", "true", (char *)NULL);
	return -errno;
}

static int memory_file(const struct canaries *c)
{
	return RESULT(memfd_create("x", 0));
}

static int new_process(const struct canaries *c)
{
	const long pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
	return RESULT(pid);
}

static int new_process_by_fork(const struct canaries *c)
{
#ifdef SYS_fork
	const long pid = syscall(SYS_fork);
#else
	const long pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
#endif

	if (pid == 0)
		_exit(0);
	return RESULT(pid);
}

/* The numbers of the 32-bit interface mean other calls: a filter that forgot it would be blind. */
static int other_abi(const struct canaries *c)
{
#ifdef __x86_64__
	long r;

	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
	return r == getpid() ? 0 : -ENOSYS;
#else
	return -ENOSYS;
#endif
}

static int x32_abi(const struct canaries *c)
{
	return RESULT(syscall(0x40000000 + SYS_getpid));
}

/* Namespaces and privileges. */

static int user_namespace(const struct canaries *c)
{
	return RESULT(unshare(CLONE_NEWUSER));
}

static int process_in_namespace(const struct canaries *c)
{
	const long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
	return RESULT(pid);
}

static int enter_namespace(const struct canaries *c)
{
	int fd = open("/proc/self/ns/uts", O_RDONLY);

	return fd < 0 ? -errno : RESULT(setns(fd, 0));
}

static int mount_tmpfs(const struct canaries *c)
{
	return RESULT(mount("none", c->dir, "tmpfs", 0, NULL));
}

static int open_file_system(const struct canaries *c)
{
	return RESULT(syscall(SYS_fsopen, "tmpfs", 0));
}

static int change_root(const struct canaries *c)
{
	return RESULT(chroot("/"));
}

static int other_user(const struct canaries *c)
{
	return RESULT(syscall(SYS_setresuid, 1, 1, 1));
}

static int host_name(const struct canaries *c)
{
	return RESULT(sethostname(c->host, strlen(c->host)));
}

/* The network. */

static int tcp_connect(const struct canaries *c)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons(c->tcp),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return fd < 0 ? -errno : RESULT(connect(fd, (struct sockaddr *)&to, sizeof(to)));
}

static int udp_send(const struct canaries *c)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons(c->udp),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	return fd < 0 ? -errno : RESULT(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)));
}

static int tcp_listen(const struct canaries *c)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		return -errno;
	return RESULT(listen(fd, 1));
}

static int unix_path(const struct canaries *c)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(to.sun_path, sizeof(to.sun_path), "%s/socket", c->dir);
	return fd < 0 ? -errno : RESULT(connect(fd, (struct sockaddr *)&to, sizeof(to)));
}

static int unix_abstract(const struct canaries *c)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	const size_t len = strlen(c->abstract);

	memcpy(to.sun_path + 1, c->abstract, len);
	return fd < 0 ? -errno
		      : RESULT(connect(fd, (struct sockaddr *)&to,
				offsetof(struct sockaddr_un, sun_path) + 1 + len));
}

static int netlink(const struct canaries *c)
{
	return RESULT(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int raw_packets(const struct canaries *c)
{
	return RESULT(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

static int vsock(const struct canaries *c)
{
	return RESULT(socket(40, SOCK_STREAM, 0));
}

/* Other processes. */

static int trace(const struct canaries *c)
{
	return RESULT(ptrace(PTRACE_SEIZE, c->victim, NULL, NULL));
}

static int read_memory(const struct canaries *c)
{
	uint64_t word;
	struct iovec to = { &word, sizeof(word) }, from = { (void *)c->word, sizeof(word) };

	return RESULT(process_vm_readv(c->victim, &to, 1, &from, 1, 0));
}

static int write_memory(const struct canaries *c)
{
	uint64_t word = 666;
	struct iovec from = { &word, sizeof(word) }, to = { (void *)c->word, sizeof(word) };

	return RESULT(process_vm_writev(c->victim, &from, 1, &to, 1, 0));
}

static int take_descriptor(const struct canaries *c)
{
	int fd = (int)syscall(SYS_pidfd_open, c->victim, 0);

	return fd < 0 ? -errno : RESULT(syscall(SYS_pidfd_getfd, fd, 0, 0));
}

static int kill_process(const struct canaries *c)
{
	return RESULT(kill(c->victim, SIGKILL));
}

static int kill_everybody(const struct canaries *c)
{
	return RESULT(kill(-1, 0));
}

static int shared_memory(const struct canaries *c)
{
	int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);

	if (id < 0)
		return -errno;
	shmctl(id, IPC_RMID, NULL);
	return 0;
}

/* Large parts of the kernel. */

static int io_uring(const struct canaries *c)
{
	struct io_uring_params p = { 0 };

	return RESULT(syscall(SYS_io_uring_setup, 1, &p));
}

static int bpf(const struct canaries *c)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1
	};

	return RESULT(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)));
}

static int perf(const struct canaries *c)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_TASK_CLOCK
	};

	return RESULT(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
}

static int page_faults(const struct canaries *c)
{
	return RESULT(syscall(SYS_userfaultfd, 0));
}

static int kernel_keys(const struct canaries *c)
{
	return RESULT(syscall(SYS_add_key, "user", "bazil-attack", "x", 1, -2));
}

static int no_randomisation(const struct canaries *c)
{
	return RESULT(personality(ADDR_NO_RANDOMIZE));
}

static int be_dumpable(const struct canaries *c)
{
	return RESULT(prctl(PR_SET_DUMPABLE, 1));
}

static int raise_limits(const struct canaries *c)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	return RESULT(setrlimit(RLIMIT_CORE, &limit));
}

static int another_filter(const struct canaries *c)
{
	return RESULT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static int type_ahead(const struct canaries *c)
{
	/* TIOCSTI on what is no terminal is ENOTTY: without a filter the call itself goes through.
	 */
	const int r = RESULT(ioctl(0, 0x5412, "x"));

	return r == -ENOTTY || r == -EIO ? 0 : r;
}

#define DIALER BIT(SANDBOX_DIALER)

const struct attack attacks[] = {
	{ "read-file", read_file, 0, 2 },
	{ "write-file", write_file, 0, 2 },
	{ "make-file", make_file, 0, 2 },
	{ "remove-file", remove_file, 0, 2 },
	{ "list-directory", list_dir, 0, 2 },
	{ "dot-dot", dot_dot, 0, 2 },
	{ "leaked-directory", leaked_directory, 0, 1 },
	{ "own-memory-file", own_memory_file, 0, 2 },
	{ "device", device, 0, 2 },
	{ "link", link_file, 0, 2 },
	{ "setuid-file", setuid_file, 0, 1 },
	{ "by-handle", by_handle, 0, 2 },
	{ "map-code", map_code, 0, 1 },
	{ "make-code", make_code, 0, 1 },
	{ "run-program", run_program, 0, 1 },
	{ "memory-file", memory_file, 0, 1 },
	{ "new-process", new_process, 0, 1 },
	{ "fork", new_process_by_fork, 0, 1 },
	{ "other-abi", other_abi, 0, 1 },
	{ "x32-abi", x32_abi, 0, 1 },
	{ "user-namespace", user_namespace, 0, 1 },
	{ "process-in-namespace", process_in_namespace, 0, 1 },
	{ "enter-namespace", enter_namespace, 0, 2 },
	{ "mount", mount_tmpfs, 0, 2 },
	{ "open-file-system", open_file_system, 0, 2 },
	{ "change-root", change_root, 0, 2 },
	{ "other-user", other_user, 0, 2 },
	{ "host-name", host_name, 0, 2 },
	{ "tcp-connect", tcp_connect, DIALER, 2 },
	{ "udp-send", udp_send, DIALER, 2 },
	{ "tcp-listen", tcp_listen, 0, 1 },
	{ "unix-path", unix_path, 0, 2 },
	{ "unix-abstract", unix_abstract, 0, 2 },
	{ "netlink", netlink, 0, 1 },
	{ "raw-packets", raw_packets, 0, 2 },
	{ "vsock", vsock, 0, 1 },
	{ "trace", trace, 0, 2 },
	{ "read-memory", read_memory, 0, 2 },
	{ "write-memory", write_memory, 0, 2 },
	{ "take-descriptor", take_descriptor, 0, 2 },
	{ "kill", kill_process, 0, 2 },
	{ "kill-everybody", kill_everybody, 0, 1 },
	{ "shared-memory", shared_memory, 0, 1 },
	{ "io-uring", io_uring, 0, 1 },
	{ "bpf", bpf, 0, 1 },
	{ "perf", perf, 0, 1 },
	{ "page-faults", page_faults, 0, 1 },
	{ "kernel-keys", kernel_keys, 0, 1 },
	{ "no-randomisation", no_randomisation, 0, 1 },
	{ "be-dumpable", be_dumpable, 0, 1 },
	{ "raise-limits", raise_limits, 0, 2 },
	{ "prctl", another_filter, 0, 1 },
	{ "type-ahead", type_ahead, 0, 1 },
};
const size_t num_attacks = sizeof(attacks) / sizeof(attacks[0]);
