#include "supervisor/datadir.h"

#include <dirent.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/mounts.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"
#include "worker/scope.h"

#define WAIT_MS	   10000
#define STEP_MS	   50
#define LOCK_BYTES (1 << 20)

static const char *const parts[] = { "keys", "store" };

static int explain_open(const char *path, int err)
{
	if (err == ENOENT)
		supervisor_error(
			"data directory: %s: it does not exist: make it with `bazil create`", path);
	else if (err == EACCES || err == EPERM)
		supervisor_error(
			"data directory: %s: permission denied: it must belong to you", path);
	else if (err == EROFS)
		supervisor_error("data directory: %s: the file system is read-only: remount it "
				 "writable, or move the data directory",
			path);
	else if (err == ENOSPC || err == EDQUOT)
		supervisor_error("data directory: %s: the disk is full: free some space", path);
	else
		supervisor_error("data directory: %s: %s", path, strerror(err));
	return -err;
}

/* Lines of the old lock file after the pid become strings, one after the other. */
static char *parse_stale(char *text)
{
	char *line = strchr(text, '\n');
	char *ret;
	size_t len;

	if (!line)
		return NULL;
	len = strlen(++line);
	ret = calloc(1, len + 2);
	if (!ret)
		return NULL;
	for (size_t i = 0; i < len; i++)
		ret[i] = line[i] == '\n' ? '\0' : line[i];
	return ret;
}

static char *read_lock(struct datadir *d)
{
	char *text = calloc(1, LOCK_BYTES + 1);

	if (text && pread(d->lock, text, LOCK_BYTES, 0) < 0)
		text[0] = '\0';
	return text;
}

static int take_lock(struct datadir *d, bool wait)
{
	_cleanup_(freep) char *text = NULL;
	int ms = 0;

	d->lock = openat(d->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (d->lock < 0)
		return explain_open(d->path, errno);
	while (flock(d->lock, LOCK_EX | LOCK_NB) < 0) {
		if (wait && ms < WAIT_MS) {
			usleep(STEP_MS * 1000);
			ms += STEP_MS;
			continue;
		}
		text = read_lock(d);
		supervisor_error("server: already running as pid %ld on this data directory: %s",
			text ? strtol(text, NULL, 10) : 0L, d->path);
		/* What is in it is the other server's. */
		close(TAKE_FD(d->lock));
		return -EBUSY;
	}
	text = read_lock(d);
	d->stale = text ? parse_stale(text) : NULL;
	d->opened = ev_time();
	return 0;
}

static int open_dir(struct datadir *d, const char *path)
{
	struct stat st;

	if (!realpath(path, d->path))
		return explain_open(path, errno);
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0)
		return explain_open(d->path, errno);
	if (fstat(d->fd, &st) < 0)
		return explain_open(d->path, errno);
	if (st.st_uid != geteuid())
		return explain_open(d->path, EPERM);
	return 0;
}

