#include "stored/base.h"

#include "stored/meta.h"
#include "stored/recover.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VERSION	   1
#define DIGEST_AT  56
#define LIST_HEAD  16
#define PLACE_SIZE 16
#define ROW_HEAD   8

void base_release(struct base *base)
{
	free(base->rows);
	*base = (struct base){ 0 };
}

int base_add(struct base *base, struct place rows)
{
	if (base->num == BASE_ROWS_MAX)
		return -E2BIG;
	if (base->num == base->cap) {
		uint32_t cap = base->cap ? base->cap * 2 : 64;
		void *p = realloc(base->rows, cap * sizeof(*base->rows));

		if (!p)
			return -ENOMEM;
		base->rows = p;
		base->cap = cap;
	}
	base->rows[base->num++] = rows;
	return 0;
}

bool base_has(const struct base *base, struct place payload)
{
	size_t low = 0, high = base->num;

	if (base->frame.arena == payload.arena && base->frame.offset == payload.offset)
		return true;
	while (low < high) {
		size_t mid = (low + high) / 2;

		if (arenas_is_before(base->rows[mid], payload))
			low = mid + 1;
		else
			high = mid;
	}
	return low < base->num && !arenas_is_before(payload, base->rows[low]);
}

/* ---- places */

static void place_emit(struct place place, uint8_t *p)
{
	le32_put(p, place.arena);
	le32_put(p + 4, place.len);
	le64_put(p + 8, place.offset);
}

static struct place place_parse(const uint8_t *p)
{
	return (struct place){ le32_get(p), le32_get(p + 4), le64_get(p + 8) };
}

size_t base_size(const struct base *base)
{
	return BASE_HEAD + (size_t)base->num * PLACE_SIZE;
}

void base_emit(const struct base *base, uint8_t *p)
{
	memset(p, 0, BASE_HEAD);
	le32_put(p, VERSION);
	le32_put(p + 4, ROWS_VERSION);
	le32_put(p + 8, base->generation);
	le32_put(p + 12, base->num);
	le32_put(p + 16, base->at.arena);
	le32_put(p + 20, base->cut.arena);
	le64_put(p + 24, base->at.offset);
	le64_put(p + 32, base->cut.offset);
	le64_put(p + 40, base->num_rows);
	le64_put(p + 48, base->bytes);
	memcpy(p + DIGEST_AT, base->digest, sizeof(base->digest));
	for (uint32_t i = 0; i < base->num; i++)
		place_emit(base->rows[i], p + BASE_HEAD + (size_t)i * PLACE_SIZE);
}

int base_digest(const struct base *base, struct digest *digest, uint8_t ret[32])
{
	size_t len = base_size(base);
	uint8_t *payload = malloc(len);
	int r;

	if (!payload)
		return -ENOMEM;
	base_emit(base, payload);
	r = digest_add(digest, payload, DIGEST_AT);
	if (r == 0)
		r = digest_add(digest, payload + BASE_HEAD, len - BASE_HEAD);
	if (r == 0)
		r = digest_end(digest, ret);
	free(payload);
	return r;
}

struct place base_cut(const uint8_t *p)
{
	return (struct place){ .arena = le32_get(p + 20), .offset = le64_get(p + 32) };
}

static int base_parse(const uint8_t *p, size_t len, struct base *ret)
{
	uint32_t num;
	int r = 0;

	if (len < BASE_HEAD || le32_get(p) != VERSION || le32_get(p + 4) != ROWS_VERSION)
		return -EBADMSG;
	num = le32_get(p + 12);
	ret->generation = le32_get(p + 8);
	ret->at = (struct place){ .arena = le32_get(p + 16), .offset = le64_get(p + 24) };
	ret->cut = base_cut(p);
	ret->num_rows = le64_get(p + 40);
	ret->bytes = le64_get(p + 48);
	memcpy(ret->digest, p + DIGEST_AT, sizeof(ret->digest));
	if (len != BASE_HEAD + (size_t)num * PLACE_SIZE || ret->generation == 0)
		return -EBADMSG;
	for (uint32_t i = 0; r == 0 && i < num; i++)
		r = base_add(ret, place_parse(p + BASE_HEAD + (size_t)i * PLACE_SIZE));
	return r;
}

