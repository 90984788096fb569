#include "stored/history.h"
#include "stored/read_state.h"

#include <errno.h>

#define DIR_STEPS 20000 /* rows that one page of a directory of the past may look at */

/* One of the tables that a directory is merged from: ascending link ids. */
struct stream {
	enum db_table table;
	bool is_past;
	struct row_key prefix;
	struct db_iter it;
	bool is_open, is_skipped;
	uint64_t lid; /* UINT64_MAX: the end */
};

/* To the first link behind `after` that was there at `at`; -EAGAIN: not within *steps rows. */
static int stream_next(
	struct stream *s, struct db_txn *t, uint64_t after, uint64_t at, uint32_t *steps)
{
	struct row_key start = s->prefix;
	uint64_t last = after;
	int r;

	s->lid = UINT64_MAX;
	if (s->is_skipped || after == UINT64_MAX)
		return 0;
	if (!s->is_open) {
		row_u64(&start, after + 1);
		s->is_open = true;
		r = db_iter_first(
			&s->it, t, s->table, s->prefix.b, s->prefix.len, start.b, start.len);
	} else {
		r = db_iter_next(&s->it);
	}
	for (; r == 1; r = db_iter_next(&s->it)) {
		uint64_t lid = be64_get(s->it.key + s->prefix.len);

		if (at == 0 ||
			(s->it.value_len >= 8 && le64_get(s->it.value) <= at &&
				(!s->is_past || be64_get(s->it.key + s->it.key_len - 8) > at))) {
			s->lid = lid;
			return 0;
		}
		/* Between two links only, so that every page comes further. */
		if (*steps == 0 && lid != last && last != after) {
			s->lid = lid;
			return -EAGAIN;
		}
		last = lid;
		*steps -= *steps > 0;
	}
	return r;
}

#define STREAMS 4

static void streams_init(struct stream s[STREAMS], struct engine *engine, struct volume *vol,
	uint64_t parent, uint64_t at)
{
	static const enum db_table tables[STREAMS] = { DB_DIRS, DB_HDIRS, DB_FALLEN, DB_HFALLEN };
	int i;

	for (i = 0; i < STREAMS; i++) {
		s[i] = (struct stream){ .table = tables[i], .is_past = i % 2 };
		s[i].is_skipped = s[i].is_past && at == 0;
		if (i < 2) {
			row_one(&s[i].prefix, vol->number, parent);
			continue;
		}
		/* The root also shows the directories that fell into it. */
		row_start(&s[i].prefix, vol->number);
		if (parent != TREE_ROOT || db_rows(txn(engine), tables[i]) == 0)
			s[i].is_skipped = true;
	}
}

/* The least link of all streams. */
static uint64_t streams_least(const struct stream s[STREAMS])
{
	uint64_t least = UINT64_MAX;
	int i;

	for (i = 0; i < STREAMS; i++)
		if (s[i].lid < least)
			least = s[i].lid;
	return least;
}

/* Each to its next link behind `after`. -EAGAIN: one of them to a place before it. */
static int streams_next(
	struct stream s[STREAMS], struct db_txn *t, uint64_t after, uint64_t at, uint32_t *steps)
{
	bool again = false;
	int i, r = 0;

	for (i = 0; i < STREAMS; i++) {
		/* A link that left and came back has several rows. */
		while (s[i].lid == after && r == 0)
			r = stream_next(&s[i], t, after, at, steps);
		again |= r == -EAGAIN;
		if (r < 0 && r != -EAGAIN)
			return r;
		r = 0;
	}
	return again ? -EAGAIN : 0;
}

/* The links behind page->next, as many as there is room for, or max; 0: any number. */
static int dir_fill(struct engine *engine, struct volume *vol, uint64_t parent, uint32_t max,
	struct stream s[STREAMS], struct engine_page *page)
{
	uint32_t num = 0, steps = DIR_STEPS;
	uint64_t lid;
	int r;

	r = streams_next(s, txn(engine), page->next, page->at, &steps);
	while (r == 0) {
		lid = streams_least(s);
		page->end = lid == UINT64_MAX;
		if (page->end || (max > 0 && num >= max))
			return 0;
		r = read_link(engine, vol, parent, lid, NULL, page);
		if (r == -ENOBUFS && num > 0)
			return 0;
		if (r < 0 && r != -ENOENT)
			return r;
		num += r == 0;
		page->next = lid;
		r = streams_next(s, txn(engine), lid, page->at, &steps);
	}
	if (r != -EAGAIN)
		return r;
	/* What was passed over was not there; the least place reached is not shown yet. */
	lid = streams_least(s);
	if (lid > page->next + 1)
		page->next = lid - 1;
	return 0;
}

int engine_dir(struct engine *engine, struct volume *vol, uint64_t parent, uint64_t after,
	uint32_t max, struct engine_page *page)
{
	struct stream streams[STREAMS];
	int i, r;

	page->len = page->num_nodes = 0;
	page->end = false;
	page->next = after;
	r = history_check(vol, page->at);
	if (r < 0)
		return r;
	page->end = after == UINT64_MAX;
	if (page->end)
		return 0;
	streams_init(streams, engine, vol, parent, page->at);
	for (i = 0; i < STREAMS; i++)
		streams[i].lid = streams[i].is_skipped ? UINT64_MAX : after;
	r = dir_fill(engine, vol, parent, max, streams, page);
	for (i = 0; i < STREAMS; i++)
		if (streams[i].is_open)
			db_iter_close(&streams[i].it);
	return r;
}