int datadir_open(struct datadir *d, const char *path, bool wait)
{
	int r;

	*d = (struct datadir){ .fd = -1, .lock = -1 };
	r = open_dir(d, path);
	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		struct stat st;

		if (fstatat(d->fd, parts[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
			continue;
		supervisor_error(
			"data directory: %s: it was not made by `bazil create`: there is no "
			"directory %s in it",
			d->path, parts[i]);
		return -ENOENT;
	}
	/* Another user's eyes have no business here, whatever a restored backup says. */
	if (fchmod(d->fd, 0700) < 0)
		return explain_open(d->path, errno);
	return take_lock(d, wait);
}

static bool is_empty(int fd)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	struct dirent *e;
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	dir = copy < 0 ? NULL : fdopendir(copy);
	while (dir && (e = readdir(dir)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			return false;
	return dir != NULL;
}

/* mkdir -p; counts what it made, so that a failure leaves nothing behind. */
static int make_path(struct datadir *d, const char *path)
{
	char part[PATH_MAX];
	const char *slash = path;

	while (slash) {
		slash = strchr(slash + 1, '/');
		snprintf(part, sizeof(part), "%.*s",
			slash ? (int)(slash - path) : (int)strlen(path), path);
		if (mkdir(part, 0700) == 0)
			d->num_made++;
		else if (errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* Removes the directories that make_path() made, the deepest first. */
static void unmake_path(struct datadir *d, const char *path)
{
	char part[PATH_MAX];

	snprintf(part, sizeof(part), "%s", path);
	for (; d->num_made > 0; d->num_made--) {
		char *slash = strrchr(part, '/');

		rmdir(part);
		if (!slash || slash == part)
			break;
		*slash = '\0';
	}
	d->num_made = 0;
}

static int make_parts(struct datadir *d)
{
	if (!is_empty(d->fd)) {
		supervisor_error("data directory: %s: it already exists and is not empty: choose "
				 "another one, or remove it first",
			d->path);
		return -EEXIST;
	}
	if (fchmod(d->fd, 0700) < 0)
		return explain_open(d->path, errno);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (mkdirat(d->fd, parts[i], 0700) < 0)
			return explain_open(d->path, errno);
	/* The names must be as durable as what will be in them. */
	if (fsync(d->fd) < 0)
		return explain_open(d->path, errno);
	return 0;
}

int datadir_create(struct datadir *d, const char *path)
{
	char clean[PATH_MAX];
	size_t len = strlen(path);
	int r;

	*d = (struct datadir){ .fd = -1, .lock = -1 };
	while (len > 1 && path[len - 1] == '/')
		len--;
	snprintf(clean, sizeof(clean), "%.*s", (int)len, path);
	r = make_path(d, clean);
	if (r < 0) {
		if (r == -ENOENT)
			supervisor_error("data directory: %s: no directory can be made there: "
					 "choose another place",
				clean);
		else
			explain_open(clean, -r);
		unmake_path(d, clean);
		return r;
	}
	r = open_dir(d, clean);
	if (r == 0)
		r = make_parts(d);
	/* Not empty or not ours: then nothing of it is to be undone. */
	if (r < 0)
		unmake_path(d, clean);
	return r < 0 ? r : take_lock(d, false);
}

static void remove_files(int dir_fd, const char *name)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	struct dirent *e;
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && (e = readdir(dir)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			unlinkat(fd, e->d_name, 0);
	unlinkat(dir_fd, name, AT_REMOVEDIR);
}

void datadir_undo(struct datadir *d)
{
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		remove_files(d->fd, parts[i]);
	unlinkat(d->fd, "lock", 0);
	unmake_path(d, d->path);
}

/* As in /proc/self/mountinfo, so that a line is a path whatever is in it. */
static size_t escape(char *ret, size_t size, const char *path)
{
	size_t n = 0;

	for (; *path && n + 5 < size; path++) {
		if (strchr(" \t\n\\", *path))
			n += snprintf(ret + n, size - n, "\\%03o", (unsigned char)*path);
		else
			ret[n++] = *path;
	}
	ret[n++] = '\n';
	return n;
}

void datadir_write_lock(struct datadir *d, const struct mount *mounts)
{
	_cleanup_(freep) char *text = calloc(1, LOCK_BYTES);
	size_t n;

	if (!text || d->lock < 0)
		return;
	n = snprintf(text, LOCK_BYTES, "%d\n", getpid());
	for (const struct mount *m = mounts; m && n + 4 * PATH_MAX < LOCK_BYTES; m = m->next)
		n += escape(text + n, LOCK_BYTES - n, m->path);
	/* Only a hint for whoever comes next: a full disk must not keep anybody from mounting. The
	 * room that it has is used again, so that it can be written on a full disk too. */
	if (pwrite(d->lock, text, n, 0) < 0 || ftruncate(d->lock, (off_t)n) < 0)
		log_warn("lock: %s", strerror(errno));
}

void datadir_close(struct datadir *d)
{
	if (d->lock >= 0) {
		if (pwrite(d->lock, "0\n", 2, 0) < 0 || ftruncate(d->lock, 2) < 0) {
			/* Then the next server finds a pid that is not there. */
		}
		close(TAKE_FD(d->lock));
	}
	if (d->fd >= 0)
		close(TAKE_FD(d->fd));
	free(TAKE_PTR(d->stale));
}
