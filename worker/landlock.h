/*
 * Landlock: the kernel refuses paths, TCP ports and signals for ever, whatever else goes wrong.
 *
 * The constants are our own: the kernel's header of the build machine may be older than the kernel
 * that runs. See Documentation/userspace-api/landlock.rst. What a kernel of a lower ABI does not
 * know is not asked for: ABI 1 files, 2 refer, 3 truncate, 4 TCP, 5 device ioctls, 6 signals and
 * abstract unix sockets.
 *
 * Needs no_new_privs (or CAP_SYS_ADMIN). After it mount(2) and pivot_root(2) are refused too.
 */
#ifndef BAZIL_WORKER_LANDLOCK_H
#define BAZIL_WORKER_LANDLOCK_H

#include <stdbool.h>
#include <stddef.h>

/* The kernel's ABI, or -errno: -ENOSYS not built in, -EOPNOTSUPP not switched on. */
int landlock_abi(void);

/* Everything beneath dir_fd (may be -1) may be read, written, made and removed, but not run. */
struct landlock_plan {
	int dir_fd;
	const int *readable; /* directories and files that may be read */
	size_t num_readable;
	bool may_connect; /* TCP connect() stays allowed */
};

/* Returns the ABI used, or -errno. */
int landlock_enter(const struct landlock_plan *plan);

#endif
