/*
 * bazil restore: a file or a tree as it was, from .snap of its mount to its place or to another
 * one.
 *
 * Contents are shared by copy_file_range, so nothing of them is read or written inside a mount. A
 * file is made whole beside its place and then renamed over what is there; directories are filled
 * up: what came later stays.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/history.h"
#include "cli/inside.h"
#include "cli/past.h"
#include "cli/print.h"
#include "worker/scope.h"

#define COPY_AT_ONCE (1u << 30)
#define NAMES_MAX    65536

/* A file with several names: the second one becomes a link. */
struct made {
	struct made *next;
	dev_t dev;
	ino_t ino;
	char *path;
};

struct restore {
	struct cli *cli;
	struct made *made;
	json_t *list;
	uint64_t num_files, num_bytes;
	int status;
};

static int failed(struct restore *r, const char *path, int err)
{
	r->status = cli_error("restore: %s: %s", path, strerror(err));
	return -err;
}

static char *join(const char *dir, const char *name)
{
	char *ret;

	if (asprintf(&ret, "%s/%s", dir, name) < 0)
		abort();
	return ret;
}

static void say(struct restore *r, const char *what, const char *path)
{
	char *escaped;

	if (r->cli->json) {
		json_array_append_new(r->list,
			json_pack("{s:s,s:o}", "action", what, "path", cli_json_text(path)));
	} else if (r->cli->dry_run) {
		escaped = cli_escape(path);
		printf("%-8s %s\n", what, escaped);
		free(escaped);
	}
}

/* --- one file --- */

/* Where the file system cannot share: by hand, holes stay holes. */
static int copy_range(int from, int to, off_t at, off_t end)
{
	static char buf[1 << 20];

	while (at < end) {
		size_t want = end - at < (off_t)sizeof(buf) ? (size_t)(end - at) : sizeof(buf);
		ssize_t n = pread(from, buf, want, at);

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		if (pwrite(to, buf, (size_t)n, at) != n)
			return errno ? -errno : -EIO;
		at += n;
	}
	return 0;
}

static int copy_by_hand(int from, int to, off_t size)
{
	off_t at = 0, end;
	int r = ftruncate(to, size) < 0 ? -errno : 0;

	while (r == 0 && at < size) {
		at = lseek(from, at, SEEK_DATA);
		if (at < 0)
			return errno == ENXIO ? 0 : -errno;
		end = lseek(from, at, SEEK_HOLE);
		if (end < 0)
			return -errno;
		r = copy_range(from, to, at, end);
		at = end;
	}
	return r;
}

static int copy_contents(int from, int to, off_t size)
{
	off_t in = 0, out = 0;

	while (in < size) {
		size_t want = size - in < COPY_AT_ONCE ? (size_t)(size - in) : COPY_AT_ONCE;
		ssize_t n = copy_file_range(from, &in, to, &out, want, 0);

		if (n > 0)
			continue;
		if (n == 0)
			return -EIO;
		if (in == 0 && (errno == EXDEV || errno == EOPNOTSUPP || errno == EINVAL ||
				       errno == ENOSYS))
			return copy_by_hand(from, to, size);
		return -errno;
	}
	return 0;
}

static int copy_xattrs(const char *from, const char *to)
{
	char *names = malloc(NAMES_MAX), *value = malloc(NAMES_MAX);
	ssize_t len = names && value ? llistxattr(from, names, NAMES_MAX) : -1;
	int r = names && value ? 0 : -ENOMEM;

	for (ssize_t at = 0; r == 0 && at < len; at += (ssize_t)strlen(names + at) + 1) {
		ssize_t n = lgetxattr(from, names + at, value, NAMES_MAX);

		/* What only root may set is lost as with cp. */
		if (n >= 0 && lsetxattr(to, names + at, value, (size_t)n, 0) < 0 &&
			errno != EPERM && errno != EOPNOTSUPP)
			r = -errno;
	}
	free(names);
	free(value);
	return r;
}

