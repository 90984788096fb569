/*
 * The command line: words and options in any order, options with one dash or two, values behind `=`
 * or as the next word; `--` ends the options. The command is the longest run of leading words in
 * the table.
 */
#ifndef BAZIL_CLI_OPTIONS_H
#define BAZIL_CLI_OPTIONS_H

#include <stddef.h>

#include "cli/cli.h"

/* Which options a command takes besides -data-dir, -json and -help. */
enum cli_takes {
	TAKES_SHARING = 1 << 0,
	TAKES_PORT = 1 << 1,
	TAKES_NAME = 1 << 2,
	TAKES_FORCE = 1 << 3,
	TAKES_READ_ONLY = 1 << 4,
	TAKES_ALLOW_OTHER = 1 << 5,
	TAKES_DEPTH = 1 << 6,
	TAKES_HUMAN = 1 << 7,
	TAKES_AT = 1 << 8,
	TAKES_SNAPSHOT = 1 << 9,
	TAKES_TO = 1 << 10,
	TAKES_DRY_RUN = 1 << 11,
	TAKES_SYNC = 1 << 12,
	TAKES_RATE = 1 << 13,
	TAKES_BACKGROUND = 1 << 14,
	TAKES_RETENTION = 1 << 20,
	TAKES_NOW = 1 << 15,
	TAKES_ARENA_SIZE = 1 << 21,
	TAKES_AUTO = 1 << 22,
};

struct cli_command {
	const char *words; /* "volume storage add" */
	const char *args;  /* "VOLUME STORAGE", for the help */
	const char *help;  /* one line */
	int min_args, max_args;
	unsigned takes;
	int (*run)(struct cli *);
};

/*
 * Parses argv into `cli` and finds the command. Returns CLI_OK with *ret_command set (NULL when
 * only help was asked for), or CLI_USAGE after saying what is wrong. words receives what is not an
 * option and must hold argc entries.
 */
int cli_parse(struct cli *cli, int argc, char **argv, char **words,
	const struct cli_command *commands, size_t num_commands,
	const struct cli_command **ret_command);

/* The help of all commands, or of those that begin with the words given. Returns CLI_OK or
 * CLI_USAGE. */
int cli_help(const struct cli_command *commands, size_t num_commands, int argc, char **words);

#endif
