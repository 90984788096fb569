#include "mountd/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define LOG_MAGIC   UINT32_C(0x474c5a42) /* "BZLG" */
#define LOG_VERSION 2
#define LOG_OLD	    1 /* without attributes in the heads */
#define NUM_HEADS   8192u
#define FILE_END    (UINT64_C(1) << 62) /* no extent reaches beyond */

enum slot_state {
	SLOT_FREE = 0,
	SLOT_DATA = 1,
	SLOT_ZERO = 2,
};

struct log_header {
	uint32_t magic, version;
	uint64_t size;
	uint8_t pad[4096 - 16];
};

struct log_head {
	uint32_t used, pad;
	struct dirty_head head;
};

#define OLD_HEAD      offsetof(struct dirty_head, atime)
#define OLD_HEAD_SIZE 64u

struct log_slot {
	uint64_t oid, offset, len, seq;
	uint32_t state, pad;
	uint64_t spare[3];
};

struct dirty_log {
	struct log_header *header;
	uint8_t *heads;
	size_t head_size;
	struct log_slot *slots;
	uint8_t *data;
	size_t size;
	uint32_t num_slots;
	uint32_t *free_slots, num_free_slots; /* a stack */
	uint32_t *free_heads, num_free_heads;
	uint64_t seq;
};

static struct log_head *head_at(const struct dirty_log *log, uint32_t index)
{
	return (struct log_head *)(log->heads + index * log->head_size);
}

static void log_layout(struct dirty_log *log)
{
	uint8_t *base = (uint8_t *)log->header;
	size_t fixed, slots_size;

	log->head_size = log->header->version == LOG_OLD ? OLD_HEAD_SIZE : sizeof(struct log_head);
	fixed = sizeof(struct log_header) + NUM_HEADS * log->head_size;
	log->num_slots = (uint32_t)((log->size - fixed - DIRTY_BLOCK) /
				    (DIRTY_BLOCK + sizeof(struct log_slot)));
	slots_size = log->num_slots * sizeof(struct log_slot);
	slots_size = (slots_size + DIRTY_BLOCK - 1) / DIRTY_BLOCK * DIRTY_BLOCK;
	log->heads = base + sizeof(struct log_header);
	log->slots = (struct log_slot *)(base + fixed);
	log->data = base + fixed + slots_size;
}

static void collect_free(struct dirty_log *log)
{
	for (uint32_t i = log->num_slots; i-- > 0;)
		if (log->slots[i].state == SLOT_FREE)
			log->free_slots[log->num_free_slots++] = i;
		else if (log->slots[i].seq > log->seq)
			log->seq = log->slots[i].seq;
	for (uint32_t i = NUM_HEADS; i-- > 0;)
		if (!head_at(log, i)->used)
			log->free_heads[log->num_free_heads++] = i;
}

int dirty_log_open(struct dirty_log **ret, int fd)
{
	struct dirty_log *log;
	struct stat st;
	int r = -ENOMEM;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < (1 << 20) || st.st_size > (1 << 30))
		return -EBADMSG;
	log = calloc(1, sizeof(*log));
	if (log == NULL)
		return -ENOMEM;
	log->size = (size_t)st.st_size;
	log->header = mmap(NULL, log->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (log->header == MAP_FAILED) {
		r = -errno;
		free(log);
		return r;
	}
	if (log->header->magic == 0) {
		log->header->version = LOG_VERSION;
		log->header->size = log->size;
		__atomic_store_n(&log->header->magic, LOG_MAGIC, __ATOMIC_RELEASE);
	}
	r = -EPROTONOSUPPORT;
	if (log->header->magic != LOG_MAGIC || log->header->size != log->size ||
		(log->header->version != LOG_VERSION && log->header->version != LOG_OLD))
		goto close;
	log_layout(log);
	log->free_slots = calloc(log->num_slots, sizeof(uint32_t));
	log->free_heads = calloc(NUM_HEADS, sizeof(uint32_t));
	r = -ENOMEM;
	if (log->free_slots == NULL || log->free_heads == NULL)
		goto close;
	collect_free(log);
	*ret = log;
	return 0;
close:
	dirty_log_close(log);
	return r;
}

void dirty_log_close(struct dirty_log *log)
{
	if (log == NULL)
		return;
	munmap(log->header, log->size);
	free(log->free_slots);
	free(log->free_heads);
	free(log);
}