/* Owner, mode, attributes and, last, the times. */
static int copy_attributes(const char *from, const char *to, const struct stat *st)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	int r;

	if (lchown(to, st->st_uid, st->st_gid) < 0 && errno != EPERM)
		return -errno;
	if (!S_ISLNK(st->st_mode) && chmod(to, st->st_mode & 07777) < 0)
		return -errno;
	r = copy_xattrs(from, to);
	if (r < 0)
		return r;
	return utimensat(AT_FDCWD, to, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int make_file(const char *from, const char *to, const struct stat *st)
{
	_cleanup_(closep) int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_(closep) int out =
		in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return in < 0 || out < 0 ? -errno : copy_contents(in, out, st->st_size);
}

static int make_symlink(const char *from, const char *to)
{
	char target[PATH_MAX];
	ssize_t n = readlink(from, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlink(target, to) < 0 ? -errno : 0;
}

static int make(const char *from, const char *to, const struct stat *st)
{
	if (S_ISREG(st->st_mode))
		return make_file(from, to, st);
	if (S_ISLNK(st->st_mode))
		return make_symlink(from, to);
	return mknod(to, st->st_mode & ~(mode_t)0077, st->st_rdev) < 0 ? -errno : 0;
}

static struct made *find_made(const struct restore *r, const struct stat *st)
{
	struct made *made = st->st_nlink > 1 ? r->made : NULL;

	while (made && (made->ino != st->st_ino || made->dev != st->st_dev))
		made = made->next;
	return made;
}

static void note_made(struct restore *r, const struct stat *st, const char *path)
{
	struct made *made = st->st_nlink > 1 ? malloc(sizeof(*made)) : NULL;

	if (!made)
		return;
	*made = (struct made){ r->made, st->st_dev, st->st_ino, strdup(path) };
	r->made = made;
}

/* As it is to become already, as far as that shows without reading. */
static bool is_same(const struct stat *was, const struct stat *is)
{
	return was->st_mode == is->st_mode && was->st_size == is->st_size &&
	       was->st_mtim.tv_sec == is->st_mtim.tv_sec &&
	       was->st_mtim.tv_nsec == is->st_mtim.tv_nsec;
}

static int restore_file(
	struct restore *r, const char *from, const char *to, const struct stat *st, bool replaces)
{
	const struct made *made = find_made(r, st);
	char temporary[PATH_MAX];
	const char *slash = strrchr(to, '/');
	int err;

	say(r, replaces ? "replace" : "create", to);
	r->num_files++;
	r->num_bytes += (uint64_t)st->st_size;
	if (r->cli->dry_run)
		return 0;
	if (snprintf(temporary, sizeof(temporary), "%.*s.bazil-restore.%d",
		    slash ? (int)(slash + 1 - to) : 0, to, (int)getpid()) >= PATH_MAX)
		return failed(r, to, ENAMETOOLONG);
	if (made)
		err = link(made->path, temporary) < 0 ? -errno : 0;
	else
		err = make(from, temporary, st);
	if (err == 0 && !made)
		err = copy_attributes(from, temporary, st);
	if (err == 0 && rename(temporary, to) < 0)
		err = -errno;
	if (err < 0) {
		(void)unlink(temporary);
		return failed(r, to, -err);
	}
	/* Two names of one file: rename(2) does nothing then. */
	if (made)
		(void)unlink(temporary);
	note_made(r, st, to);
	return 0;
}

/* --- trees --- */

static int restore_path(struct restore *r, const char *from, const char *to);

static int is_name(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int restore_names(struct restore *r, const char *from, const char *to)
{
	struct dirent **names;
	int num = scandir(from, &names, is_name, alphasort), err = 0;

	if (num < 0)
		return failed(r, from, errno);
	for (int i = 0; i < num; i++) {
		char *below_from = join(from, names[i]->d_name),
		     *below_to = join(to, names[i]->d_name);

		if (err != -ENOSPC)
			err = restore_path(r, below_from, below_to);
		free(below_from);
		free(below_to);
		free(names[i]);
	}
	free(names);
	return err;
}

static int restore_dir(
	struct restore *r, const char *from, const char *to, const struct stat *st, bool exists)
{
	int err;

	if (!exists) {
		say(r, "create", to);
		/* Ours until it is filled. */
		if (!r->cli->dry_run && mkdir(to, 0700) < 0)
			return failed(r, to, errno);
	}
	err = restore_names(r, from, to);
	if (!r->cli->dry_run && copy_attributes(from, to, st) < 0)
		return failed(r, to, errno);
	return err;
}

static int restore_path(struct restore *r, const char *from, const char *to)
{
	struct stat was, is;
	bool exists;

	if (lstat(from, &was) < 0)
		return failed(r, from, errno);
	exists = lstat(to, &is) == 0;
	if (exists && S_ISDIR(was.st_mode) != S_ISDIR(is.st_mode)) {
		r->status =
			cli_error("restore: %s: it is %s now and was %s: move it away first, or "
				  "restore to another place with -to",
				to, S_ISDIR(is.st_mode) ? "a directory" : "no directory",
				S_ISDIR(was.st_mode) ? "one" : "none");
		return -EEXIST;
	}
	if (S_ISDIR(was.st_mode))
		return restore_dir(r, from, to, &was, exists);
	if (exists && is_same(&was, &is)) {
		note_made(r, &was, to);
		return 0;
	}
	return restore_file(r, from, to, &was, exists);
}

/* --- which instant --- */

/* Just before the name was removed the last time. */
static int find_last(const char *path, const struct inside *inside, uint64_t *ret_ns)
{
	json_t *log, *version;
	uint64_t last = 0, until;
	size_t i;
	int r;

	r = history_load("restore", inside, &log);
	if (r != CLI_OK)
		return r;
	json_array_foreach(json_object_get(log, "versions"), i, version)
	{
		const char *kind = json_string_value(json_object_get(version, "kind"));

		until = (uint64_t)json_integer_value(json_object_get(version, "until"));
		if (strcmp(kind, "name") == 0 && until > last)
			last = until;
	}
	json_decref(log);
	if (last == 0)
		return cli_error("restore: %s: nothing of this name is kept", path);
	*ret_ns = last - 1;
	return CLI_OK;
}

static int find_directory(
	struct cli *cli, const char *path, const struct inside *inside, char ret[PATH_MAX])
{
	struct stat st;
	uint64_t ns;
	int r;

	if (cli->at || cli->snapshot)
		return past_directory(cli, "restore", inside->root, ret);
	if (lstat(path, &st) == 0) {
		cli_error("restore: %s: it exists: say as of when with -at or -snapshot; `bazil "
			  "log` shows its versions",
			path);
		return CLI_USAGE;
	}
	r = find_last(path, inside, &ns);
	if (r == CLI_OK && past_directory_at(inside->root, ns, ret) < 0)
		r = cli_error("restore: %s: %s", path, strerror(ENAMETOOLONG));
	return r;
}

static int check_destination(const char *to, const char *root)
{
	size_t len = strlen(root);

	if (strncmp(to, root, len) == 0 && strncmp(to + len, "/.snap/", 7) == 0)
		return cli_error("restore: %s: what was cannot be changed", to);
	return CLI_OK;
}

static int finish(struct restore *r)
{
	struct made *made;

	while ((made = r->made)) {
		r->made = made->next;
		free(made->path);
		free(made);
	}
	if (r->cli->json && r->status == CLI_OK)
		return cli_print_json(r->list);
	json_decref(r->list);
	return r->status != CLI_OK ? r->status : cli_flush();
}

int cli_restore(struct cli *cli)
{
	struct restore restore = { .cli = cli, .status = CLI_OK };
	const char *path = cli->argv[0], *to = cli->to ? cli->to : path;
	struct inside inside;
	char dir[PATH_MAX], *from;
	struct stat st;
	int r = inside_find("restore", path, &inside);

	if (r == CLI_OK)
		r = find_directory(cli, path, &inside, dir);
	if (r == CLI_OK)
		r = check_destination(to, inside.root);
	if (r != CLI_OK)
		return r;
	from = join(dir, inside.rest);
	if (lstat(from, &st) < 0) {
		r = cli_error(
			"restore: %s: it was not there then: `bazil log` shows when it was", path);
	} else {
		restore.list = json_array();
		umask(077);
		(void)restore_path(&restore, from, to);
		r = finish(&restore);
	}
	free(from);
	return r;
}
