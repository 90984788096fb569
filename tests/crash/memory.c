/*
 * Memory that runs out at the n-th call (struct sim_faults): defined in the executable, so that the
 * libraries get it too.
 */
#include "tests/crash/simdisk.h"

#include <errno.h>
#include <stdlib.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t num, size_t size);
void *__libc_realloc(void *p, size_t size);

__attribute__((visibility("default"))) void *malloc(size_t size)
{
	if (sim_fault(true) == 0)
		return __libc_malloc(size);
	errno = ENOMEM;
	return NULL;
}

__attribute__((visibility("default"))) void *calloc(size_t num, size_t size)
{
	if (sim_fault(true) == 0)
		return __libc_calloc(num, size);
	errno = ENOMEM;
	return NULL;
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t size)
{
	if (sim_fault(true) == 0)
		return __libc_realloc(p, size);
	errno = ENOMEM;
	return NULL;
}
