#include "tree/knowledge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 1

void tree_knowledge_release(struct tree_knowledge *k)
{
	free(k->stamps);
	*k = (struct tree_knowledge){ 0 };
}

int tree_knowledge_copy(struct tree_knowledge *dst, const struct tree_knowledge *src)
{
	struct tree_stamp *stamps = NULL;

	if (src->num_stamps) {
		stamps = malloc(src->num_stamps * sizeof(*stamps));
		if (!stamps)
			return -ENOMEM;
		memcpy(stamps, src->stamps, src->num_stamps * sizeof(*stamps));
	}
	free(dst->stamps);
	*dst = (struct tree_knowledge){ .stamps = stamps, .num_stamps = src->num_stamps };
	return 0;
}

/* Index of replica, or where it would be. */
static size_t find(const struct tree_knowledge *k, uint32_t replica)
{
	size_t low = 0, high = k->num_stamps;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (k->stamps[mid].replica < replica)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

uint64_t tree_knowledge_epoch(const struct tree_knowledge *k, uint32_t replica)
{
	size_t i = find(k, replica);

	if (i < k->num_stamps && k->stamps[i].replica == replica)
		return k->stamps[i].epoch;
	return 0;
}

bool tree_knowledge_covers(const struct tree_knowledge *k, struct tree_stamp stamp)
{
	return stamp.epoch <= tree_knowledge_epoch(k, stamp.replica);
}

int tree_knowledge_raise(struct tree_knowledge *k, struct tree_stamp stamp)
{
	size_t i = find(k, stamp.replica);
	struct tree_stamp *stamps;

	if (i < k->num_stamps && k->stamps[i].replica == stamp.replica) {
		if (k->stamps[i].epoch < stamp.epoch)
			k->stamps[i].epoch = stamp.epoch;
		return 0;
	}
	if (!stamp.epoch || !stamp.replica)
		return 0;
	if (k->num_stamps == TREE_KNOWLEDGE_MAX)
		return -E2BIG;
	stamps = realloc(k->stamps, (k->num_stamps + 1) * sizeof(*stamps));
	if (!stamps)
		return -ENOMEM;
	memmove(stamps + i + 1, stamps + i, (k->num_stamps - i) * sizeof(*stamps));
	stamps[i] = stamp;
	k->stamps = stamps;
	k->num_stamps++;
	return 0;
}

int tree_knowledge_join(struct tree_knowledge *k, const struct tree_knowledge *other)
{
	size_t i = 0, j = 0, n = 0;
	struct tree_stamp *stamps;

	if (other->num_stamps == 0)
		return 0;
	stamps = malloc((k->num_stamps + other->num_stamps) * sizeof(*stamps));
	if (!stamps)
		return -ENOMEM;
	while (i < k->num_stamps || j < other->num_stamps) {
		const struct tree_stamp *a = i < k->num_stamps ? &k->stamps[i] : NULL;
		const struct tree_stamp *b = j < other->num_stamps ? &other->stamps[j] : NULL;
		if (a && b && a->replica == b->replica) {
			stamps[n++] = a->epoch > b->epoch ? *a : *b;
			i++, j++;
		} else if (!b || (a && a->replica < b->replica)) {
			stamps[n++] = *a;
			i++;
		} else {
			stamps[n++] = *b;
			j++;
		}
	}
	if (n > TREE_KNOWLEDGE_MAX) {
		free(stamps);
		return -E2BIG;
	}
	free(k->stamps);
	*k = (struct tree_knowledge){ .stamps = stamps, .num_stamps = n };
	return 0;
}

void tree_knowledge_meet(struct tree_knowledge *k, const struct tree_knowledge *other)
{
	size_t n = 0;

	for (size_t i = 0; i < k->num_stamps; i++) {
		struct tree_stamp stamp = k->stamps[i];
		uint64_t epoch = tree_knowledge_epoch(other, stamp.replica);

		if (epoch < stamp.epoch)
			stamp.epoch = epoch;
		if (stamp.epoch > 0)
			k->stamps[n++] = stamp;
	}
	k->num_stamps = n;
}

bool tree_knowledge_within(const struct tree_knowledge *a, const struct tree_knowledge *b)
{
	size_t j = 0;

	for (size_t i = 0; i < a->num_stamps; i++) {
		while (j < b->num_stamps && b->stamps[j].replica < a->stamps[i].replica)
			j++;
		if (j == b->num_stamps || b->stamps[j].replica != a->stamps[i].replica ||
			b->stamps[j].epoch < a->stamps[i].epoch)
			return false;
	}
	return true;
}

enum tree_knowledge_order tree_knowledge_compare(
	const struct tree_knowledge *a, const struct tree_knowledge *b)
{
	bool a_in_b = tree_knowledge_within(a, b);
	bool b_in_a = tree_knowledge_within(b, a);

	if (a_in_b && b_in_a)
		return TREE_EQUAL;
	if (a_in_b)
		return TREE_LESS;
	return b_in_a ? TREE_GREATER : TREE_CONCURRENT;
}

size_t tree_knowledge_size(const struct tree_knowledge *k)
{
	return TREE_KNOWLEDGE_HEAD + k->num_stamps * TREE_KNOWLEDGE_PAIR;
}

int tree_knowledge_encode(const struct tree_knowledge *k, uint8_t *buf, size_t cap)
{
	size_t size = tree_knowledge_size(k);
	uint8_t *p = buf;

	if (cap < size)
		return -ENOBUFS;
	*p++ = VERSION;
	for (int i = 0; i < 3; i++)
		*p++ = (uint8_t)(k->num_stamps >> 8 * i);
	for (size_t n = 0; n < k->num_stamps; n++) {
		for (int i = 0; i < 4; i++)
			*p++ = (uint8_t)(k->stamps[n].replica >> 8 * i);
		for (int i = 0; i < 8; i++)
			*p++ = (uint8_t)(k->stamps[n].epoch >> 8 * i);
	}
	return (int)size;
}

static struct tree_stamp decode_pair(const uint8_t *p)
{
	struct tree_stamp stamp = { 0 };

	for (int i = 0; i < 4; i++)
		stamp.replica |= (uint32_t)p[i] << 8 * i;
	for (int i = 0; i < 8; i++)
		stamp.epoch |= (uint64_t)p[4 + i] << 8 * i;
	return stamp;
}

int tree_knowledge_decode(struct tree_knowledge *ret, const uint8_t *data, size_t len)
{
	struct tree_stamp *stamps = NULL;
	uint32_t last = 0;
	size_t n;

	if (len < TREE_KNOWLEDGE_HEAD)
		return -EBADMSG;
	if (data[0] != VERSION)
		return -EPROTONOSUPPORT;
	n = (size_t)data[1] | (size_t)data[2] << 8 | (size_t)data[3] << 16;
	if (n > TREE_KNOWLEDGE_MAX)
		return -E2BIG;
	if (len != TREE_KNOWLEDGE_HEAD + n * TREE_KNOWLEDGE_PAIR)
		return -EBADMSG;
	if (n) {
		stamps = malloc(n * sizeof(*stamps));
		if (!stamps)
			return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		stamps[i] = decode_pair(data + TREE_KNOWLEDGE_HEAD + i * TREE_KNOWLEDGE_PAIR);
		/* Strictly ascending from 1, so that one vector has one encoding. */
		if (stamps[i].replica <= last || !stamps[i].epoch) {
			free(stamps);
			return -EBADMSG;
		}
		last = stamps[i].replica;
	}
	free(ret->stamps);
	*ret = (struct tree_knowledge){ .stamps = stamps, .num_stamps = n };
	return 0;
}

int tree_clock_write(struct tree_clock *clock, struct tree_knowledge *known,
	struct tree_stamp *ret_stamp, uint64_t *ret_lamport)
{
	struct tree_stamp stamp = { .replica = clock->replica, .epoch = clock->epoch };
	int r = tree_knowledge_raise(known, stamp);

	if (r < 0)
		return r;
	*ret_stamp = stamp;
	if (ret_lamport)
		*ret_lamport = ++clock->lamport;
	return 0;
}

bool tree_clock_freeze(struct tree_clock *clock, const struct tree_knowledge *known)
{
	/* An epoch without a change was never shown, so it can go on being the open one. */
	if (tree_knowledge_epoch(known, clock->replica) < clock->epoch)
		return false;
	clock->epoch = tree_knowledge_epoch(known, clock->replica) + 1;
	return true;
}
