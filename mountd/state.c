#include "mountd/state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define STATE_MAGIC   UINT32_C(0x53545a42) /* "BZTS" */
#define STATE_VERSION 2
#define UNIQUE_RESENT (UINT64_C(1) << 63)

struct state_instant {
	uint64_t time; /* 0: free */
	int64_t held;
};

struct state_page {
	uint32_t magic, version;
	uint32_t init_len, reply_len;
	uint8_t init[STATE_INIT_MAX];
	uint8_t reply[STATE_REPLY_MAX];
	uint64_t unique, oid, position; /* position UINT64_MAX: no intent */
	uint64_t at;
	uint32_t next_instant; /* where the search for a free place begins */
	uint32_t num_replicas;
	struct state_instant instants[STATE_INSTANTS];
	uint32_t replicas[STATE_REPLICAS];
};

int state_lock(int fd, int *ret_fd)
{
	/* The descriptor is never closed: with any of the file, a process's locks go. */
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fd < 0 || fcntl(fd, F_SETLK, &lock) < 0)
		return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
	*ret_fd = fd;
	return 0;
}

int state_map(struct state *state, int fd)
{
	struct stat st;
	struct state_page *page;

	if (fstat(fd, &st) < 0)
		return -errno;
	if ((size_t)st.st_size < sizeof(*page))
		return -EBADMSG;
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return -errno;
	if (page->magic == 0) {
		page->position = UINT64_MAX;
		page->version = STATE_VERSION;
		__atomic_store_n(&page->magic, STATE_MAGIC, __ATOMIC_RELEASE);
	}
	if (page->magic != STATE_MAGIC || page->version != STATE_VERSION) {
		munmap(page, sizeof(*page));
		return -EPROTONOSUPPORT;
	}
	state->page = page;
	return 0;
}

void state_unmap(struct state *state)
{
	if (state->page != NULL)
		munmap(state->page, sizeof(*state->page));
	state->page = NULL;
}

bool state_has_init(const struct state *state)
{
	return __atomic_load_n(&state->page->init_len, __ATOMIC_ACQUIRE) != 0;
}

int state_save_init(
	struct state *state, const void *init, size_t init_len, const void *reply, size_t reply_len)
{
	struct state_page *page = state->page;

	if (init_len == 0 || init_len > STATE_INIT_MAX || reply_len > STATE_REPLY_MAX)
		return -EMSGSIZE;
	memcpy(page->init, init, init_len);
	memcpy(page->reply, reply, reply_len);
	page->reply_len = (uint32_t)reply_len;
	/* The length goes last: a death before this line leaves a mount that was never answered,
	 * and the kernel sends its INIT again. */
	__atomic_store_n(&page->init_len, (uint32_t)init_len, __ATOMIC_RELEASE);
	return 0;
}

int state_load_init(const struct state *state, uint8_t ret_init[STATE_INIT_MAX],
	size_t *ret_init_len, uint8_t ret_reply[STATE_REPLY_MAX], size_t *ret_reply_len)
{
	const struct state_page *page = state->page;
	size_t init_len = page->init_len, reply_len = page->reply_len;

	if (init_len == 0)
		return -ENOENT;
	if (init_len > STATE_INIT_MAX || reply_len > STATE_REPLY_MAX)
		return -EBADMSG;
	memcpy(ret_init, page->init, init_len);
	memcpy(ret_reply, page->reply, reply_len);
	*ret_init_len = init_len;
	*ret_reply_len = reply_len;
	return 0;
}

void state_intend(struct state *state, uint64_t unique, uint64_t oid, uint64_t position)
{
	struct state_page *page = state->page;

	/* Killed between two of these lines, the intent must not look done: position first away,
	 * last in place. */
	__atomic_store_n(&page->position, UINT64_MAX, __ATOMIC_SEQ_CST);
	page->unique = unique & ~UNIQUE_RESENT;
	page->oid = oid;
	__atomic_store_n(&page->position, position, __ATOMIC_SEQ_CST);
}

bool state_was_done(
	const struct state *state, uint64_t unique, uint64_t ring_head, uint64_t *ret_oid)
{
	const struct state_page *page = state->page;

	if (!(unique & UNIQUE_RESENT) || page->position > ring_head)
		return false;
	if (page->unique != (unique & ~UNIQUE_RESENT))
		return false;
	*ret_oid = page->oid;
	return true;
}

uint64_t state_at(const struct state *state)
{
	return state->page->at;
}

void state_set_at(struct state *state, uint64_t at)
{
	state->page->at = at;
}

uint32_t state_instant_find(const struct state *state, uint64_t time)
{
	for (uint32_t i = 1; i < STATE_INSTANTS; i++)
		if (state->page->instants[i].time == time)
			return i;
	return 0;
}

int state_instant_take(struct state *state, uint64_t time, uint32_t *ret_index, bool *ret_reused)
{
	struct state_page *page = state->page;

	for (uint32_t n = 0; n < STATE_INSTANTS; n++) {
		uint32_t i = (page->next_instant + n) % STATE_INSTANTS;
		struct state_instant *instant = &page->instants[i];

		if (i == 0 || (instant->time != 0 && instant->held > 0))
			continue;
		*ret_reused = instant->time != 0;
		instant->held = 0;
		instant->time = time;
		page->next_instant = i + 1;
		*ret_index = i;
		return 0;
	}
	return -ENFILE;
}

uint64_t state_instant_time(const struct state *state, uint32_t index)
{
	return index < STATE_INSTANTS ? state->page->instants[index].time : 0;
}

void state_instant_count(struct state *state, uint32_t index, int64_t change)
{
	if (index > 0 && index < STATE_INSTANTS)
		state->page->instants[index].held += change;
}

int state_replica_take(struct state *state, uint32_t replica, uint32_t *ret_index)
{
	struct state_page *page = state->page;
	uint32_t num = page->num_replicas < STATE_REPLICAS ? page->num_replicas : STATE_REPLICAS;

	for (uint32_t i = 0; i < num; i++)
		if (page->replicas[i] == replica) {
			*ret_index = i;
			return 0;
		}
	if (num == STATE_REPLICAS)
		return -ENFILE;
	page->replicas[num] = replica;
	page->num_replicas = num + 1;
	*ret_index = num;
	return 0;
}

uint32_t state_replica(const struct state *state, uint32_t index)
{
	return index < STATE_REPLICAS ? state->page->replicas[index] : 0;
}
