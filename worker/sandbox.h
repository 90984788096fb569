/*
 * The walls around a worker. sandbox_enter() gives up, for ever, everything that the role does not
 * need; it is called once, by worker_run(), before anything untrusted is heard.
 *
 * In this order, each needed by the next or forbidden by it: not dumpable; no core, limits; an
 * empty read-only root, or the role's one directory as the root; no capabilities, none to be had;
 * no_new_privs; Landlock, as much of it as the kernel has; a seccomp allow-list with filters on
 * arguments, whose default is to kill the process. Namespaces are made by the supervisor when it
 * clones (supervisor/spawn.h).
 *
 * A layer that the kernel refuses is left out and named in sandbox_report.missing, never silently:
 * `bazil server status` shows it. Only a layer that every Linux has (no_new_privs, seccomp,
 * limits, not dumpable) makes sandbox_enter() fail.
 *
 * The process has one thread when it enters (-EBUSY): layers of one thread are none.
 *
 * After it: no files (stored and keyd: relative to fd 4 only, and the directory is also "/"); no
 * new sockets (but the dialer's); no executable memory; no exec, fork, kill, ptrace. Threads may be
 * made by roles whose profile says so; make them with the default attributes or smaller stacks.
 * What a process may call is in the tables of worker/profiles.c. A forbidden call dies by SIGSYS;
 * configure with -DBAZIL_SECCOMP_TRAP=ON to get its number on stderr.
 *
 * With sanitizers (BAZIL_SANITIZED) the empty root, the pid namespace, Landlock, seccomp, dumpable
 * and the limits of memory are left out and reported missing: their run-time could not work.
 */
#ifndef BAZIL_WORKER_SANDBOX_H
#define BAZIL_WORKER_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sandbox_profile {
	SANDBOX_KEYD,
	SANDBOX_STORED,
	SANDBOX_MOUNTD,
	SANDBOX_SYNCD,
	SANDBOX_DIALER,
	/* Execs the setuid fusermount3, so it can have none but the first layers. */
	SANDBOX_MOUNTER,
};
#define SANDBOX_NUM_PROFILES 6

/* As work_ready.layers (ipc/supervisor-worker.msg). */
enum sandbox_layer {
	SANDBOX_USER_NS = 1 << 0,
	SANDBOX_ROOT = 1 << 1,
	SANDBOX_NET_NS = 1 << 2,
	SANDBOX_PID_NS = 1 << 3,
	SANDBOX_IPC_NS = 1 << 4,
	SANDBOX_CAPS = 1 << 5,
	SANDBOX_NO_NEW_PRIVS = 1 << 6,
	SANDBOX_LANDLOCK = 1 << 7,
	SANDBOX_SECCOMP = 1 << 8,
	SANDBOX_NOT_DUMPABLE = 1 << 9,
	SANDBOX_RLIMITS = 1 << 10,
};
#define SANDBOX_ALL ((1u << 11) - 1)

struct sandbox_report {
	uint32_t
		layers; /* without the namespaces, but for SANDBOX_PID_NS: see supervisor/spawn.h */
	uint32_t landlock_abi;
	char missing[400]; /* "layer: why; layer: why" or "" */
};

/*
 * Enters the profile but for the layers in `without` (0; tests and bazil-attack leave some out to
 * see what each of them stops). dir_fd: the role's directory, or -1; afterwards the same number is
 * the directory seen from inside, above which there is nothing. Returns 0 or -errno, ret filled in
 * any case.
 */
int sandbox_enter(
	enum sandbox_profile profile, uint32_t without, int dir_fd, struct sandbox_report *ret);

/* The layers that a worker of this profile should have where the kernel grants all. */
uint32_t sandbox_expected(enum sandbox_profile profile);

/* "seccomp", "landlock", ... of one layer's bit, for messages. */
const char *sandbox_layer_name(enum sandbox_layer layer);

#endif
