#include "worker/profiles.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* int arguments: the upper half of the register is not defined by the ABI. */
#define INT UINT64_C(0xffffffff)

#define CALL(x)		       .call = SCMP_SYS(x)
#define ARG(n, m, v)	       .cond = { { .arg = (n), .mask = (m), .value = (v) } }
#define ARGS(n, m, v, o, p, w) .cond = { { (n), (m), (v) }, { (o), (p), (w) } }
#define RULES(t)                                                                                   \
	{                                                                                          \
		.rule = (t), .num = sizeof(t) / sizeof((t)[0])                                     \
	}

#define CLONE_ANY_NS                                                                               \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
		CLONE_NEWPID | CLONE_NEWNET)

/* What libc, libev and the channels need in every process. */
static const struct sandbox_rule common[] = {
	{ CALL(read) },
	{ CALL(write) },
	{ CALL(readv) },
	{ CALL(writev) },
	{ CALL(recvmsg) },
	{ CALL(sendmsg) },
	{ CALL(recvfrom) },
	/* With an address it could reach other sockets than the connected one. */
	{ CALL(sendto), ARG(5, ~UINT64_C(0), 0) },
	{ CALL(epoll_create1) },
	{ CALL(epoll_ctl) },
	{ CALL(epoll_wait) },
	{ CALL(epoll_pwait) },
	{ CALL(poll) },
	{ CALL(ppoll) },
	{ CALL(eventfd2) },
	{ CALL(pipe2) },
	{ CALL(dup) },
	{ CALL(close) },
	{ CALL(close_range) },
	{ CALL(lseek) },
	{ CALL(futex) },
	{ CALL(brk) },
	/* No memory is ever both written and run; file mappings cannot be run either. */
	{ CALL(mmap), ARG(3, PROT_EXEC, 0) },
	{ CALL(mprotect), ARG(3, PROT_EXEC, 0) },
	{ CALL(munmap) },
	{ CALL(mremap) },
	{ CALL(madvise) },
	{ CALL(mlock) },
	{ CALL(munlock) },
	{ CALL(clock_gettime) },
	{ CALL(clock_getres) },
	{ CALL(clock_nanosleep) },
	{ CALL(nanosleep) },
	{ CALL(gettimeofday) },
	{ CALL(time) },
	{ CALL(getrandom) },
	{ CALL(sched_yield) },
	{ CALL(sched_getaffinity) },
	{ CALL(getcpu) },
	{ CALL(rt_sigreturn) },
	{ CALL(rt_sigprocmask) },
	{ CALL(rt_sigaction) },
	{ CALL(sigaltstack) },
	{ CALL(restart_syscall) },
	{ CALL(getpid) },
	{ CALL(gettid) },
	{ CALL(getuid) },
	{ CALL(getgid) },
	{ CALL(geteuid) },
	{ CALL(getegid) },
	/* abort() and pthread_kill() of ourselves. */
	{ CALL(tgkill), ARG(1, INT, SANDBOX_OWN_PID) },
	/* glibc gives up a new thread when they fail there and did not in the first one. */
	{ CALL(rseq) },
	{ CALL(set_robust_list) },
	{ CALL(exit) },
	{ CALL(exit_group) },
	{ CALL(prctl), ARG(1, INT, PR_SET_NAME) },
	{ CALL(fcntl), ARG(2, INT, F_GETFD) },
	{ CALL(fcntl), ARG(2, INT, F_SETFD) },
	{ CALL(fcntl), ARG(2, INT, F_GETFL) },
	{ CALL(fcntl), ARG(2, INT, F_SETFL) },
	{ CALL(fcntl), ARG(2, INT, F_DUPFD_CLOEXEC) },
	{ CALL(fcntl), ARG(2, INT, F_GET_SEALS) },
	{ CALL(fstat) },
	/* fstat() of glibc. A path beside it would still be looked up in the role's own root. */
	{ CALL(newfstatat), ARG(4, AT_EMPTY_PATH, AT_EMPTY_PATH) },
	{ CALL(getsockopt) },
	{ CALL(setsockopt), ARGS(2, INT, SOL_SOCKET, 3, INT, SO_SNDBUF) },
	{ CALL(setsockopt), ARGS(2, INT, SOL_SOCKET, 3, INT, SO_RCVBUF) },
	{ CALL(ioctl), ARG(2, INT, FIONREAD) },
	{ CALL(ioctl), ARG(2, INT, FIONBIO) },

	/* glibc takes clone() when there is no clone3(), whose flags no filter can see. */
	{ CALL(clone3), .answer = ENOSYS },
	{ CALL(ioctl), .answer = ENOTTY, ARG(2, INT, TCGETS) },
	{ CALL(uname), .answer = EPERM },
	{ CALL(sysinfo), .answer = EPERM },
	{ CALL(getrusage), .answer = EPERM },
	{ CALL(prlimit64), .answer = EPERM },
	{ CALL(membarrier), .answer = EPERM },
	{ CALL(readlink), .answer = EACCES },
	{ CALL(access), .answer = EACCES },
};

