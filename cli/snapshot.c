/*
 * bazil snapshot ...: through .snap in the volume's mount (mountd/snapshots.h).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/past.h"
#include "cli/print.h"

static int snapshot_path(
	struct cli *cli, const char *what, const char *name, char ret[PATH_MAX], char **ret_root)
{
	int r = *name == '@' ? CLI_OK : past_check_name(what, name);

	if (r == CLI_OK)
		r = past_find_mount(cli, what, cli->argv[0], ret_root);
	if (r != CLI_OK)
		return r;
	if (snprintf(ret, PATH_MAX, "%s/.snap/%s", *ret_root, name) < PATH_MAX)
		return CLI_OK;
	free(*ret_root);
	return cli_error("%s: %s: %s", what, name, strerror(ENAMETOOLONG));
}

int cli_snapshot_create(struct cli *cli)
{
	static const char what[] = "snapshot create";
	char path[PATH_MAX], *root;
	int fd, r = past_check_name(what, cli->argv[1]);

	if (r == CLI_OK)
		r = snapshot_path(cli, what, cli->argv[1], path, &root);
	if (r != CLI_OK)
		return r;
	/* What programs wrote through mmap is still in the kernel. */
	fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		(void)syncfs(fd);
		close(fd);
	}
	free(root);
	if (mkdir(path, 0755) == 0)
		return CLI_OK;
	if (errno == EEXIST)
		return cli_error("%s: %s: there is one of this name already: remove it first, or "
				 "take another name",
			what, cli->argv[1]);
	return cli_error("%s: %s: %s", what, cli->argv[1], strerror(errno));
}

int cli_snapshot_remove(struct cli *cli)
{
	static const char what[] = "snapshot remove";
	char path[PATH_MAX], *root;
	int r = past_check_name(what, cli->argv[1]);

	if (r == CLI_OK)
		r = snapshot_path(cli, what, cli->argv[1], path, &root);
	if (r != CLI_OK)
		return r;
	free(root);
	if (rmdir(path) == 0)
		return CLI_OK;
	if (errno == ENOENT)
		return cli_error("%s: %s: there is no snapshot of this name: `bazil snapshot list "
				 "%s` shows those that are",
			what, cli->argv[1], cli->argv[0]);
	return cli_error("%s: %s: %s", what, cli->argv[1], strerror(errno));
}

