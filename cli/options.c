#include "cli/options.h"

#include <stdio.h>
#include <string.h>

#include "cli/print.h"

struct option {
	const char *name;
	unsigned takes; /* 0: every command has it */
	size_t offset;
	bool has_value;
	const char *help;
};

static const struct option options[] = {
	{ "data-dir", 0, offsetof(struct cli, data_dir), true,
		"-data-dir=PATH   where this node keeps its data" },
	{ "json", 0, offsetof(struct cli, json), false, "-json            print JSON" },
	{ "help", 0, offsetof(struct cli, help), false, "-help            this help" },
	{ "sharing", TAKES_SHARING, offsetof(struct cli, sharing), true,
		"-sharing=NAME    the sharing key to use (default: default)" },
	{ "port", TAKES_PORT, offsetof(struct cli, port), true,
		"-port=N          listen on this port and no other" },
	{ "name", TAKES_NAME, offsetof(struct cli, name), true,
		"-name=NICKNAME   a name to call the peer by" },
	{ "force", TAKES_FORCE, offsetof(struct cli, force), false,
		"-force           do it even so" },
	{ "read-only", TAKES_READ_ONLY, offsetof(struct cli, read_only), false,
		"-read-only       refuse every change" },
	{ "allow-other", TAKES_ALLOW_OTHER, offsetof(struct cli, allow_other), false,
		"-allow-other     other users may enter, and files keep their owners (root only)" },
	{ "auto", TAKES_AUTO, offsetof(struct cli, automatic), false,
		"-auto            mount it again at every start of the server" },
	{ "depth", TAKES_DEPTH, offsetof(struct cli, depth), true,
		"-depth=N         show directories down to this depth too" },
	{ "at", TAKES_AT, offsetof(struct cli, at), true,
		"-at=TIME         as it was then: 2026-11-21T10:00, -2h, or seconds since 1970" },
	{ "snapshot", TAKES_SNAPSHOT, offsetof(struct cli, snapshot), true,
		"-snapshot=NAME   as it was when this snapshot was taken" },
	{ "to", TAKES_TO, offsetof(struct cli, to), true,
		"-to=PATH         restore to there instead" },
	{ "dry-run", TAKES_DRY_RUN, offsetof(struct cli, dry_run), false,
		"-dry-run         say what would be done and do nothing" },
	{ "sync", TAKES_SYNC, offsetof(struct cli, sync), true,
		"-sync=N          the number that `volume syncs` shows (default: 1, the newest)" },
	{ "keep-all", TAKES_RETENTION, offsetof(struct cli, keep_all), true,
		"-keep-all=TIME   keep every version for this long: 7d, 36h" },
	{ "hourly", TAKES_RETENTION, offsetof(struct cli, hourly), true,
		"-hourly=N        then the last versions before this many hours began" },
	{ "daily", TAKES_RETENTION, offsetof(struct cli, daily), true,
		"-daily=N         and days" },
	{ "weekly", TAKES_RETENTION, offsetof(struct cli, weekly), true,
		"-weekly=N        and weeks" },
	{ "monthly", TAKES_RETENTION, offsetof(struct cli, monthly), true,
		"-monthly=N       and months" },
	{ "now", TAKES_NOW, offsetof(struct cli, now), false,
		"-now             without the grace time of an hour" },
	{ "h", TAKES_HUMAN, offsetof(struct cli, human), false,
		"-h               sizes as 1.5 MiB" },
	{ "arena-size", TAKES_ARENA_SIZE, offsetof(struct cli, arena_size), true,
		"-arena-size=SIZE size of the files of the store: 256M (default: 1G)" },
	{ "rate", TAKES_RATE, offsetof(struct cli, rate), true,
		"-rate=N          MiB a second at most" },
	{ "background", TAKES_BACKGROUND, offsetof(struct cli, background), false,
		"-background      begin, and do not wait for the end" },
};

#define NUM_OPTIONS (sizeof(options) / sizeof(options[0]))

static int usage_error(const char *what, const char *word)
{
	cli_error("%s: %s: see `bazil help`", word, what);
	return CLI_USAGE;
}

static const struct option *find_option(const char *name, size_t len)
{
	for (size_t i = 0; i < NUM_OPTIONS; i++)
		if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0)
			return &options[i];
	return NULL;
}

