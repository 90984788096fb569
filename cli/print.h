/*
 * Output of bazil(1): errors in one form, values escaped, hex, JSON.
 *
 * Names and texts may come from a peer or from a file name: everything printed that is not ours
 * goes through cli_escape(), so that it cannot drive the terminal.
 */
#ifndef BAZIL_CLI_PRINT_H
#define BAZIL_CLI_PRINT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* "bazil: " + the formatted text, escaped, on stderr. Returns CLI_FAILED, for `return
 * cli_error(..)`. */
int cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The same for the error of a request: `text` is the worker's, or NULL and then the errno speaks.
 */
int cli_request_error(const char *what, int err, const char *text);

/*
 * Escapes control characters (C0, DEL, C1) and what is not UTF-8 as \xNN. Returns a malloc'ed
 * string, never NULL.
 */
char *cli_escape(const char *text);

/* Lower-case hex of len bytes into ret, which holds 2 * len + 1 bytes. */
void cli_hex(char *ret, const uint8_t *data, size_t len);
json_t *cli_json_hex(const uint8_t *data, size_t len);

/* A path or name, which may be no UTF-8: escaped then. */
json_t *cli_json_text(const char *text);
/* "2026-11-21T10:00:00.123+01:00", local time, of ns since 1970. A static ring of four. */
const char *cli_time(uint64_t ns);

/* Prints the value with a newline and drops it. Returns CLI_OK, or CLI_FAILED when stdout failed.
 */
int cli_print_json(json_t *value);

/* Flushes stdout; CLI_FAILED with a message when what was printed did not arrive (a full disk). */
int cli_flush(void);

/* "1.5 GiB" into a static ring of buffers (eight calls stay valid). */
const char *cli_size(uint64_t bytes);

/* A progress bar on stderr when that is a terminal; nothing otherwise. total 0: a count only. */
void cli_progress(const char *what, uint64_t done, uint64_t total, const char *text);
void cli_progress_end(void);

#endif
