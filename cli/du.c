/*
 * bazil du: the recursive figures that mountd keeps (mountd/figures.h).
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/inside.h"
#include "cli/print.h"

#define DEPTH_MAX 1000

struct du {
	struct cli *cli;
	json_t *list; /* with -json */
	int status;
};

static int number(const char *path, const char *name, uint64_t *ret)
{
	char *text;
	int r = inside_text(path, name, &text);

	if (r < 0)
		return r;
	*ret = strtoull(text, NULL, 10);
	free(text);
	return 0;
}

static int show(struct du *du, const char *path)
{
	uint64_t bytes, files, dirs;
	char *newest, *escaped;
	int r = number(path, "rbytes", &bytes);

	if (r == 0)
		r = number(path, "rfiles", &files);
	if (r == 0)
		r = number(path, "rdirs", &dirs);
	if (r == 0)
		r = inside_text(path, "rctime", &newest);
	if (r < 0) {
		du->status = inside_error("du", path, r);
		return r;
	}
	if (du->cli->json) {
		json_t *item = json_pack("{s:I,s:I,s:I,s:s}", "bytes", (json_int_t)bytes, "files",
			(json_int_t)files, "directories", (json_int_t)dirs, "newest", newest);

		json_object_set_new(item, "path", cli_json_text(path));
		json_array_append_new(du->list, item);
	} else {
		escaped = cli_escape(path);
		if (du->cli->human)
			printf("%10s", cli_size(bytes));
		else
			printf("%14llu", (unsigned long long)bytes);
		printf(" %9llu files %8llu directories  %s\n", (unsigned long long)files,
			(unsigned long long)dirs, escaped);
		free(escaped);
	}
	free(newest);
	return 0;
}

/* The directories below, then the directory itself, as du(1). */
static void walk(struct du *du, const char *path, long depth)
{
	struct dirent *entry;
	DIR *dir = depth > 0 ? opendir(path) : NULL;

	while (dir && (entry = readdir(dir))) {
		char *below;
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (asprintf(&below, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/",
			    entry->d_name) < 0)
			abort();
		if (lstat(below, &st) == 0 && S_ISDIR(st.st_mode))
			walk(du, below, depth - 1);
		free(below);
	}
	if (dir)
		closedir(dir);
	else if (depth > 0 && errno != ENOTDIR)
		du->status = cli_error("du: %s: %s", path, strerror(errno));
	(void)show(du, path);
}

int cli_du(struct cli *cli)
{
	struct du du = { .cli = cli, .status = CLI_OK };
	char *end = NULL;
	long depth = cli->depth ? strtol(cli->depth, &end, 10) : 0;
	int r;

	if (end && (*end || depth < 0 || depth > DEPTH_MAX)) {
		cli_error("du: -depth=%s: give a number from 0 to %d", cli->depth, DEPTH_MAX);
		return CLI_USAGE;
	}
	du.list = json_array();
	for (int i = 0; i < cli->argc; i++)
		walk(&du, cli->argv[i], depth);
	if (cli->json && du.status == CLI_OK)
		return cli_print_json(du.list);
	json_decref(du.list);
	r = cli_flush();
	return du.status != CLI_OK ? du.status : r;
}