/* ---- rows */

/* Their numbers are in the logs of stores: new ones go to the end. */
static const enum db_table tables[BASE_TABLES] = { DB_META, DB_SETTINGS, DB_RECORDS, DB_NAMES,
	DB_DIRS, DB_TARGETS, DB_COUNTS, DB_STAMPS, DB_DEAD, DB_LABELS, DB_FALLEN, DB_HIST,
	DB_HNAMES, DB_HDIRS, DB_HTARGETS, DB_HFALLEN, DB_TIMES, DB_SNAPSHOTS, DB_PULLS };

_Static_assert(BASE_TABLES + 3 == DB_NUM, "a table is missing: only objects, tags and gc are");

enum db_table base_table(unsigned number)
{
	return tables[number];
}

const char *base_prefix(unsigned number)
{
	return tables[number] == DB_META ? "vol" : "";
}

size_t base_row_size(size_t key_len, size_t value_len)
{
	return ROW_HEAD + key_len + value_len;
}

void base_row_emit(unsigned number, const struct db_iter *row, uint8_t *p)
{
	memset(p, 0, ROW_HEAD);
	p[0] = (uint8_t)number;
	le16_put(p + 2, (uint16_t)row->key_len);
	le32_put(p + 4, (uint32_t)row->value_len);
	memcpy(p + ROW_HEAD, row->key, row->key_len);
	if (row->value_len > 0)
		memcpy(p + ROW_HEAD + row->key_len, row->value, row->value_len);
}

/* The row at the beginning of the payload; its size, or -EBADMSG. */
static long put_row(struct engine *engine, const uint8_t *p, size_t left)
{
	size_t key_len, len, size;
	int r;

	if (left < ROW_HEAD)
		return -EBADMSG;
	key_len = le16_get(p + 2);
	len = le32_get(p + 4);
	size = base_row_size(key_len, len);
	if (p[0] >= BASE_TABLES || key_len == 0 || key_len > DB_KEY_MAX || size > left)
		return -EBADMSG;
	r = db_put(txn(engine), tables[p[0]], p + ROW_HEAD, key_len, p + ROW_HEAD + key_len, len);
	engine->ops++;
	return r < 0 ? r : (long)size;
}

static int put_rows(struct engine *engine, const struct frame_view *frame)
{
	const uint8_t *p = frame->payload, *end = p + frame->place.len;
	long size = 0;

	for (; size >= 0 && p < end; p += size)
		size = put_row(engine, p, (size_t)(end - p));
	return size < 0 ? (int)size : 0;
}

/* ---- those that there are */

int base_list(struct engine *engine, struct base_list *ret)
{
	const uint8_t *row;
	size_t len;
	int r;

	*ret = (struct base_list){ 0 };
	r = meta_get(engine, "bases", &row, &len);
	if (r <= 0)
		return r;
	if (len < LIST_HEAD || (len - LIST_HEAD) % PLACE_SIZE != 0 ||
		len > LIST_HEAD + BASE_KEPT * PLACE_SIZE)
		return -EUCLEAN;
	ret->generation = le32_get(row);
	ret->cut = (struct place){ .arena = le32_get(row + 4), .offset = le64_get(row + 8) };
	ret->num = (int)((len - LIST_HEAD) / PLACE_SIZE);
	for (int i = 0; i < ret->num; i++)
		ret->frames[i] = place_parse(row + LIST_HEAD + i * PLACE_SIZE);
	return 0;
}

static int list_put(struct engine *engine, const struct base_list *list)
{
	uint8_t row[LIST_HEAD + BASE_KEPT * PLACE_SIZE];
	size_t len = LIST_HEAD + (size_t)list->num * PLACE_SIZE;

	le32_put(row, list->generation);
	le32_put(row + 4, list->cut.arena);
	le64_put(row + 8, list->cut.offset);
	for (int i = 0; i < list->num; i++)
		place_emit(list->frames[i], row + LIST_HEAD + i * PLACE_SIZE);
	engine->ops++;
	return meta_put(engine, "bases", row, len);
}

