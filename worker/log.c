#include "worker/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The log is the one thing of a process that has no owner to be passed down from. */
static log_sink_fn *log_sink;
static void *log_sink_arg;
static pid_t log_sink_thread;
static enum log_level log_max = LOG_LEVEL_INFO;
static const char *log_name = "bazil";

void log_set_sink(log_sink_fn *sink, void *arg)
{
	log_sink = sink;
	log_sink_arg = arg;
	log_sink_thread = gettid();
}

void log_set_level(enum log_level level)
{
	log_max = level;
}

void log_set_name(const char *name)
{
	log_name = name;
}

static void put_line(enum log_level level, char *text)
{
	char line[LOG_TEXT_MAX + 64];
	int n;

	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	if (log_sink && gettid() == log_sink_thread) {
		log_sink(log_sink_arg, level, text);
		return;
	}
	/* One write, shorter than PIPE_BUF: lines of several threads or processes do not mix. */
	n = snprintf(line, sizeof(line), "%s: %s\n", log_name, text);
	if (n > (int)sizeof(line) - 1)
		n = sizeof(line) - 1;
	while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR)
		;
}

void log_at(enum log_level level, const char *fmt, ...)
{
	char text[LOG_TEXT_MAX + 1];
	int saved = errno;
	va_list ap;

	if (level > log_max)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	put_line(level, text);
	errno = saved;
}

int log_error_errno(int err, const char *fmt, ...)
{
	char text[LOG_TEXT_MAX + 1];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n >= 0 && n < LOG_TEXT_MAX)
		snprintf(text + n, sizeof(text) - n, ": %s", strerror(err < 0 ? -err : err));
	put_line(LOG_LEVEL_ERROR, text);
	return err;
}

_Noreturn void fatal(const char *fmt, ...)
{
	char text[LOG_TEXT_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* Past the sink: nobody runs the loop any more that would send what it queued. */
	log_sink = NULL;
	put_line(LOG_LEVEL_ERROR, text);
	_exit(1);
}

_Noreturn void log_bug(const char *file, int line)
{
	log_sink = NULL;
	log_error("impossible state at %s:%d", file, line);
	abort();
}