uint32_t dirty_log_free_slots(const struct dirty_log *log)
{
	return log->num_free_slots;
}

uint32_t dirty_log_num_slots(const struct dirty_log *log)
{
	return log->num_slots;
}

uint32_t dirty_log_free_heads(const struct dirty_log *log)
{
	return log->num_free_heads;
}

bool dirty_log_is_filling(const struct dirty_log *log)
{
	return log->num_free_slots < log->num_slots / 4 * 3 ||
	       log->num_free_heads < NUM_HEADS / 4 * 3;
}

bool dirty_log_takes_attrs(const struct dirty_log *log)
{
	return log->head_size >= sizeof(struct log_head);
}

uint64_t dirty_log_seq(const struct dirty_log *log)
{
	return log->seq;
}

uint32_t dirty_slots_for(uint64_t len)
{
	/* Two blocks cut at the ends, and a zero extent that the write may split. */
	return (uint32_t)(len / DIRTY_BLOCK + 4);
}

int dirty_head_set(struct dirty_log *log, uint32_t *index, const struct dirty_head *head)
{
	struct log_head *slot;

	if (*index == DIRTY_NO_HEAD) {
		if (log->num_free_heads == 0)
			return -ENOSPC;
		*index = log->free_heads[--log->num_free_heads];
	}
	slot = head_at(log, *index);
	if (!dirty_log_takes_attrs(log)) {
		memcpy(&slot->head, head, OLD_HEAD);
	} else if (head->holds_attr && !(slot->used && slot->head.holds_attr)) {
		/* Killed in the middle, what is said to be held must be all there. */
		struct dirty_head first = *head;

		first.holds_attr = 0;
		slot->head = first;
		__atomic_store_n(&slot->head.holds_attr, 1, __ATOMIC_RELEASE);
	} else {
		slot->head = *head;
	}
	__atomic_store_n(&slot->used, 1, __ATOMIC_RELEASE);
	return 0;
}

void dirty_head_drop(struct dirty_log *log, uint32_t *index)
{
	if (*index == DIRTY_NO_HEAD)
		return;
	__atomic_store_n(&head_at(log, *index)->used, 0, __ATOMIC_RELEASE);
	log->free_heads[log->num_free_heads++] = *index;
	*index = DIRTY_NO_HEAD;
}

static uint8_t *slot_data(const struct dirty_log *log, uint32_t slot)
{
	return log->data + (size_t)slot * DIRTY_BLOCK;
}

const uint8_t *dirty_data(const struct dirty_log *log, const struct dirty_extent *extent)
{
	return slot_data(log, extent->slot) + extent->offset % DIRTY_BLOCK;
}

static uint32_t slot_take(struct dirty_log *log)
{
	if (log->num_free_slots == 0)
		abort(); /* the caller did not make room: going on would lose written bytes */
	return log->free_slots[--log->num_free_slots];
}

static void slot_set(struct dirty_log *log, const struct dirty_extent *extent, uint64_t oid)
{
	struct log_slot *slot = &log->slots[extent->slot];

	slot->oid = oid;
	slot->offset = extent->offset;
	slot->len = extent->len;
	slot->seq = extent->seq;
	/* The bytes are in place before the slot counts. */
	__atomic_store_n(&slot->state, extent->is_zero ? SLOT_ZERO : SLOT_DATA, __ATOMIC_RELEASE);
}

static void slot_free(struct dirty_log *log, uint32_t slot)
{
	__atomic_store_n(&log->slots[slot].state, SLOT_FREE, __ATOMIC_RELEASE);
	log->free_slots[log->num_free_slots++] = slot;
}

