/*
 * Requests of ours that wait for their answer: a hash table by serial and a list by deadline.
 * Deadlines are mostly one and the same time from now, so a new one goes to the end of the list at
 * once.
 */
#include "ipc/chan_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BUCKETS 64

static struct pending **bucket(const struct pending_table *t, uint64_t serial)
{
	return &t->buckets[serial & (t->num_buckets - 1)];
}

static int grow(struct pending_table *t)
{
	struct pending_table new = *t;

	new.num_buckets = t->num_buckets ? 2 * t->num_buckets : FIRST_BUCKETS;
	new.buckets = calloc(new.num_buckets, sizeof(struct pending *));
	if (!new.buckets)
		return -ENOMEM;
	for (size_t i = 0; i < t->num_buckets; i++) {
		struct pending *p, *next;
		for (p = t->buckets[i]; p; p = next) {
			next = p->next_in_bucket;
			p->next_in_bucket = *bucket(&new, p->serial);
			*bucket(&new, p->serial) = p;
		}
	}
	free(t->buckets);
	*t = new;
	return 0;
}

static void deadline_insert(struct pending_table *t, struct pending *p)
{
	struct pending *before = t->latest;

	while (before && before->deadline > p->deadline)
		before = before->earlier;
	p->earlier = before;
	p->later = before ? before->later : t->earliest;
	*(before ? &before->later : &t->earliest) = p;
	*(p->later ? &p->later->earlier : &t->latest) = p;
}

static void deadline_remove(struct pending_table *t, struct pending *p)
{
	*(p->earlier ? &p->earlier->later : &t->earliest) = p->later;
	*(p->later ? &p->later->earlier : &t->latest) = p->earlier;
}

struct pending *pending_add(struct ipc_chan *chan, uint16_t type, unsigned timeout_ms)
{
	struct pending_table *t = &chan->pending;
	struct pending *p;

	if (t->num >= t->num_buckets && grow(t) < 0)
		return NULL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->serial = ++chan->last_serial;
	p->type = type;
	p->next_in_bucket = *bucket(t, p->serial);
	*bucket(t, p->serial) = p;
	t->num++;
	if (timeout_ms) {
		p->deadline = chan_now_ms() + timeout_ms;
		deadline_insert(t, p);
		if (t->earliest == p)
			chan_wake(chan);
	}
	return p;
}

struct pending *pending_find(struct ipc_chan *chan, uint64_t serial)
{
	struct pending *p;

	if (!chan->pending.num)
		return NULL;
	for (p = *bucket(&chan->pending, serial); p; p = p->next_in_bucket) {
		if (p->serial == serial)
			return p;
	}
	return NULL;
}

static void unlink_pending(struct pending_table *t, struct pending *p)
{
	struct pending **at = bucket(t, p->serial);

	while (*at != p)
		at = &(*at)->next_in_bucket;
	*at = p->next_in_bucket;
	if (p->deadline)
		deadline_remove(t, p);
	t->num--;
}

void pending_remove(struct ipc_chan *chan, struct pending *p)
{
	unlink_pending(&chan->pending, p);
	free(p);
}

int pending_done(struct ipc_chan *chan, struct pending *p, int err, struct ipc_reader *r)
{
	const struct pending copy = *p;

	/* Before the callback: it may send, wait, or close the channel. */
	pending_remove(chan, p);
	return copy.replied(copy.done, copy.arg, err, r);
}

void pending_fail_all(struct ipc_chan *chan)
{
	struct pending_table *t = &chan->pending;

	for (size_t i = 0; i < t->num_buckets; i++) {
		while (t->buckets[i])
			(void)pending_done(chan, t->buckets[i], -ECONNRESET, NULL);
	}
}

void pending_expire(struct ipc_chan *chan)
{
	struct pending *p;
	const uint64_t now = chan->pending.earliest ? chan_now_ms() : 0;

	while (!chan->dead && (p = chan->pending.earliest) && p->deadline <= now) {
		chan_set_error(chan, "%s: no answer in time", chan->service->type_name(p->type));
		(void)pending_done(chan, p, -ETIMEDOUT, NULL);
	}
}

void pending_free(struct ipc_chan *chan)
{
	free(chan->pending.buckets);
}

int ipc_send_request(struct ipc_chan *chan, uint16_t type, ipc_encode_fn *encode, const void *msg,
	unsigned timeout_ms, ipc_replied_fn *replied, ipc_any_fn *done, void *arg)
{
	struct ipc_writer *w = chan->dead ? NULL : chan_begin(chan);
	struct pending *p = NULL;
	int r;

	if (!w)
		return chan->dead ? -ECONNRESET : -ENOMEM;
	r = encode(msg, w);
	if (r == 0)
		p = pending_add(chan, type, timeout_ms);
	if (!p) {
		chan_discard(chan, w);
		return r < 0 ? r : -ENOMEM;
	}
	p->replied = replied;
	p->done = done;
	p->arg = arg;
	r = chan_send(chan, IPC_REQUEST, type, p->serial, w, chan->priority);
	if (r < 0)
		pending_remove(chan, p);
	return r;
}

int ipc_send_notice(struct ipc_chan *chan, uint16_t type, ipc_encode_fn *encode, const void *msg)
{
	struct ipc_writer *w = chan_begin(chan);

	if (!w)
		return -ENOMEM;
	/* What does not fit is the writer's error. */
	(void)encode(msg, w);
	return chan_send(chan, IPC_NOTICE, type, 0, w, chan->priority);
}