/* Libraries try files and do without: of roles that have none. */
static const struct sandbox_rule no_files[] = {
	{ CALL(open), .answer = EACCES },
	{ CALL(openat), .answer = EACCES },
	{ CALL(newfstatat), .answer = EACCES, ARG(4, AT_EMPTY_PATH, 0) },
	{ CALL(stat), .answer = EACCES },
	{ CALL(lstat), .answer = EACCES },
	{ CALL(statx), .answer = EACCES },
	{ CALL(faccessat), .answer = EACCES },
	{ CALL(faccessat2), .answer = EACCES },
};

/* In the role's directory, which is its root: keyd, stored. */
static const struct sandbox_rule own_files[] = {
	{ CALL(open) },
	{ CALL(openat) },
	{ CALL(newfstatat), ARG(4, AT_EMPTY_PATH, 0) },
	{ CALL(stat) },
	{ CALL(lstat) },
	{ CALL(statx) },
	{ CALL(faccessat) },
	{ CALL(faccessat2) },
	{ CALL(statfs) },
	{ CALL(fstatfs) },
	{ CALL(pread64) },
	{ CALL(pwrite64) },
	{ CALL(preadv) },
	{ CALL(pwritev) },
	{ CALL(preadv2) },
	{ CALL(pwritev2) },
	{ CALL(fsync) },
	{ CALL(fdatasync) },
	{ CALL(ftruncate) },
	{ CALL(getdents64) },
	{ CALL(unlink) },
	{ CALL(unlinkat) },
	{ CALL(rename) },
	{ CALL(renameat) },
	{ CALL(renameat2) },
	{ CALL(linkat) },
	{ CALL(mkdirat) },
	{ CALL(fchmod), ARG(2, S_ISUID | S_ISGID, 0) },
	{ CALL(umask) },
	{ CALL(flock) },
	{ CALL(fadvise64) },
};

/* The index and the arenas: stored. */
static const struct sandbox_rule store_files[] = {
	{ CALL(fallocate) },
	{ CALL(sync_file_range) },
	{ CALL(copy_file_range) },
	{ CALL(msync) },
	{ CALL(mincore) },
	/* LMDB: its lock file, its reader table. */
	{ CALL(fcntl), ARG(2, INT, F_GETLK) },
	{ CALL(fcntl), ARG(2, INT, F_SETLK) },
	{ CALL(fcntl), ARG(2, INT, F_SETLKW) },
	{ CALL(fcntl), ARG(2, INT, F_OFD_SETLK) },
};

/* mountd: the kernel's connection, sealed arenas, the memory that outlives it. */
static const struct sandbox_rule mount_files[] = {
	{ CALL(pread64) },
	{ CALL(pwrite64) },
	{ CALL(preadv) },
	{ CALL(pwritev) },
	{ CALL(fallocate) },
	{ CALL(dup2) },
	{ CALL(dup3) },
	{ CALL(kill), ARG(1, INT, SANDBOX_OWN_PID) },
	{ CALL(umask) },
	/* libfuse would like larger pipes for splice, which we do not use. */
	{ CALL(fcntl), .answer = EPERM, ARG(2, INT, F_SETPIPE_SZ) },
	/* Of the state memfd: there is one mountd for a mount at a time. */
	{ CALL(fcntl), ARG(2, INT, F_SETLK) },
};

static const struct sandbox_rule threads[] = {
	{ CALL(clone), ARG(1, CLONE_THREAD | CLONE_VM | CLONE_SIGHAND | CLONE_ANY_NS,
			       CLONE_THREAD | CLONE_VM | CLONE_SIGHAND) },
	{ CALL(set_tid_address) },
};

/* syncd: peers that were accepted, or connected by the dialer. */
static const struct sandbox_rule peers[] = {
	{ CALL(accept4) },
	{ CALL(shutdown) },
	{ CALL(getpeername) },
	{ CALL(getsockname) },
	{ CALL(setsockopt), ARGS(2, INT, SOL_SOCKET, 3, INT, SO_KEEPALIVE) },
	{ CALL(setsockopt), ARGS(2, INT, SOL_SOCKET, 3, INT, SO_LINGER) },
	{ CALL(setsockopt), ARG(2, INT, IPPROTO_TCP) },
};