int base_note(struct engine *engine, struct place frame, const uint8_t *payload)
{
	struct base_list list;
	int r = base_list(engine, &list);

	if (r < 0)
		return r;
	if (frame.len < BASE_HEAD)
		return -EBADMSG;
	list.generation = le32_get(payload + 8);
	list.cut = base_cut(payload);
	memmove(list.frames + 1, list.frames, (BASE_KEPT - 1) * sizeof(list.frames[0]));
	list.frames[0] = frame;
	list.num += list.num < BASE_KEPT;
	return list_put(engine, &list);
}

int base_forget(struct engine *engine, struct place frame)
{
	struct base_list list, left;
	int r = base_list(engine, &list);

	left = (struct base_list){ .generation = list.generation, .cut = list.cut };
	for (int i = 0; i < list.num; i++)
		if (list.frames[i].arena != frame.arena || list.frames[i].offset != frame.offset)
			left.frames[left.num++] = list.frames[i];
	return r < 0 ? r : list_put(engine, &left);
}

/* ---- reading */

/* The frame with this payload: 0; -EBADMSG: it is not there as it was. */
static int read_frame(
	struct base_reader *r, enum frame_type type, struct place payload, struct frame_view *ret)
{
	struct arenas *a = &r->engine->arenas;
	const struct arena *arena = arenas_find(a, payload.arena);
	uint64_t end = payload.offset + payload.len;
	struct scan_item item;
	int fd, kind;

	if (!arena || payload.offset < FRAME_SUPER_SIZE + FRAME_HEAD_SIZE || end > arena->size)
		return -EBADMSG;
	fd = arenas_fd(a, payload.arena);
	if (fd < 0)
		return fd;
	scan_start(
		&r->scan, fd, payload.arena, arena->id, payload.offset - FRAME_HEAD_SIZE, end, 0);
	kind = scan_next(&r->scan, &item);
	if (kind < 0)
		return kind == -ENODATA || kind == -EIO ? -EBADMSG : kind;
	*ret = item.frame;
	return kind == SCAN_FRAME && item.frame.type == type && item.frame.place.len == payload.len
		       ? 0
		       : -EBADMSG;
}

int base_reader_begin(struct base_reader *r, struct engine *engine, struct place frame)
{
	struct frame_view view;
	int err;

	*r = (struct base_reader){ .engine = engine, .digest = digest_new() };
	err = r->digest ? scan_init(&r->scan, engine->io) : -ENOMEM;
	if (err == 0)
		err = digest_begin(r->digest);
	if (err == 0)
		err = read_frame(r, FRAME_BASE, frame, &view);
	if (err == 0)
		err = base_parse(view.payload, view.place.len, &r->base);
	r->base.frame = frame;
	return err;
}

void base_reader_end(struct base_reader *r)
{
	base_release(&r->base);
	digest_free(r->digest);
	if (r->scan.window)
		scan_release(&r->scan);
	*r = (struct base_reader){ 0 };
}

int base_reader_check(struct base_reader *r)
{
	struct frame_view view;
	uint8_t is[32];
	int err;

	if (r->next == r->base.num) {
		err = base_digest(&r->base, r->digest, is);
		return err == 0 && memcmp(is, r->base.digest, 32) != 0 ? -EBADMSG : err;
	}
	err = read_frame(r, FRAME_ROWS, r->base.rows[r->next++], &view);
	if (err == 0)
		err = digest_add(r->digest, view.payload, view.place.len);
	return err < 0 ? err : 1;
}

/* Without a checkpoint: an index that has rows and none is made anew. */
static int commit_some(struct engine *engine)
{
	int r = recover_commit(engine);

	engine->ops = 0;
	return r < 0 ? r : db_begin(engine->db);
}

int base_reader_load(struct base_reader *r, bool is_partial)
{
	struct frame_view view;
	int err = 0;

	for (uint32_t i = 0; err == 0 && i < r->base.num; i++) {
		err = read_frame(r, FRAME_ROWS, r->base.rows[i], &view);
		if (err == 0)
			err = put_rows(r->engine, &view);
		if (err == -EBADMSG && is_partial) {
			recover_note_lost_changes(r->engine);
			err = 0;
		}
		if (err == 0 && r->engine->ops >= BULK_ROWS)
			err = commit_some(r->engine);
	}
	return err;
}
