#include "heap.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS_MAX 8192

void *__real_malloc(size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t num, size_t size);
void *__wrap_realloc(void *p, size_t size);
void __wrap_free(void *p);

static void *blocks[BLOCKS_MAX];
static size_t num_blocks;
static const void *wanted;
static size_t wanted_len;
static unsigned num_freed;

static unsigned has(void *p)
{
	return wanted && memmem(p, malloc_usable_size(p), wanted, wanted_len) != NULL;
}

void *__wrap_malloc(size_t size)
{
	void *p = __real_malloc(size);

	if (!p)
		return NULL;
	if (num_blocks == BLOCKS_MAX)
		abort();
	/* What others left there is not of the one who gets it. */
	memset(p, 0, malloc_usable_size(p));
	return blocks[num_blocks++] = p;
}

void *__wrap_calloc(size_t num, size_t size)
{
	return num && size > (size_t)-1 / num ? NULL : __wrap_malloc(num * size);
}

void *__wrap_realloc(void *p, size_t size)
{
	void *bigger = __wrap_malloc(size);
	size_t len = p ? malloc_usable_size(p) : 0;

	if (!bigger)
		return NULL;
	if (p)
		memcpy(bigger, p, len < size ? len : size);
	__wrap_free(p);
	return bigger;
}

void __wrap_free(void *p)
{
	for (size_t i = num_blocks; p && i-- > 0;) {
		if (blocks[i] != p)
			continue;
		num_freed += has(p);
		blocks[i] = blocks[--num_blocks];
		break;
	}
	__real_free(p);
}

void heap_watch(const void *bytes, size_t len)
{
	wanted = bytes;
	wanted_len = len;
	num_freed = 0;
}

unsigned heap_in_use(void)
{
	unsigned num = 0;

	for (size_t i = 0; i < num_blocks; i++)
		num += has(blocks[i]);
	return num;
}

unsigned heap_freed(void)
{
	return num_freed;
}
