#include "worker/root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/scope.h"

/* Where the new root is mounted for a moment, in our own namespace: whichever is there. */
static const char *const places[] = { "/tmp", "/var", "/usr", "/proc", "/dev" };

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

/*
 * The descriptor was opened in the supervisor's namespace, where we may not mount: the path is
 * looked up anew in ours, and must lead to the same directory.
 */
static int chdir_again(int dir_fd)
{
	char link[64], path[PATH_MAX];
	struct stat a, b;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return -errno;
	path[n] = '\0';
	if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0 || chdir(path) < 0)
		return -errno;
	if (fstat(dir_fd, &a) < 0 || stat(".", &b) < 0)
		return -errno;
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino ? 0 : -ESTALE;
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

/* Makes the directories of a path beneath the working directory. */
static int make_dirs(const char *path)
{
	char part[PATH_MAX];
	const char *slash = path;

	while (slash) {
		slash = strchr(slash + 1, '/');
		snprintf(part, sizeof(part), "%.*s", slash ? (int)(slash - path) : PATH_MAX - 1,
			path);
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static int bind_dirs(const char *const *dirs)
{
	for (size_t i = 0; dirs[i]; i++) {
		struct stat st;
		int r;

		if (stat(dirs[i], &st) < 0 || !S_ISDIR(st.st_mode))
			continue;
		r = make_dirs(dirs[i] + 1);
		if (r < 0)
			return r;
		if (mount(dirs[i], dirs[i] + 1, NULL, MS_BIND | MS_REC, NULL) < 0)
			return -errno;
	}
	return 0;
}

int root_enter_with(const char *const *dirs, const char **ret_step)
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
	*ret_step = "bind";
	r = bind_dirs(dirs);
	if (r < 0)
		return r;
	*ret_step = "pivot_root";
	r = pivot_here();
	if (r < 0)
		return r;
	*ret_step = "mount attributes";
	return restrict_mount("/", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}
