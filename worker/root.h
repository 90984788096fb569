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
 * For the dialer: a root with read-only views of these directories of the old one; those that do
 * not exist are left out.
 */
int root_enter_with(const char *const *dirs, const char **ret_step);

#endif
