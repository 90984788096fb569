#include "cli/print.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

static const char digits[] = "0123456789abcdef";

/* Length of the UTF-8 sequence at p (RFC 3629) that a terminal shows as a character, 0 when it is
 * none. */
static size_t printable(const unsigned char *p)
{
	static const struct {
		unsigned char mask, lead, len;
	} forms[] = { { 0xe0, 0xc0, 2 }, { 0xf0, 0xe0, 3 }, { 0xf8, 0xf0, 4 } };

	if (*p < 0x80)
		return *p >= 0x20 && *p != 0x7f;
	if (*p == 0xc2 && p[1] <= 0x9f) /* C1 control characters */
		return 0;
	for (size_t i = 0; i < 3; i++) {
		size_t len = 1;

		if ((*p & forms[i].mask) != forms[i].lead)
			continue;
		while (len < forms[i].len && (p[len] & 0xc0) == 0x80)
			len++;
		return len == forms[i].len ? len : 0;
	}
	return 0;
}

char *cli_escape(const char *text)
{
	char *ret = malloc(4 * strlen(text) + 1);
	char *o = ret;

	if (!ret)
		abort();
	for (const unsigned char *p = (const unsigned char *)text; *p;) {
		size_t len = printable(p);

		if (len) {
			memcpy(o, p, len);
			o += len;
			p += len;
			continue;
		}
		*o++ = '\\';
		*o++ = 'x';
		*o++ = digits[*p >> 4];
		*o++ = digits[*p++ & 15];
	}
	*o = '\0';
	return ret;
}

int cli_error(const char *fmt, ...)
{
	char *text, *escaped;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	escaped = cli_escape(text);
	cli_progress_end();
	fprintf(stderr, "bazil: %s\n", escaped);
	free(text);
	free(escaped);
	return CLI_FAILED;
}

int cli_request_error(const char *what, int err, const char *text)
{
	size_t len = strlen(what);

	/* Some texts say themselves what was tried. */
	if (text && strncmp(text, what, len) == 0 && text[len] == ':')
		return cli_error("%s", text);
	if (text && *text)
		return cli_error("%s: %s", what, text);
	if (err == -ECONNRESET)
		return cli_error(
			"%s: the server went away: see `bazil server status`, then try again",
			what);
	if (err == -ETIMEDOUT)
		return cli_error(
			"%s: no answer in time: see `bazil server status`, then try again", what);
	return cli_error("%s: %s", what, strerror(-err));
}

void cli_hex(char *ret, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		*ret++ = digits[data[i] >> 4];
		*ret++ = digits[data[i] & 15];
	}
	*ret = '\0';
}

json_t *cli_json_hex(const uint8_t *data, size_t len)
{
	char hex[2 * 64 + 1];

	cli_hex(hex, data, len < 64 ? len : 64);
	return json_string(hex);
}

json_t *cli_json_text(const char *text)
{
	json_t *ret = json_string(text);
	char *escaped;

	if (ret)
		return ret;
	escaped = cli_escape(text);
	ret = json_string(escaped);
	free(escaped);
	return ret;
}

const char *cli_time(uint64_t ns)
{
	static char ring[4][48];
	static unsigned next;
	char *ret = ring[next++ % 4], date[24], zone[8];
	time_t s = (time_t)(ns / 1000000000);
	struct tm tm;

	if (!localtime_r(&s, &tm))
		return "?";
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	strftime(zone, sizeof(zone), "%z", &tm);
	snprintf(ret, sizeof(ring[0]), "%s.%03u%.3s:%s", date,
		(unsigned)(ns % 1000000000 / 1000000), zone, zone + 3);
	return ret;
}

int cli_flush(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return CLI_OK;
	return cli_error("output: %s", strerror(errno));
}

int cli_print_json(json_t *value)
{
	int r = json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);

	json_decref(value);
	putchar('\n');
	return r < 0 ? cli_error("output: %s", strerror(errno)) : cli_flush();
}

const char *cli_size(uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	static char ring[8][32];
	static unsigned next;
	char *ret = ring[next++ % 8];
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit < 6) {
		value /= 1024;
		unit++;
	}
	snprintf(ret, sizeof(ring[0]), unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return ret;
}

static bool bar_shown;

void cli_progress(const char *what, uint64_t done, uint64_t total, const char *text)
{
	char *escaped;

	if (!isatty(STDERR_FILENO))
		return;
	escaped = cli_escape(text ? text : "");
	if (total) {
		int filled = (int)(done < total ? done * 30 / total : 30);
		fprintf(stderr, "\r%s [%.*s%*s] %3d%% %s\033[K", what, filled,
			"##############################", 30 - filled, "",
			(int)(done < total ? done * 100 / total : 100), escaped);
	} else {
		fprintf(stderr, "\r%s %llu %s\033[K", what, (unsigned long long)done, escaped);
	}
	bar_shown = true;
	free(escaped);
}

void cli_progress_end(void)
{
	if (bar_shown)
		fprintf(stderr, "\r\033[K");
	bar_shown = false;
}