static uint64_t mtime_ns(const struct stat *st)
{
	return (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
}

int cli_snapshot_list(struct cli *cli)
{
	char path[PATH_MAX], *root;
	struct dirent *entry;
	json_t *list;
	struct stat st;
	DIR *dir;
	int r = past_find_mount(cli, "snapshot list", cli->argv[0], &root);

	if (r != CLI_OK)
		return r;
	snprintf(path, sizeof(path), "%s/.snap", root);
	free(root);
	dir = opendir(path);
	if (!dir)
		return cli_error("snapshot list: %s: %s", path, strerror(errno));
	list = json_array();
	while ((errno = 0, entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
			fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		json_array_append_new(
			list, json_pack("{s:o,s:I,s:s}", "name", cli_json_text(entry->d_name), "ns",
				      (json_int_t)mtime_ns(&st), "time", cli_time(mtime_ns(&st))));
		if (!cli->json) {
			char *escaped = cli_escape(entry->d_name);

			printf("%s  %s\n", cli_time(mtime_ns(&st)), escaped);
			free(escaped);
		}
	}
	r = errno ? cli_error("snapshot list: %s: %s", path, strerror(errno)) : CLI_OK;
	closedir(dir);
	if (cli->json && r == CLI_OK)
		return cli_print_json(list);
	json_decref(list);
	return r != CLI_OK ? r : cli_flush();
}

/* --- diff --- */

struct diff {
	struct cli *cli;
	const char *old_root, *new_root;
	json_t *list;
	int status;
};

static void say(struct diff *diff, const char *change, const char *path)
{
	char *escaped;

	if (diff->cli->json) {
		json_array_append_new(diff->list,
			json_pack("{s:s,s:o}", "change", change, "path", cli_json_text(path)));
		return;
	}
	escaped = cli_escape(path);
	printf("%-8s %s\n", change, escaped);
	free(escaped);
}

static char *join(const char *dir, const char *name)
{
	char *ret;

	if (asprintf(&ret, "%s%s%s", dir, *dir && *name ? "/" : "", name) < 0)
		abort();
	return ret;
}

static int list_names(const char *root, const char *path, struct dirent ***ret)
{
	char *full = join(root, path);
	int num = scandir(full, ret, NULL, alphasort);

	free(full);
	return num;
}

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int look(const char *root, const char *path, struct stat *ret)
{
	char *full = join(root, path);
	int r = lstat(full, ret) < 0 ? -errno : 0;

	free(full);
	return r;
}

static void compare(struct diff *diff, const char *path);

/* Everything below that is on one side only. */
static void one_side(struct diff *diff, const char *root, const char *path, const char *change)
{
	struct dirent **names;
	struct stat st;
	int num;

	say(diff, change, path);
	if (look(root, path, &st) < 0 || !S_ISDIR(st.st_mode))
		return;
	num = list_names(root, path, &names);
	for (int i = 0; i < num; i++) {
		char *below = join(path, names[i]->d_name);

		if (!is_dot(names[i]->d_name))
			one_side(diff, root, below, change);
		free(below);
		free(names[i]);
	}
	if (num >= 0)
		free(names);
}

static void compare_names(struct diff *diff, const char *path)
{
	struct dirent **old, **new;
	int num_old = list_names(diff->old_root, path, &old), i = 0;
	int num_new = list_names(diff->new_root, path, &new), j = 0;

	if (num_old < 0 || num_new < 0)
		diff->status = cli_error("snapshot diff: %s: %s", path, strerror(errno));
	while (i < num_old || j < num_new) {
		int order = i >= num_old   ? 1
			    : j >= num_new ? -1
					   : strcoll(old[i]->d_name, new[j]->d_name);
		const char *name = order <= 0 ? old[i]->d_name : new[j]->d_name;
		char *below = join(path, name);

		if (is_dot(name))
			;
		else if (order < 0)
			one_side(diff, diff->old_root, below, "removed");
		else if (order > 0)
			one_side(diff, diff->new_root, below, "added");
		else
			compare(diff, below);
		free(below);
		if (order <= 0)
			free(old[i++]);
		if (order >= 0)
			free(new[j++]);
	}
	if (num_old >= 0)
		free(old);
	if (num_new >= 0)
		free(new);
}

static void compare(struct diff *diff, const char *path)
{
	struct stat old, new;

	if (look(diff->old_root, path, &old) < 0 || look(diff->new_root, path, &new) < 0) {
		diff->status = cli_error("snapshot diff: %s: %s", path, strerror(errno));
		return;
	}
	if ((old.st_mode & S_IFMT) != (new.st_mode &S_IFMT)) {
		one_side(diff, diff->old_root, path, "removed");
		one_side(diff, diff->new_root, path, "added");
		return;
	}
	if (S_ISDIR(old.st_mode)) {
		if (old.st_mode != new.st_mode &&*path)
			say(diff, "changed", path);
		compare_names(diff, path);
	} else if (old.st_mode != new.st_mode || old.st_size != new.st_size ||
		   mtime_ns(&old) != mtime_ns(&new) || old.st_ctim.tv_sec != new.st_ctim.tv_sec ||
		   old.st_ctim.tv_nsec != new.st_ctim.tv_nsec) {
		say(diff, "changed", path);
	}
}

int cli_snapshot_diff(struct cli *cli)
{
	static const char what[] = "snapshot diff";
	struct diff diff = { .cli = cli, .status = CLI_OK };
	char old[PATH_MAX], new[PATH_MAX], *root;
	struct stat st;
	int r = snapshot_path(cli, what, cli->argv[1], old, &root);

	if (r != CLI_OK)
		return r;
	snprintf(new, sizeof(new), "%s", root);
	free(root);
	if (cli->argc > 2) {
		r = snapshot_path(cli, what, cli->argv[2], new, &root);
		if (r != CLI_OK)
			return r;
		free(root);
	}
	diff.old_root = old;
	diff.new_root = new;
	for (int i = 0; i < 2; i++)
		if (stat(i ? new : old, &st) < 0)
			return cli_error("%s: %s: there is no snapshot of this name: `bazil "
					 "snapshot list %s` shows those that are",
				what, cli->argv[1 + i], cli->argv[0]);
	diff.list = json_array();
	compare(&diff, "");
	if (cli->json && diff.status == CLI_OK)
		return cli_print_json(diff.list);
	json_decref(diff.list);
	return diff.status != CLI_OK ? diff.status : cli_flush();
}
