/*
 * Memory of one decoded message: texts, lists and, for blocking calls, the message itself. All of
 * it is released at once, with the message. Nothing here is thread-safe.
 *
 * Start with a NULL pointer; ipc_mem_alloc() makes blocks as needed and keeps them in a list;
 * ipc_mem_free() or ipc_mem_wipe() releases every block. Sizes are bounded by the callers (a
 * datagram and the schema).
 */
#ifndef BAZIL_IPC_MEM_H
#define BAZIL_IPC_MEM_H

#include <stdbool.h>
#include <stddef.h>

struct ipc_mem;

/* size bytes of zeroed memory, aligned for any type; NULL when there is none. */
void *ipc_mem_alloc(struct ipc_mem **mem, size_t size);

void ipc_mem_free(struct ipc_mem *mem);

/* As ipc_mem_free(), of messages that carry keys: all is overwritten before. */
void ipc_mem_wipe(struct ipc_mem *mem);

#endif