/* dialer: names become addresses, addresses become sockets. */
static const struct sandbox_rule dial[] = {
	{ CALL(socket), ARGS(1, INT, AF_INET, 2, 0xf, SOCK_STREAM) },
	{ CALL(socket), ARGS(1, INT, AF_INET6, 2, 0xf, SOCK_STREAM) },
	{ CALL(socket), ARGS(1, INT, AF_INET, 2, 0xf, SOCK_DGRAM) },
	{ CALL(socket), ARGS(1, INT, AF_INET6, 2, 0xf, SOCK_DGRAM) },
	/* The resolver does without the name service daemons and without the list of interfaces. */
	{ CALL(socket), .answer = EACCES, ARG(1, INT, AF_UNIX) },
	{ CALL(socket), .answer = EACCES, ARG(1, INT, AF_NETLINK) },
	{ CALL(connect) },
	{ CALL(sendto) },
	{ CALL(sendmmsg) },
	{ CALL(getpeername) },
	{ CALL(getsockname) },
	{ CALL(setsockopt) },
	{ CALL(open), ARG(2, O_ACCMODE, O_RDONLY) },
	{ CALL(openat), ARG(3, O_ACCMODE, O_RDONLY) },
	{ CALL(open), .answer = EACCES, ARG(2, O_WRONLY, O_WRONLY) },
	{ CALL(open), .answer = EACCES, ARG(2, O_RDWR, O_RDWR) },
	{ CALL(openat), .answer = EACCES, ARG(3, O_WRONLY, O_WRONLY) },
	{ CALL(openat), .answer = EACCES, ARG(3, O_RDWR, O_RDWR) },
	{ CALL(newfstatat), ARG(4, AT_EMPTY_PATH, 0) },
	{ CALL(stat) },
	{ CALL(lstat) },
	{ CALL(statx) },
	{ CALL(pread64) },
	{ CALL(faccessat) },
	{ CALL(faccessat2) },
	/* A name service module cannot be loaded any more: the resolver takes the next service. */
	{ CALL(mmap), .answer = EACCES, ARG(3, PROT_EXEC, PROT_EXEC) },
	{ CALL(mprotect), .answer = EACCES, ARG(3, PROT_EXEC, PROT_EXEC) },
};

#define MIB ((rlim_t)1 << 20)
#define NO_CORE                                                                                    \
	{                                                                                          \
		RLIMIT_CORE, 0, false                                                              \
	}
#define NO_PROCESS                                                                                 \
	{                                                                                          \
		RLIMIT_NPROC, 0, false                                                             \
	}
#define END                                                                                        \
	{                                                                                          \
		-1, 0, false                                                                       \
	}

#define WALLED ((uint32_t)SANDBOX_ALL)

static const struct sandbox_table tables[SANDBOX_NUM_PROFILES] = {
	[SANDBOX_KEYD] = {
		.name = "keyd",
		.layers = WALLED,
		.files = SANDBOX_OWN_DIR,
		.rules = { RULES(common), RULES(own_files) },
		.limits = { NO_CORE, NO_PROCESS, { RLIMIT_NOFILE, 256, false },
			{ RLIMIT_FSIZE, 16 * MIB, false }, { RLIMIT_DATA, 512 * MIB, true }, END },
	},
	[SANDBOX_STORED] = {
		.name = "stored",
		.layers = WALLED,
		.files = SANDBOX_OWN_DIR,
		.rules = { RULES(common), RULES(own_files), RULES(store_files), RULES(threads) },
		.limits = { NO_CORE, { RLIMIT_NOFILE, 4096, false },
			{ RLIMIT_DATA, 2048 * MIB, true }, END },
	},
	[SANDBOX_MOUNTD] = {
		.name = "mountd",
		.layers = WALLED,
		.files = SANDBOX_NO_FILES,
		.rules = { RULES(common), RULES(no_files), RULES(mount_files), RULES(threads) },
		.limits = { NO_CORE, { RLIMIT_NOFILE, 4096, false },
			{ RLIMIT_FSIZE, 1024 * MIB, false }, { RLIMIT_DATA, 1024 * MIB, true }, END },
	},
	[SANDBOX_SYNCD] = {
		.name = "syncd",
		.layers = WALLED,
		.files = SANDBOX_NO_FILES,
		.rules = { RULES(common), RULES(no_files), RULES(peers) },
		.limits = { NO_CORE, NO_PROCESS, { RLIMIT_NOFILE, 1024, false },
			{ RLIMIT_FSIZE, 0, false }, { RLIMIT_DATA, 1024 * MIB, true }, END },
	},
	[SANDBOX_DIALER] = {
		.name = "dialer",
		.layers = WALLED & ~SANDBOX_NET_NS,
		.files = SANDBOX_RESOLVER,
		.may_connect = true,
		.rules = { RULES(common), RULES(dial), RULES(threads) },
		.limits = { NO_CORE, { RLIMIT_NOFILE, 256, false }, { RLIMIT_FSIZE, 0, false },
			{ RLIMIT_DATA, 256 * MIB, true }, END },
	},
	[SANDBOX_MOUNTER] = {
		.name = "mounter",
		.layers = SANDBOX_NOT_DUMPABLE | SANDBOX_RLIMITS,
		.files = SANDBOX_ANY_FILES,
		.limits = { NO_CORE, { RLIMIT_NOFILE, 64, false }, END },
	},
};

const struct sandbox_table *sandbox_table(enum sandbox_profile profile)
{
	return &tables[profile];
}
