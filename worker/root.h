/*
 * A root with nothing in it, or with one directory as all that there is.
 *
 * Makes a mount namespace of its own first (harmless when the supervisor has made one already), so
 * nothing outside ever changes. Needs CAP_SYS_ADMIN in the user namespace that owns the new one;
 * must come before no_new_privs, Landlock and seccomp, with one thread only.
 */
#ifndef BAZIL_WORKER_ROOT_H
#define BAZIL_WORKER_ROOT_H

/*
 * dir_fd -1: an empty read-only root. Else the directory that dir_fd refers to becomes the root,
 * without set-user-ID, devices and executables, and dir_fd is replaced by a descriptor of it from
 * inside, so that
 * ".." ends there. Returns 0; -errno with *ret_step naming what was refused. After an error the old
 * root is still there.
 */
int root_enter(int dir_fd, const char **ret_step);

/*
 * A root of a few parts of the old one. The supervisor puts a worker into one before it execs
 * (supervisor/spawn.c), because the program and its libraries stay mapped as long as the worker
 * lives and keep the mount alive that they came from; in a user namespace every mount below that
 * one is locked to it, so without this step a stick or a volume that its user unmounts would stay
 * in use by our workers, invisibly. The dialer has such a root to the end.
 */
struct root_plan {
	/* Files and directories, absolute; read-only; links are made again, what does not exist is
	 * left out. */
	const char *const *paths;
	const char *extra; /* one more, or NULL */
	const char *own;   /* a directory that becomes ROOT_OWN, writable, or NULL */
};

/* Where the role's directory is in such a root. */
#define ROOT_OWN "/own"

int root_enter_with(const struct root_plan *plan, const char **ret_step);

#endif
