#include "stored/bulk.h"

#include "stored/engine_state.h"
#include "stored/object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int compare(const uint8_t *a, const uint8_t *b, uint32_t seq_a, uint32_t seq_b)
{
	int r = memcmp(a, b, 32);

	return r ? r : (seq_a > seq_b) - (seq_a < seq_b);
}

static int by_id(const void *x, const void *y)
{
	const struct bulk_row *a = x, *b = y;

	return compare(a->id, b->id, a->seq, b->seq);
}

static int by_tag(const void *x, const void *y)
{
	const struct bulk_row *a = x, *b = y;

	return compare(a->tag, b->tag, a->seq, b->seq);
}

static int grow(struct bulk *bulk)
{
	size_t cap = bulk->cap ? bulk->cap * 2 : 1024;
	struct bulk_row *rows = realloc(bulk->rows, cap * sizeof(*rows));

	if (!rows)
		return -ENOMEM;
	bulk->rows = rows;
	bulk->cap = cap;
	return 0;
}

int bulk_add(
	struct engine *engine, const uint8_t id[32], const uint8_t tag[32], struct place sealed)
{
	struct bulk *bulk = &engine->bulk;
	struct bulk_row *row;
	int r = 0;

	if (bulk->num >= BULK_ROWS)
		r = bulk_flush(engine);
	if (r == 0 && bulk->num == bulk->cap)
		r = grow(bulk);
	if (r < 0)
		return r;
	row = &bulk->rows[bulk->num];
	memcpy(row->id, id, 32);
	memcpy(row->tag, tag, 32);
	row->sealed = sealed;
	row->seq = (uint32_t)bulk->num++;
	return 0;
}

int bulk_flush(struct engine *engine)
{
	struct bulk *bulk = &engine->bulk;
	size_t i;
	int r = 0;

	if (bulk->num == 0)
		return 0;
	qsort(bulk->rows, bulk->num, sizeof(*bulk->rows), by_id);
	for (i = 0; r == 0 && i < bulk->num; i++)
		r = object_put_row(
			engine, bulk->rows[i].id, bulk->rows[i].tag, bulk->rows[i].sealed, false);
	if (r == 0)
		qsort(bulk->rows, bulk->num, sizeof(*bulk->rows), by_tag);
	for (i = 0; r == 0 && i < bulk->num; i++)
		r = object_put_tag(engine, bulk->rows[i].id, bulk->rows[i].tag);
	bulk->num = 0;
	return r;
}

void bulk_drop(struct bulk *bulk)
{
	bulk->num = 0;
}

void bulk_release(struct bulk *bulk)
{
	free(bulk->rows);
	*bulk = (struct bulk){ 0 };
}
