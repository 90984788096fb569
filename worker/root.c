#include "worker/root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/scope.h"

/* Where the old root is while parts of it are taken over. */
#define OLD_ROOT "/old"

/* Where the new root is mounted for a moment, in our own namespace: whichever is there. */
static const char *const places[] = { "/tmp", "/usr", "/var", "/proc", "/dev" };

static int own_namespace(void)
{
	/* Private: nothing that we mount may travel to the namespace we came from. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	return 0;
}

/* The working directory, a mount point, becomes the root and the old one is gone. */
static int pivot_here(void)
{
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return -errno;
	/* pivot_root has stacked the old root on the new one; what is on top is unmounted first. */
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

/* Flags are only added: those of the file system below are locked in a user namespace. */
static int restrict_mount(const char *path, uint64_t attrs)
{
	struct mount_attr attr = { .attr_set = attrs };

	if (mount_setattr(AT_FDCWD, path, AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return -errno;
	return 0;
}

/* The working directory becomes the root and the old one a directory in it. */
static int pivot_beside(void)
{
	if (mkdir(&OLD_ROOT[1], 0700) < 0 || syscall(SYS_pivot_root, ".", &OLD_ROOT[1]) < 0 ||
		chdir("/") < 0)
		return -errno;
	return 0;
}

static int mount_empty(const char *options)
{
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (mount("bazil", places[i], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) ==
			0)
			return chdir(places[i]) < 0 ? -errno : 0;
		if (errno != ENOENT && errno != ENOTDIR)
			return -errno;
	}
	return -ENOENT;
}

static int enter_empty(const char **ret_step)
{
	int r;

	*ret_step = "tmpfs";
	r = mount_empty("size=4k,nr_inodes=2,mode=0555");
	if (r < 0)
		return r;
	*ret_step = "pivot_root";
	r = pivot_here();
	if (r < 0)
		return r;
	*ret_step = "read-only root";
	return restrict_mount("/", MOUNT_ATTR_RDONLY);
}

static bool is_same(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

/*
 * The descriptor may have been opened in the supervisor's namespace, where we may not mount: the
 * path is looked up anew in ours, and must lead to the same directory.
 */
static int chdir_again(int dir_fd)
{
	char link[64], path[PATH_MAX] = ROOT_OWN;
	ssize_t n;

	if (!is_same(dir_fd, path)) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
		n = readlink(link, path, sizeof(path) - 1);
		if (n < 0)
			return -errno;
		path[n] = '\0';
		if (!is_same(dir_fd, path))
			return -ESTALE;
	}
	if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0 || chdir(path) < 0)
		return -errno;
	return is_same(dir_fd, ".") ? 0 : -ESTALE;
}

static int enter_dir(int dir_fd, const char **ret_step)
{
	_cleanup_(closep) int fd = -1;
	int r;

	*ret_step = "bind";
	r = chdir_again(dir_fd);
	if (r < 0)
		return r;
	*ret_step = "pivot_root";
	r = pivot_here();
	if (r < 0)
		return r;
	*ret_step = "mount attributes";
	r = restrict_mount("/", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (r < 0)
		return r;
	*ret_step = "directory";
	fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || dup3(fd, dir_fd, O_CLOEXEC) < 0)
		return -errno;
	return 0;
}

int root_enter(int dir_fd, const char **ret_step)
{
	int r;

	*ret_step = "mount namespace";
	r = own_namespace();
	if (r < 0)
		return r;
	return dir_fd < 0 ? enter_empty(ret_step) : enter_dir(dir_fd, ret_step);
}

/* Makes the directories that lead to path. */
static int make_parents(const char *path)
{
	char part[PATH_MAX];

	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static int make_target(const char *path, mode_t type)
{
	int fd;

	if (S_ISDIR(type))
		return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int copy_link(const char *from, const char *to)
{
	char target[PATH_MAX];
	ssize_t n = readlink(from, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlink(target, to) < 0 && errno != EEXIST ? -errno : 0;
}

/* from is a path of the old root. */
static int bind_at(const char *from, const char *at)
{
	char path[PATH_MAX + sizeof(OLD_ROOT)];

	snprintf(path, sizeof(path), OLD_ROOT "%s", from);
	/* What is mounted further below stays outside, unless the kernel insists. */
	if (mount(path, at, NULL, MS_BIND, NULL) < 0 &&
		(errno != EINVAL || mount(path, at, NULL, MS_BIND | MS_REC, NULL) < 0))
		return -errno;
	return 0;
}

static int bind_path(const char *path)
{
	char old[PATH_MAX + sizeof(OLD_ROOT)];
	struct stat st;
	int r;

	snprintf(old, sizeof(old), OLD_ROOT "%s", path);
	if (lstat(old, &st) < 0 ||
		(!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)))
		return 0;
	r = make_parents(path);
	if (r == 0 && S_ISLNK(st.st_mode))
		return copy_link(old, path);
	if (r == 0)
		r = make_target(path, st.st_mode);
	return r < 0 ? r : bind_at(path, path);
}

static int bind_paths(const struct root_plan *plan)
{
	int r = 0;

	for (size_t i = 0; r == 0 && plan->paths[i]; i++)
		r = bind_path(plan->paths[i]);
	if (r == 0 && plan->extra)
		r = bind_path(plan->extra);
	if (r == 0 && plan->own && mkdir(ROOT_OWN, 0700) < 0)
		r = -errno;
	return r;
}

static int restrict_paths(const struct root_plan *plan)
{
	const uint64_t attrs = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	struct mount_attr writable = { .attr_clr = MOUNT_ATTR_RDONLY };
	int r = restrict_mount("/", attrs);

	if (r < 0 || !plan->own)
		return r;
	if (mount_setattr(AT_FDCWD, ROOT_OWN, 0, &writable, sizeof(writable)) < 0)
		return -errno;
	return 0;
}

int root_enter_with(const struct root_plan *plan, const char **ret_step)
{
	int r;

	*ret_step = "mount namespace";
	r = own_namespace();
	if (r < 0)
		return r;
	*ret_step = "tmpfs";
	r = mount_empty("size=64k,nr_inodes=64,mode=0755");
	if (r < 0)
		return r;
	*ret_step = "pivot_root";
	r = pivot_beside();
	if (r < 0)
		return r;
	*ret_step = "bind";
	r = bind_paths(plan);
	if (r == 0 && plan->own)
		r = bind_at(plan->own, ROOT_OWN);
	if (r < 0)
		return r;
	*ret_step = "old root";
	if (umount2(OLD_ROOT, MNT_DETACH) < 0 || rmdir(OLD_ROOT) < 0)
		return -errno;
	*ret_step = "mount attributes";
	return restrict_paths(plan);
}
