#include "ipc/mem.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_MIN 1000

struct ipc_mem {
	struct ipc_mem *next;
	size_t used, size;
	alignas(max_align_t) uint8_t data[];
};

static struct ipc_mem *mem_grow(struct ipc_mem **mem, size_t size)
{
	struct ipc_mem *m;

	if (size < BLOCK_MIN)
		size = BLOCK_MIN;
	m = malloc(sizeof(*m) + size);
	if (!m)
		return NULL;
	m->used = 0;
	m->size = size;
	m->next = *mem;
	*mem = m;
	return m;
}

void *ipc_mem_alloc(struct ipc_mem **mem, size_t size)
{
	const size_t align = alignof(max_align_t) - 1;
	struct ipc_mem *m = *mem;
	void *p;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + align) & ~align;
	if (!m || m->size - m->used < size)
		m = mem_grow(mem, size);
	if (!m)
		return NULL;
	p = m->data + m->used;
	m->used += size;
	return memset(p, 0, size);
}

void ipc_mem_free(struct ipc_mem *mem)
{
	while (mem) {
		struct ipc_mem *next = mem->next;
		free(mem);
		mem = next;
	}
}

void ipc_mem_wipe(struct ipc_mem *mem)
{
	for (struct ipc_mem *m = mem; m; m = m->next)
		explicit_bzero(m->data, m->used);
	ipc_mem_free(mem);
}
