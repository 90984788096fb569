/*
 * Lines for the log. They carry no names of files, no keys and no hashes of plaintext: the log is
 * read by people and copied into bug reports.
 *
 * Before the work channel is up, and from threads other than the one that called log_set_sink(), a
 * line goes to stderr, which is a pipe to the supervisor; after that it goes through the sink (a
 * work_log notice). In the supervisor there is no sink: lines go to its own stderr as
 * "bazil: text". A line is at most LOG_TEXT_MAX bytes; the rest is cut; control characters become
 * '?'.
 */
#ifndef BAZIL_WORKER_LOG_H
#define BAZIL_WORKER_LOG_H

#define LOG_TEXT_MAX 480

/* As syslog(3). */
enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARN = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

typedef void log_sink_fn(void *arg, enum log_level level, const char *text);

/* sink NULL: stderr again. The calling thread becomes the only one whose lines reach the sink. */
void log_set_sink(log_sink_fn *sink, void *arg);

/* Lines above this level are dropped; LOG_LEVEL_INFO at first. */
void log_set_level(enum log_level level);

/* The word that stderr lines begin with, "bazil" at first. Not copied. */
void log_set_name(const char *name);

__attribute__((format(printf, 2, 3))) void log_at(enum log_level level, const char *fmt, ...);

#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* "text: what err means" as an error; returns err (a negative errno), so that `return
 * log_error_errno(r, ...)`. */
__attribute__((format(printf, 2, 3))) int log_error_errno(int err, const char *fmt, ...);

/* Says why and exits with status 1: what we rely on (the supervisor, our own files) is wrong. */
__attribute__((format(printf, 1, 2))) _Noreturn void fatal(const char *fmt, ...);

/* The impossible happened: says where and dies by SIGABRT. */
#define BUG() log_bug(__FILE__, __LINE__)
_Noreturn void log_bug(const char *file, int line);

#endif
