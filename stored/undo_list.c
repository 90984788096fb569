#include "stored/rows.h"
#include "stored/undo_state.h"
#include "stored/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int row_parse(struct pulled *ret, const struct row_key *k, const uint8_t *row, size_t len)
{
	if (len != 41)
		return -EUCLEAN;
	ret->time = be64_get(k->b + 4);
	ret->num_changed = le64_get(row);
	ret->is_undone = row[8];
	memcpy(ret->peer, row + 9, 32);
	return 0;
}

/* The table is ascending: all of it is read, and the last ones are kept. */
int undo_list(struct engine *engine, const struct volume *vol, uint64_t before, struct pulled *ret,
	size_t max, size_t *ret_num, bool *ret_end)
{
	struct row_key prefix, k;
	struct db_iter it;
	struct pulled one;
	size_t num = 0;
	int r;

	row_start(&prefix, vol->number);
	r = db_iter_first(&it, txn(engine), DB_PULLS, prefix.b, prefix.len, NULL, 0);
	while (r == 1 && it.key_len == 12 && (before == 0 || be64_get(it.key + 4) < before)) {
		memcpy(k.b, it.key, 12);
		r = row_parse(&one, &k, it.value, it.value_len);
		if (r < 0)
			break;
		ret[num++ % max] = one;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	*ret_end = num <= max;
	*ret_num = num < max ? num : max;
	if (num > max) { /* a ring: from its oldest on */
		struct pulled *copy = malloc(max * sizeof(*copy));

		if (!copy)
			return -ENOMEM;
		memcpy(copy, ret, max * sizeof(*copy));
		for (size_t i = 0; i < max; i++)
			ret[i] = copy[(num + i) % max];
		free(copy);
	}
	for (size_t i = 0; i < *ret_num / 2; i++) {
		one = ret[i];
		ret[i] = ret[*ret_num - 1 - i];
		ret[*ret_num - 1 - i] = one;
	}
	return r < 0 ? r : 0;
}

static bool is_sync(const struct pulled *p)
{
	static const uint8_t nobody[32];

	return memcmp(p->peer, nobody, sizeof(nobody)) != 0;
}

int undo_find(struct engine *engine, const struct volume *vol, uint64_t time, struct pulled *ret)
{
	struct row_key prefix, k;
	struct db_iter it;
	struct pulled one;
	int r, found = 0;

	row_start(&prefix, vol->number);
	r = db_iter_first(&it, txn(engine), DB_PULLS, prefix.b, prefix.len, NULL, 0);
	while (r == 1 && it.key_len == 12) {
		memcpy(k.b, it.key, 12);
		r = row_parse(&one, &k, it.value, it.value_len);
		if (r < 0)
			break;
		if (time ? one.time == time : is_sync(&one) && !one.is_undone) {
			*ret = one;
			found = 1;
		}
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r < 0 ? r : found ? 0 : -ENOENT;
}
