/*
 * What a scope owns, it releases by itself: _cleanup_(S_freep) struct S *s = NULL.
 *
 * Give every such variable a value where it is declared: the release runs on each return after it.
 * Hand ownership on with TAKE_PTR(p) or TAKE_FD(fd), which leave NULL or -1 behind. Depends on
 * nothing but libc.
 */
#ifndef BAZIL_WORKER_SCOPE_H
#define BAZIL_WORKER_SCOPE_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) take_ptr_ = (p);                                                     \
		(p) = NULL;                                                                        \
		take_ptr_;                                                                         \
	})

#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int take_fd_ = (fd);                                                               \
		(fd) = -1;                                                                         \
		take_fd_;                                                                          \
	})

/* Defines S_freep(struct S **), which calls S_free when there is something. */
#define DEFINE_FREEP(type, func)                                                                   \
	static inline void func##p(type **p)                                                       \
	{                                                                                          \
		if (*p)                                                                            \
			func(*p);                                                                  \
	}

static inline void freep(void *p)
{
	free(*(void **)p);
}

/* Keeps errno, so that a return -errno before the end of the scope says what it meant to. */
static inline void closep(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

#endif
