/*
 * bazil stat: what mountd knows of a file (mountd/hidden_stat.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/inside.h"
#include "cli/print.h"

static uint64_t number(const json_t *info, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(info, name));
}

static void print_writer(const json_t *info, const char *name)
{
	const json_t *writer = json_object_get(info, name);
	uint64_t values = number(writer, "values");

	if (!writer)
		return;
	printf("  %s: last written by replica %s, epoch %llu", name,
		json_string_value(json_object_get(writer, "replica")),
		(unsigned long long)number(writer, "epoch"));
	if (values > 1)
		printf(", %llu versions in conflict", (unsigned long long)values);
	printf("\n");
}

static void print_chunks(const json_t *info)
{
	uint64_t bytes = number(info, "chunk_bytes"), stored = number(info, "stored_bytes");
	uint64_t chunks = number(info, "chunks"), far = number(info, "far_chunks");

	printf("  stored: %s as %s in %llu chunks, %s", cli_size(bytes),
		json_string_value(json_object_get(info, "form")), (unsigned long long)chunks,
		cli_size(stored));
	if (stored > 0 && far == 0)
		printf(" (%.2f times smaller)", (double)bytes / (double)stored);
	printf("\n  here: %llu chunks, far: %llu\n", (unsigned long long)(chunks - far),
		(unsigned long long)far);
	if (json_is_false(json_object_get(info, "complete")))
		printf("  not all chunks were looked at: the map is far, or the file very large\n");
	if (json_is_true(json_object_get(info, "unstored")))
		printf("  some of it is written and not stored yet\n");
}

static void print_text(const char *path, const json_t *info)
{
	unsigned mode = (unsigned)number(info, "mode");
	char *escaped = cli_escape(path);

	printf("%s\n", escaped);
	free(escaped);
	printf("  inode: %s, mode %04o, %llu links\n",
		json_string_value(json_object_get(info, "inode")), mode & 07777,
		(unsigned long long)number(info, "nlink"));
	printf("  size: %llu\n", (unsigned long long)number(info, "size"));
	if (number(info, "btime"))
		printf("  born: %s\n", cli_time(number(info, "btime")));
	printf("  modified: %s\n  changed: %s\n", cli_time(number(info, "mtime")),
		cli_time(number(info, "ctime")));
	if (number(info, "at"))
		printf("  as it was: %s\n", cli_time(number(info, "at")));
	if (S_ISREG(mode))
		print_chunks(info);
	print_writer(info, "attributes");
	print_writer(info, "contents");
}

int cli_stat(struct cli *cli)
{
	json_t *list = json_array();
	int status = CLI_OK;

	for (int i = 0; i < cli->argc; i++) {
		json_t *info;
		int r = inside_json(cli->argv[i], "stat", &info);

		if (r < 0) {
			status = inside_error("stat", cli->argv[i], r);
			continue;
		}
		if (!cli->json)
			print_text(cli->argv[i], info);
		json_object_set_new(info, "path", cli_json_text(cli->argv[i]));
		json_array_append_new(list, info);
	}
	if (cli->json && status == CLI_OK) {
		/* One file, one object. */
		json_t *only = cli->argc == 1 ? json_incref(json_array_get(list, 0)) : NULL;

		if (!only)
			return cli_print_json(list);
		json_decref(list);
		return cli_print_json(only);
	}
	json_decref(list);
	return status != CLI_OK ? status : cli_flush();
}
