#include "worker/landlock.h"

#include <errno.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/scope.h"

#define CREATE_RULESET 444
#define ADD_RULE       445
#define RESTRICT_SELF  446

#define RULE_PATH_BENEATH      1
#define CREATE_RULESET_VERSION 1

enum {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_REMOVE_DIR = 1 << 4,
	FS_REMOVE_FILE = 1 << 5,
	FS_MAKE_CHAR = 1 << 6,
	FS_MAKE_DIR = 1 << 7,
	FS_MAKE_REG = 1 << 8,
	FS_MAKE_SOCK = 1 << 9,
	FS_MAKE_FIFO = 1 << 10,
	FS_MAKE_BLOCK = 1 << 11,
	FS_MAKE_SYM = 1 << 12,
	FS_REFER = 1 << 13,
	FS_TRUNCATE = 1 << 14,
	FS_IOCTL_DEV = 1 << 15,
};

#define NET_BIND_TCP	    (1 << 0)
#define NET_CONNECT_TCP	    (1 << 1)
#define SCOPE_ABSTRACT_UNIX (1 << 0)
#define SCOPE_SIGNAL	    (1 << 1)

struct ruleset {
	uint64_t fs;
	uint64_t net;	/* ABI 4 */
	uint64_t scope; /* ABI 6 */
};

struct path_beneath {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

int landlock_abi(void)
{
	int r = syscall(CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);

	return r < 0 ? -errno : r;
}

/* All file rights that this ABI knows: what a ruleset handles, it denies but for the rules. */
static uint64_t fs_rights(int abi)
{
	uint64_t all = FS_REFER - 1;

	if (abi >= 2)
		all |= FS_REFER;
	if (abi >= 3)
		all |= FS_TRUNCATE;
	if (abi >= 5)
		all |= FS_IOCTL_DEV;
	return all;
}

static int add_path(int ruleset, int fd, uint64_t allowed)
{
	struct path_beneath rule = { .allowed = allowed, .fd = fd };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	/* The kernel refuses rights of directories on a file. */
	if (!S_ISDIR(st.st_mode))
		rule.allowed &= FS_READ_FILE | FS_WRITE_FILE | FS_TRUNCATE;
	if (syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0)
		return -errno;
	return 0;
}

static int add_rules(int ruleset, const struct landlock_plan *plan, uint64_t handled)
{
	const uint64_t own = FS_WRITE_FILE | FS_READ_FILE | FS_READ_DIR | FS_REMOVE_DIR |
			     FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_REFER | FS_TRUNCATE;
	int r = 0;

	if (plan->dir_fd >= 0)
		r = add_path(ruleset, plan->dir_fd, own & handled);
	for (size_t i = 0; r == 0 && i < plan->num_readable; i++)
		r = add_path(ruleset, plan->readable[i], FS_READ_FILE | FS_READ_DIR);
	return r;
}

int landlock_enter(const struct landlock_plan *plan)
{
	int abi = landlock_abi(), r;
	_cleanup_(closep) int fd = -1;
	struct ruleset set = { 0 };
	size_t size = sizeof(set.fs);

	if (abi < 0)
		return abi;
	set.fs = fs_rights(abi);
	if (abi >= 4) {
		set.net = NET_BIND_TCP | (plan->may_connect ? 0 : NET_CONNECT_TCP);
		size = offsetof(struct ruleset, scope);
	}
	if (abi >= 6) {
		set.scope = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
		size = sizeof(set);
	}
	fd = syscall(CREATE_RULESET, &set, size, 0);
	if (fd < 0)
		return -errno;
	r = add_rules(fd, plan, set.fs);
	if (r < 0)
		return r;
	if (syscall(RESTRICT_SELF, fd, 0) < 0)
		return -errno;
	return abi;
}