size_t dirty_find(const struct dirty_file *file, uint64_t offset)
{
	size_t low = 0, high = file->num;

	if (high > 0 && file->extents[high - 1].offset + file->extents[high - 1].len <= offset)
		return high;
	while (low < high) {
		size_t mid = (low + high) / 2;

		if (file->extents[mid].offset + file->extents[mid].len <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void index_insert(struct dirty_file *file, size_t at, const struct dirty_extent *extent)
{
	if (file->num == file->cap) {
		size_t cap = file->cap ? file->cap * 2 : 4;
		struct dirty_extent *extents = realloc(file->extents, cap * sizeof(*extents));

		if (extents == NULL)
			abort(); /* bounded by the number of slots */
		file->extents = extents;
		file->cap = cap;
	}
	memmove(file->extents + at + 1, file->extents + at,
		(file->num - at) * sizeof(*file->extents));
	file->extents[at] = *extent;
	file->num++;
	if (!extent->is_zero)
		file->bytes += extent->len;
}

static void index_remove(struct dirty_file *file, size_t at, size_t num)
{
	if (num == 0)
		return; /* also: there may be no array yet */
	for (size_t i = at; i < at + num; i++)
		if (!file->extents[i].is_zero)
			file->bytes -= file->extents[i].len;
	memmove(file->extents + at, file->extents + at + num,
		(file->num - at - num) * sizeof(*file->extents));
	file->num -= num;
}

static void insert_zero(struct dirty_log *log, struct dirty_file *file, uint64_t oid, size_t at,
	uint64_t offset, uint64_t end, uint64_t seq)
{
	struct dirty_extent extent = { .offset = offset,
		.len = end - offset,
		.seq = seq,
		.slot = slot_take(log),
		.is_zero = true };

	slot_set(log, &extent, oid);
	index_insert(file, at, &extent);
}

/* Cuts [offset, end), whole blocks, out of the zero extent at index at. What is left of it keeps
 * its seq: the newer slot wins over it when the new pieces did not all make it. Returns the slot of
 * the whole, to be freed when what takes its place counts. */
static uint32_t cut_zero(struct dirty_log *log, struct dirty_file *file, uint64_t oid, size_t at,
	uint64_t offset, uint64_t end)
{
	struct dirty_extent zero = file->extents[at];
	uint64_t zero_end = zero.offset + zero.len;

	if (zero_end > end)
		insert_zero(log, file, oid, at + 1, end, zero_end, zero.seq);
	if (zero.offset < offset)
		insert_zero(log, file, oid, at + 1, zero.offset, offset, zero.seq);
	index_remove(file, at, 1);
	return zero.slot;
}

/* A piece of a block that starts inside or just at the end of the one extent of that block: the
 * case of appends and of rewrites, done in place. A kill in the middle leaves a part of the new
 * bytes; the kernel sends the write again. */
static bool write_in_place(struct dirty_log *log, struct dirty_file *file, size_t at,
	uint64_t offset, const uint8_t *data, size_t len)
{
	struct dirty_extent *extent = &file->extents[at];
	uint64_t block_end = offset / DIRTY_BLOCK * DIRTY_BLOCK + DIRTY_BLOCK;
	uint64_t end = offset + len;
	struct log_slot *slot = &log->slots[extent->slot];

	if (extent->is_zero || extent->offset > offset || extent->offset + extent->len < offset)
		return false;
	if (at + 1 < file->num && file->extents[at + 1].offset < block_end &&
		file->extents[at + 1].offset <= end)
		return false;
	memcpy(slot_data(log, extent->slot) + offset % DIRTY_BLOCK, data, len);
	extent->seq = slot->seq = ++log->seq;
	if (end > extent->offset + extent->len) {
		file->bytes += end - (extent->offset + extent->len);
		extent->len = end - extent->offset;
		__atomic_store_n(&slot->len, extent->len, __ATOMIC_RELEASE);
	}
	return true;
}

/* The general case: a fresh slot takes the new bytes and those of every extent that they touch. */
static void write_fresh(struct dirty_log *log, struct dirty_file *file, uint64_t oid,
	uint64_t offset, const uint8_t *data, size_t len)
{
	uint64_t block = offset / DIRTY_BLOCK * DIRTY_BLOCK, end = offset + len;
	struct dirty_extent fresh = { .slot = slot_take(log), .seq = ++log->seq };
	uint8_t *to = slot_data(log, fresh.slot);
	uint64_t start = offset, stop = end;
	size_t at = dirty_find(file, block), first, num = 0;
	uint32_t whole = UINT32_MAX;

	if (at < file->num && file->extents[at].is_zero && file->extents[at].offset <= block) {
		whole = cut_zero(log, file, oid, at, block, block + DIRTY_BLOCK);
		/* The rest of the block must go on reading as zeros. */
		memset(to, 0, DIRTY_BLOCK);
		start = block;
		stop = block + DIRTY_BLOCK;
		at = dirty_find(file, block);
	}
	while (at < file->num && file->extents[at].offset + file->extents[at].len < offset)
		at++;
	first = at;
	for (; at < file->num && file->extents[at].offset <= end &&
		file->extents[at].offset < block + DIRTY_BLOCK;
		at++, num++) {
		const struct dirty_extent *old = &file->extents[at];

		memcpy(to + old->offset % DIRTY_BLOCK, dirty_data(log, old), old->len);
		start = old->offset < start ? old->offset : start;
		stop = old->offset + old->len > stop ? old->offset + old->len : stop;
	}
	memcpy(to + offset % DIRTY_BLOCK, data, len);
	fresh.offset = start;
	fresh.len = stop - start;
	slot_set(log, &fresh, oid);
	if (whole != UINT32_MAX)
		slot_free(log, whole);
	for (size_t i = first; i < first + num; i++)
		slot_free(log, file->extents[i].slot);
	index_remove(file, first, num);
	index_insert(file, first, &fresh);
}

void dirty_write(struct dirty_log *log, struct dirty_file *file, uint64_t oid, uint64_t offset,
	const void *data, size_t len)
{
	const uint8_t *from = data;

	while (len > 0) {
		size_t n = DIRTY_BLOCK - offset % DIRTY_BLOCK;
		size_t at;

		n = n < len ? n : len;
		at = dirty_find(file, offset);
		/* One that ends just here can be appended to, but not across a block. */
		if (at > 0 && offset % DIRTY_BLOCK != 0 && !file->extents[at - 1].is_zero &&
			file->extents[at - 1].offset + file->extents[at - 1].len == offset)
			at--;
		if (at == file->num || !write_in_place(log, file, at, offset, from, n))
			write_fresh(log, file, oid, offset, from, n);
		offset += n;
		from += n;
		len -= n;
	}
}

static void zero_blocks(
	struct dirty_log *log, struct dirty_file *file, uint64_t oid, uint64_t offset, uint64_t end)
{
	size_t at = dirty_find(file, offset), num = 0;

	if (at < file->num && file->extents[at].is_zero && file->extents[at].offset < offset) {
		slot_free(log, cut_zero(log, file, oid, at, offset, end));
		at = dirty_find(file, offset);
	}
	while (at + num < file->num && file->extents[at + num].offset < end) {
		const struct dirty_extent *old = &file->extents[at + num];

		if (old->offset + old->len > end) { /* a zero extent that goes on */
			slot_free(log, cut_zero(log, file, oid, at + num, offset, end));
			break;
		}
		slot_free(log, old->slot);
		num++;
	}
	index_remove(file, at, num);
	insert_zero(log, file, oid, at, offset, end, ++log->seq);
}

void dirty_zero(
	struct dirty_log *log, struct dirty_file *file, uint64_t oid, uint64_t offset, uint64_t len)
{
	static const uint8_t zeros[DIRTY_BLOCK];
	uint64_t end = offset + len;
	uint64_t first = (offset + DIRTY_BLOCK - 1) / DIRTY_BLOCK * DIRTY_BLOCK;
	uint64_t last = end / DIRTY_BLOCK * DIRTY_BLOCK;

	if (first >= last) {
		uint64_t cut = first < end ? first : end;

		dirty_write(log, file, oid, offset, zeros, (size_t)(cut - offset));
		dirty_write(log, file, oid, cut, zeros, (size_t)(end - cut));
		return;
	}
	if (offset < first)
		dirty_write(log, file, oid, offset, zeros, (size_t)(first - offset));
	zero_blocks(log, file, oid, first, last);
	if (last < end)
		dirty_write(log, file, oid, last, zeros, (size_t)(end - last));
}

void dirty_truncate(struct dirty_log *log, struct dirty_file *file, uint64_t size)
{
	size_t at = dirty_find(file, size);

	if (at < file->num && file->extents[at].offset < size) {
		struct dirty_extent *extent = &file->extents[at];

		if (extent->is_zero) {
			/* Kept whole blocks: the part beyond size is cut by the head's size. */
			extent->len = (size - extent->offset + DIRTY_BLOCK - 1) / DIRTY_BLOCK *
				      DIRTY_BLOCK;
		} else {
			file->bytes -= extent->offset + extent->len - size;
			extent->len = size - extent->offset;
		}
		__atomic_store_n(&log->slots[extent->slot].len, extent->len, __ATOMIC_RELEASE);
		at++;
	}
	for (size_t i = at; i < file->num; i++)
		slot_free(log, file->extents[i].slot);
	index_remove(file, at, file->num - at);
}

void dirty_release(
	struct dirty_log *log, struct dirty_file *file, uint64_t offset, uint64_t len, uint64_t seq)
{
	uint64_t end = offset + len;
	size_t from = dirty_find(file, offset), to = from;

	for (size_t i = from; i < file->num; i++) {
		struct dirty_extent *extent = &file->extents[i];

		if (extent->offset >= offset && extent->offset + extent->len <= end &&
			extent->seq <= seq) {
			slot_free(log, extent->slot);
			if (!extent->is_zero)
				file->bytes -= extent->len;
		} else {
			file->extents[to++] = *extent;
		}
	}
	file->num = to;
}

void dirty_clear(struct dirty_log *log, struct dirty_file *file)
{
	for (size_t i = 0; i < file->num; i++)
		slot_free(log, file->extents[i].slot);
	free(file->extents);
	*file = (struct dirty_file){ 0 };
}

/* --- what a dead mountd left --- */

static bool slot_is_sane(const struct log_slot *slot)
{
	if (slot->oid == 0 || slot->len == 0 || slot->offset > FILE_END || slot->len > FILE_END)
		return false;
	switch ((enum slot_state)slot->state) {
	case SLOT_DATA:
		return slot->offset % DIRTY_BLOCK + slot->len <= DIRTY_BLOCK;
	case SLOT_ZERO:
		return slot->offset % DIRTY_BLOCK == 0 && slot->len % DIRTY_BLOCK == 0;
	case SLOT_FREE:
		break;
	}
	return false;
}

static int compare_slots(const void *a, const void *b, void *arg)
{
	const struct log_slot *slots = arg;
	const struct log_slot *x = &slots[*(const uint32_t *)a], *y = &slots[*(const uint32_t *)b];

	if (x->oid != y->oid)
		return x->oid < y->oid ? -1 : 1;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* Replays a slot over the older ones of its file, as the write that it came from. The slot itself
 * is freed first: replaying needs at most the slots that it frees, but for a zero extent cut in
 * two, which the reserve of free slots covers. */
static void adopt(struct dirty_log *log, struct dirty_file *file, uint32_t index)
{
	const struct log_slot slot = log->slots[index];
	size_t at = dirty_find(file, slot.offset);
	struct dirty_extent extent = { .offset = slot.offset,
		.len = slot.len,
		.seq = slot.seq,
		.slot = index,
		.is_zero = slot.state == SLOT_ZERO };
	uint8_t copy[DIRTY_BLOCK];

	if (at == file->num || file->extents[at].offset >= slot.offset + slot.len) {
		index_insert(file, at, &extent);
		return;
	}
	if (extent.is_zero) {
		slot_free(log, index);
		zero_blocks(log, file, slot.oid, slot.offset, slot.offset + slot.len);
		return;
	}
	memcpy(copy, dirty_data(log, &extent), slot.len);
	slot_free(log, index);
	dirty_write(log, file, slot.oid, slot.offset, copy, slot.len);
}

int dirty_recover(struct dirty_log *log, const struct dirty_recovery *recovery)
{
	uint32_t *order = calloc(log->num_slots + 1, sizeof(*order)), num = 0;
	struct dirty_file *file = NULL;
	uint64_t oid = 0;

	if (order == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < NUM_HEADS; i++) {
		struct dirty_head head = { 0 };
		uint32_t index = i;

		if (!head_at(log, i)->used)
			continue;
		memcpy(&head, &head_at(log, i)->head,
			dirty_log_takes_attrs(log) ? sizeof(head) : OLD_HEAD);
		if (head.oid == 0 || head.size > FILE_END ||
			!recovery->on_head(recovery->ctx, i, &head))
			dirty_head_drop(log, &index);
	}
	for (uint32_t i = 0; i < log->num_slots; i++) {
		if (log->slots[i].state == SLOT_FREE)
			continue;
		if (slot_is_sane(&log->slots[i]))
			order[num++] = i;
		else
			slot_free(log, i);
	}
	qsort_r(order, num, sizeof(*order), compare_slots, log->slots);
	for (uint32_t i = 0; i < num; i++) {
		if (log->slots[order[i]].oid != oid) {
			oid = log->slots[order[i]].oid;
			file = recovery->on_file(recovery->ctx, oid);
		}
		if (file == NULL)
			slot_free(log, order[i]);
		else
			adopt(log, file, order[i]);
	}
	free(order);
	return 0;
}
