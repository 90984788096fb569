/*
 * bazil log: the versions of a file, by its name in its directory (mountd/hidden_log.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/history.h"
#include "cli/inside.h"
#include "cli/print.h"

static uint64_t number(const json_t *version, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(version, name));
}

int history_load(const char *what, const struct inside *inside, json_t **ret)
{
	char dir[PATH_MAX * 2], attribute[300];
	const char *name = strrchr(inside->rest, '/');
	int r;

	name = name ? name + 1 : inside->rest;
	if (strlen(name) > HISTORY_NAME_MAX)
		return cli_error("%s: %s: names of more than %d bytes cannot be asked about", what,
			name, HISTORY_NAME_MAX);
	if (*name)
		snprintf(attribute, sizeof(attribute), "log.%.*s", HISTORY_NAME_MAX, name);
	else
		snprintf(attribute, sizeof(attribute), "log");
	snprintf(dir, sizeof(dir), "%s/%.*s", inside->root, (int)(name - inside->rest),
		inside->rest);
	r = inside_json(dir, attribute, ret);
	if (r == -ENODATA)
		return cli_error("%s: %s: nothing of this name is kept", what, name);
	if (r == -ENOENT)
		return cli_error("%s: %s: its directory is gone: look into it as it was, below "
				 "%s/.snap/@TIME",
			what, name, inside->root);
	return r < 0 ? inside_error(what, dir, r) : CLI_OK;
}

static int by_time(const void *a, const void *b)
{
	const json_t *const *one = a, *const *other = b;
	uint64_t x = number(*one, "since"), y = number(*other, "since");

	return x < y ? -1 : x > y;
}

static void print_line(uint64_t ns, const json_t *version, const char *text)
{
	printf("%s  replica %s  %s\n", cli_time(ns),
		json_string_value(json_object_get(version, "replica")), text);
}

static void print_version(const json_t *version)
{
	const char *kind = json_string_value(json_object_get(version, "kind"));
	char text[100];

	if (strcmp(kind, "name") == 0) {
		snprintf(text, sizeof(text), "got this name (inode %s)",
			json_string_value(json_object_get(version, "inode")));
	} else if (strcmp(kind, "contents") == 0) {
		snprintf(text, sizeof(text), "contents: %s (%llu bytes)",
			cli_size(number(version, "size")),
			(unsigned long long)number(version, "size"));
	} else {
		snprintf(text, sizeof(text), "attributes: mode %04o",
			(unsigned)number(version, "mode") & 07777);
	}
	print_line(number(version, "since"), version, text);
}

/* In order of time; where a name ended, a line of its own. */
static void print_text(const json_t *versions)
{
	size_t num = json_array_size(versions), num_lines = 0;
	const json_t **sorted = calloc(num + 1, sizeof(*sorted));
	uint64_t gone = 0;

	if (!sorted)
		abort();
	for (size_t i = 0; i < num; i++)
		sorted[num_lines++] = json_array_get(versions, i);
	qsort(sorted, num_lines, sizeof(*sorted), by_time);
	for (size_t i = 0; i < num_lines; i++) {
		const char *kind = json_string_value(json_object_get(sorted[i], "kind"));
		uint64_t since = number(sorted[i], "since");

		if (gone != 0 && since > gone) {
			printf("%s  the name was removed\n", cli_time(gone));
			gone = 0;
		}
		if (strcmp(kind, "name") == 0)
			gone = number(sorted[i], "until");
		print_version(sorted[i]);
	}
	if (gone != 0)
		printf("%s  the name was removed\n", cli_time(gone));
	free(sorted);
}

int cli_log(struct cli *cli)
{
	struct inside inside;
	json_t *log;
	int r = inside_find("log", cli->argv[0], &inside);

	if (r == CLI_OK)
		r = history_load("log", &inside, &log);
	if (r != CLI_OK)
		return r;
	if (cli->json) {
		json_object_set_new(log, "path", cli_json_text(cli->argv[0]));
		return cli_print_json(log);
	}
	if (json_is_false(json_object_get(log, "complete")))
		fprintf(stderr, "bazil: log: older versions than these are kept too\n");
	print_text(json_object_get(log, "versions"));
	json_decref(log);
	return cli_flush();
}
