#include "cli/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/print.h"

static int nothing(struct cli *cli)
{
	return CLI_OK;
}

static const struct cli_command commands[] = {
	{ "create", "", "", 0, 0, 0, nothing },
	{ "volume storage add", "VOLUME STORAGE", "", 2, 2, TAKES_SHARING, nothing },
	{ "volume mount", "VOLUME DIRECTORY", "", 2, 2, TAKES_READ_ONLY, nothing },
	{ "debug pubkey", "", "", 0, 0, 0, nothing },
};

struct parsed {
	struct cli cli;
	const struct cli_command *command;
	int status;
	char *words[16];
};

/* Splits a line at single spaces into argv; "~" stands for an empty argument. */
static void parse(struct parsed *p, const char *line)
{
	static char buf[512];
	static char self[] = "bazil", empty[] = "";
	char *argv[16] = { self };
	int argc = 1;

	memset(p, 0, sizeof(*p));
	snprintf(buf, sizeof(buf), "%s", line);
	for (char *s = buf; s && *s && argc < 15;) {
		char *end = strchr(s, ' ');
		if (end)
			*end++ = '\0';
		argv[argc++] = strcmp(s, "~") == 0 ? empty : s;
		s = end;
	}
	p->status = cli_parse(&p->cli, argc, argv, p->words, commands, 4, &p->command);
}

static void options__one_or_two_dashes_anywhere(void **state)
{
	static const char *const lines[] = {
		"-data-dir=/d volume storage add -sharing=friends v s",
		"--data-dir=/d volume storage add --sharing=friends v s",
		"--data-dir /d volume storage add v s -sharing friends",
		"volume -sharing=friends storage add v -data-dir /d s",
	};

	for (size_t i = 0; i < 4; i++) {
		struct parsed p;

		parse(&p, lines[i]);
		assert_int_equal(p.status, CLI_OK);
		assert_ptr_equal(p.command, &commands[1]);
		assert_string_equal(p.cli.data_dir, "/d");
		assert_string_equal(p.cli.sharing, "friends");
		assert_int_equal(p.cli.argc, 2);
		assert_string_equal(p.cli.argv[0], "v");
		assert_string_equal(p.cli.argv[1], "s");
	}
}

static void options__wrong_ones_are_usage_errors(void **state)
{
	static const char *const lines[] = {
		"-nope create",
		"create -sharing=x",
		"create extra",
		"volume",
		"volume mount v",
		"volume mount a b c",
		"-data-dir",
		"-data-dir= create",
		"-json=1 create",
		"debug",
		"creat",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct parsed p;

		parse(&p, lines[i]);
		if (p.status != CLI_USAGE)
			fail_msg("%s: status %d", lines[i], p.status);
	}
}

static void options__dashes_end_them(void **state)
{
	struct parsed p;

	parse(&p, "volume mount -- -read-only -x");
	assert_int_equal(p.status, CLI_OK);
	assert_false(p.cli.read_only);
	assert_string_equal(p.cli.argv[0], "-read-only");
	assert_string_equal(p.cli.argv[1], "-x");
	parse(&p, "volume mount -read-only v -");
	assert_true(p.cli.read_only);
	assert_string_equal(p.cli.argv[1], "-");
}

static void options__help_needs_no_arguments(void **state)
{
	struct parsed p;

	parse(&p, "volume mount -help");
	assert_int_equal(p.status, CLI_OK);
	assert_true(p.cli.help);
	assert_ptr_equal(p.command, &commands[2]);
	parse(&p, "");
	assert_int_equal(p.status, CLI_OK);
	assert_null(p.command);
}

static void escape(const char *text, const char *expected)
{
	char *got = cli_escape(text);

	assert_string_equal(got, expected);
	free(got);
}

static void print__nothing_drives_the_terminal(void **state)
{
	escape("plain", "plain");
	escape("h\xc3\xa9", "h\xc3\xa9");
	escape("\x1b[31mred", "\\x1b[31mred");
	escape("a\nb\r\x7f", "a\\x0ab\\x0d\\x7f");
	escape("\xc2\x9b", "\\xc2\\x9b");
	escape("\x9b", "\\x9b");
	escape("\xe2\x82", "\\xe2\\x82");
	escape("\xe2\x82\xac", "\xe2\x82\xac");
}

static void print__hex_and_sizes(void **state)
{
	char hex[7];

	cli_hex(hex, (const uint8_t *)"\x00\xab\xff", 3);
	assert_string_equal(hex, "00abff");
	assert_string_equal(cli_size(0), "0 B");
	assert_string_equal(cli_size(1536), "1.5 KiB");
	assert_string_equal(cli_size((uint64_t)5 << 40), "5.0 TiB");
	assert_string_equal(cli_size(UINT64_MAX), "16.0 EiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options__one_or_two_dashes_anywhere),
		cmocka_unit_test(options__wrong_ones_are_usage_errors),
		cmocka_unit_test(options__dashes_end_them),
		cmocka_unit_test(options__help_needs_no_arguments),
		cmocka_unit_test(print__nothing_drives_the_terminal),
		cmocka_unit_test(print__hex_and_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
