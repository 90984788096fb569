#include "tree/pull.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int tree_grow(void *array, size_t *cap, size_t num, size_t size)
{
	void **at = array, *grown;
	size_t wanted = *cap ? *cap * 2 : 16;

	if (num < *cap)
		return 0;
	if (wanted > SIZE_MAX / size)
		return -ENOMEM;
	grown = realloc(*at, wanted * size);
	if (!grown)
		return -ENOMEM;
	*at = grown;
	*cap = wanted;
	return 0;
}

int tree_oids_add(struct tree_oids *set, uint64_t oid)
{
	int r = tree_grow(&set->oids, &set->cap, set->num, sizeof(*set->oids));

	if (r < 0)
		return r;
	set->oids[set->num++] = oid;
	return 0;
}

static int compare_oids(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void tree_oids_sort(struct tree_oids *set)
{
	size_t n = 0;

	if (set->num == 0)
		return;
	qsort(set->oids, set->num, sizeof(*set->oids), compare_oids);
	for (size_t i = 1; i < set->num; i++) {
		if (set->oids[i] != set->oids[n])
			set->oids[++n] = set->oids[i];
	}
	set->num = n + 1;
}

bool tree_oids_has(const struct tree_oids *sorted, uint64_t oid)
{
	return sorted->num &&
	       bsearch(&oid, sorted->oids, sorted->num, sizeof(oid), compare_oids) != NULL;
}

int tree_pull_new(struct tree_pull **ret, const struct tree_knowledge *asked,
	const struct tree_knowledge *remote, const struct tree_knowledge *horizon, bool is_full)
{
	struct tree_pulled *pulled = calloc(1, sizeof(*pulled));

	if (!pulled)
		return -ENOMEM;
	pulled->pull.is_full = is_full;
	if (tree_knowledge_copy(&pulled->asked, asked) < 0 ||
		tree_knowledge_copy(&pulled->remote, remote) < 0 ||
		tree_knowledge_copy(&pulled->horizon, horizon) < 0) {
		tree_pull_free(&pulled->pull);
		return -ENOMEM;
	}
	*ret = &pulled->pull;
	return 0;
}

void tree_pull_free(struct tree_pull *pull)
{
	struct tree_pulled *pulled = (struct tree_pulled *)pull;

	if (!pulled)
		return;
	tree_knowledge_release(&pulled->asked);
	tree_knowledge_release(&pulled->remote);
	tree_knowledge_release(&pulled->horizon);
	free(pulled->listed.items);
	free(pulled->sources.items);
	tree_delta_units_release(&pulled->units);
	free(pulled->answered.oids);
	free(pulled->deaths);
	free((void *)pull->needs);
	free((void *)pull->effects);
	free((void *)pull->deaths);
	free((void *)pull->changes);
	tree_state_release(&pull->state);
	free(pulled);
}

int tree_pull_unit(struct tree_pull *pull, const struct tree_unit *unit)
{
	struct tree_pulled *pulled = (struct tree_pulled *)pull;

	pulled->unit = *unit;
	pulled->has_unit = true;
	/* What answers a need is not part of the snapshot: absence in it proves no deletion. */
	return pulled->need ? 0 : tree_delta_units_add(&pulled->units, unit);
}

static int add_item(struct tree_pulled *pulled, const struct tree_item *item)
{
	struct tree_items *items = pulled->need ? &pulled->sources : &pulled->listed;
	struct tree_unit unit = tree_key_unit(&item->e.key);
	int r;

	if (!pulled->has_unit || tree_unit_compare(&unit, &pulled->unit) != 0)
		return -EBADMSG;
	if (pulled->listed.num + pulled->sources.num >= TREE_PULL_ELEMENTS_MAX)
		return -E2BIG;
	r = tree_grow(&items->items, &items->cap, items->num, sizeof(*items->items));
	if (r < 0)
		return r;
	items->items[items->num] = *item;
	items->items[items->num++].need = pulled->need;
	items->is_sorted = false;
	return 0;
}

int tree_pull_element(struct tree_pull *pull, const struct tree_key *key, struct tree_stamp stamp)
{
	struct tree_pulled *pulled = (struct tree_pulled *)pull;
	struct tree_item item = { .e = { .key = *key, .stamp = stamp } };

	/* Only what p once had may be named without its record. */
	if (pulled->need || !tree_knowledge_covers(&pulled->asked, stamp) ||
		!tree_knowledge_covers(&pulled->remote, stamp))
		return -EBADMSG;
	return add_item(pulled, &item);
}

int tree_pull_record(struct tree_pull *pull, const struct tree_record *rec, uint64_t handle)
{
	struct tree_pulled *pulled = (struct tree_pulled *)pull;
	struct tree_item item = { .e = rec->e, .handle = handle, .has_record = true };

	if (tree_record_check(rec) < 0)
		return -EBADMSG;
	if (!tree_knowledge_covers(&pulled->remote, rec->e.stamp))
		return pulled->need ? -EAGAIN : -EBADMSG;
	if (pulled->need && rec->e.key.kind == TREE_LINK && rec->e.target != pulled->need)
		return -EBADMSG;
	if (pulled->need && rec->e.key.kind != TREE_LINK && rec->e.key.id != pulled->need)
		return -EBADMSG;
	return add_item(pulled, &item);
}

int tree_pull_dead(struct tree_pull *pull, const struct tree_unit *unit, struct tree_stamp label)
{
	struct tree_pulled *pulled = (struct tree_pulled *)pull;
	int r;

	if (pulled->need || !tree_knowledge_covers(&pulled->remote, label))
		return -EBADMSG;
	r = tree_grow(
		&pulled->deaths, &pulled->cap_deaths, pulled->num_deaths, sizeof(*pulled->deaths));
	if (r < 0)
		return r;
	pulled->deaths[pulled->num_deaths++] = (struct tree_death){ .unit = *unit, .label = label };
	return tree_delta_units_add(&pulled->units, unit);
}

int tree_pull_inode(struct tree_pull *pull, uint64_t oid)
{
	struct tree_pulled *pulled = (struct tree_pulled *)pull;

	if (!oid)
		return -EBADMSG;
	pulled->need = oid;
	pulled->has_unit = false;
	return tree_oids_add(&pulled->answered, oid);
}

int tree_pull_feed(struct tree_pull *pull, const uint8_t *data, size_t len, uint64_t base)
{
	struct tree_delta_entry e;
	size_t pos = 0;
	int r;

	while ((r = tree_delta_next(data, len, &pos, &e)) > 0) {
		switch (e.type) {
		case TREE_DELTA_UNIT:
			r = tree_pull_unit(pull, &e.unit);
			break;
		case TREE_DELTA_ELEMENT:
			r = tree_pull_element(pull, &e.key, e.stamp);
			break;
		case TREE_DELTA_RECORD:
			r = tree_pull_record(pull, &e.rec, base + (size_t)(e.packed - data));
			break;
		case TREE_DELTA_DEAD:
			r = tree_pull_dead(pull, &e.unit, e.stamp);
			break;
		case TREE_DELTA_INODE:
			r = tree_pull_inode(pull, e.oid);
			break;
		}
		if (r < 0)
			return r;
	}
	return r;
}

static int compare_items(const void *a, const void *b)
{
	const struct tree_item *x = a, *y = b;
	int c = (x->need > y->need) - (x->need < y->need);

	if (c == 0)
		c = tree_key_compare(&x->e.key, &y->e.key);
	return c ? c : tree_stamp_compare(x->e.stamp, y->e.stamp);
}

static void sort_items(struct tree_items *items)
{
	size_t n = 0;

	if (items->is_sorted || items->num == 0)
		return;
	for (size_t i = 1; i < items->num; i++) {
		if (compare_items(&items->items[i - 1], &items->items[i]) > 0) {
			qsort(items->items, items->num, sizeof(*items->items), compare_items);
			break;
		}
	}
	for (size_t i = 1; i < items->num; i++) {
		if (compare_items(&items->items[n], &items->items[i]) != 0)
			items->items[++n] = items->items[i];
		else if (!items->items[n].has_record)
			items->items[n] = items->items[i];
	}
	items->num = n + 1;
	items->is_sorted = true;
}

void tree_pulled_sort(struct tree_pulled *pulled)
{
	sort_items(&pulled->listed);
	sort_items(&pulled->sources);
	tree_delta_units_sort(&pulled->units);
	tree_oids_sort(&pulled->answered);
}

struct tree_item *tree_pulled_find(
	const struct tree_pulled *pulled, const struct tree_key *key, struct tree_stamp stamp)
{
	struct tree_item wanted = { .e = { .key = *key, .stamp = stamp } };

	if (pulled->listed.num == 0)
		return NULL;
	return bsearch(
		&wanted, pulled->listed.items, pulled->listed.num, sizeof(wanted), compare_items);
}

bool tree_pulled_has_source(
	const struct tree_pulled *pulled, const struct tree_key *key, struct tree_stamp stamp)
{
	struct tree_item wanted = { .e = { .key = *key, .stamp = stamp }, .need = key->id };

	return pulled->sources.num && bsearch(&wanted, pulled->sources.items, pulled->sources.num,
					      sizeof(wanted), compare_items) != NULL;
}

bool tree_pulled_is_listed(const struct tree_pulled *pulled, const struct tree_unit *unit)
{
	size_t low = 0, high = pulled->units.num_units;

	if (pulled->pull.is_full)
		return true;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = tree_unit_compare(&pulled->units.units[mid], unit);
		if (c == 0)
			return true;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

/* First of the sorted items that is not before (need, unit). */
static size_t lower_bound(
	const struct tree_items *items, uint64_t need, const struct tree_unit *unit)
{
	size_t low = 0, high = items->num;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct tree_item *item = &items->items[mid];
		struct tree_unit at = tree_key_unit(&item->e.key);
		bool before = item->need != need ? item->need < need
						 : unit && tree_unit_compare(&at, unit) < 0;
		if (before)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct tree_item *tree_pulled_unit(
	const struct tree_pulled *pulled, const struct tree_unit *unit, size_t *ret_num)
{
	const struct tree_items *items = &pulled->listed;
	size_t first = lower_bound(items, 0, unit), n = first;

	for (; n < items->num; n++) {
		struct tree_unit at = tree_key_unit(&items->items[n].e.key);
		if (tree_unit_compare(&at, unit) != 0)
			break;
	}
	*ret_num = n - first;
	return n > first ? items->items + first : NULL;
}

struct tree_item *tree_pulled_need(const struct tree_pulled *pulled, uint64_t oid, size_t *ret_num)
{
	const struct tree_items *items = &pulled->sources;
	size_t first = lower_bound(items, oid, NULL), n = first;

	while (n < items->num && items->items[n].need == oid)
		n++;
	*ret_num = n - first;
	return n > first ? items->items + first : NULL;
}