/* Takes the option at argv[*i]; *seen collects which optional ones were given. */
static int take_option(struct cli *cli, int argc, char **argv, int *i, unsigned *seen)
{
	const char *name = argv[*i] + (argv[*i][1] == '-' ? 2 : 1);
	const char *value = strchr(name, '=');
	const struct option *o = find_option(name, value ? (size_t)(value - name) : strlen(name));
	char *field;

	if (!o)
		return usage_error("unknown option", argv[*i]);
	field = (char *)cli + o->offset;
	*seen |= o->takes;
	if (!o->has_value) {
		if (value)
			return usage_error("this option takes no value", argv[*i]);
		*(bool *)field = true;
		return CLI_OK;
	}
	if (!value && *i + 1 >= argc)
		return usage_error("this option needs a value", argv[*i]);
	*(const char **)field = value ? value + 1 : argv[++*i];
	if (!**(const char **)field)
		return usage_error("the value is empty", argv[*i]);
	return CLI_OK;
}

/* Number of words of `command` that `words` begins with, or 0 when it does not. */
static int match(const char *command, int num_words, char **words)
{
	int n = 0;

	while (*command) {
		size_t len = strcspn(command, " ");

		if (n == num_words || strlen(words[n]) != len ||
			memcmp(words[n], command, len) != 0)
			return 0;
		n++;
		command += len + (command[len] == ' ');
	}
	return n;
}

static const struct cli_command *find_command(const struct cli_command *commands,
	size_t num_commands, int num_words, char **words, int *ret_used)
{
	const struct cli_command *best = NULL;

	*ret_used = 0;
	for (size_t i = 0; i < num_commands; i++) {
		int n = match(commands[i].words, num_words, words);

		if (n > *ret_used) {
			*ret_used = n;
			best = &commands[i];
		}
	}
	return best;
}

static int check_command(const struct cli *cli, const struct cli_command *command, unsigned seen)
{
	if (seen & ~command->takes) {
		cli_error("%s: an option was given that this command does not take: see `bazil "
			  "help %s`",
			command->words, command->words);
		return CLI_USAGE;
	}
	if (cli->help || (cli->argc >= command->min_args && cli->argc <= command->max_args))
		return CLI_OK;
	cli_error("%s: wrong number of arguments: usage: bazil %s %s", command->words,
		command->words, command->args);
	return CLI_USAGE;
}

int cli_parse(struct cli *cli, int argc, char **argv, char **words,
	const struct cli_command *commands, size_t num_commands,
	const struct cli_command **ret_command)
{
	unsigned seen = 0;
	int num_words = 0, used, r;
	bool only_words = false;

	*ret_command = NULL;
	for (int i = 1; i < argc; i++) {
		if (!only_words && strcmp(argv[i], "--") == 0) {
			only_words = true;
		} else if (!only_words && argv[i][0] == '-' && argv[i][1]) {
			r = take_option(cli, argc, argv, &i, &seen);
			if (r != CLI_OK)
				return r;
		} else {
			words[num_words++] = argv[i];
		}
	}
	cli->argc = num_words;
	cli->argv = words;
	if (num_words == 0 || strcmp(words[0], "help") == 0)
		return CLI_OK;
	*ret_command = find_command(commands, num_commands, num_words, words, &used);
	if (!*ret_command && cli->help)
		return CLI_OK;
	if (!*ret_command)
		return usage_error("unknown or incomplete command", words[0]);
	cli->argc = num_words - used;
	cli->argv = words + used;
	return check_command(cli, *ret_command, seen);
}

static void help_one(const struct cli_command *command, bool with_options)
{
	char usage[80];

	snprintf(usage, sizeof(usage), "%s %s", command->words, command->args);
	printf("  %-44s %s\n", usage, command->help);
	for (size_t i = 0; with_options && i < NUM_OPTIONS; i++)
		if (options[i].takes & command->takes)
			printf("      %s\n", options[i].help);
}

static bool begins_with(const struct cli_command *command, int argc, char **words)
{
	const char *at = command->words;

	for (int i = 0; i < argc; i++) {
		size_t len = strcspn(at, " ");

		if (strlen(words[i]) != len || memcmp(words[i], at, len) != 0)
			return false;
		at += len + (at[len] == ' ');
	}
	return true;
}

int cli_help(const struct cli_command *commands, size_t num_commands, int argc, char **words)
{
	size_t num = 0;

	printf("usage: bazil [OPTIONS] COMMAND ...\n\n");
	for (size_t i = 0; i < num_commands; i++) {
		if (!begins_with(&commands[i], argc, words))
			continue;
		help_one(&commands[i], argc > 0);
		num++;
	}
	if (num == 0)
		return usage_error("no such command", words[0]);
	printf("\nOptions of every command:\n");
	for (size_t i = 0; i < NUM_OPTIONS; i++)
		if (!options[i].takes)
			printf("  %s\n", options[i].help);
	printf("\nThe manual: man bazil\n");
	return cli_flush();
}
