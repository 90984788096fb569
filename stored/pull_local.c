#include "stored/pull_state.h"
#include "stored/rows.h"

static int visit_register(
	struct engine *engine, const struct reg *reg, tree_visit_fn *visit, void *arg)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < reg->num; i++)
		r = visit(arg, &reg->e[i].e);
	return r;
}

static int visit_prefix(
	struct pull_local *l, const struct row_key *prefix, tree_visit_fn *visit, void *arg)
{
	struct reg *reg = &l->engine->old;
	struct db_iter it;
	int r;

	r = db_iter_first(&it, txn(l->engine), DB_RECORDS, prefix->b, prefix->len, NULL, 0);
	while (r == 1) {
		r = reg_parse(reg, it.value, it.value_len);
		if (r == 0)
			r = visit_register(l->engine, reg, visit, arg);
		if (r != 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static int local_unit(void *ctx, const struct tree_unit *unit, tree_visit_fn *visit, void *arg)
{
	struct pull_local *l = ctx;
	struct row_key k;

	row_start(&k, l->vol->number);
	row_unit(&k, unit);
	return visit_prefix(l, &k, visit, arg);
}

static int local_all(void *ctx, tree_visit_fn *visit, void *arg)
{
	struct pull_local *l = ctx;
	struct row_key k;

	row_start(&k, l->vol->number);
	return visit_prefix(l, &k, visit, arg);
}

/* Elements of the links that a table names; by_target: those that point to oid, else those below.
 */
static int visit_links(struct pull_local *l, enum db_table table, uint64_t oid, bool by_target,
	tree_visit_fn *visit, void *arg)
{
	struct tree_key key = { .kind = TREE_LINK };
	struct reg *reg = &l->engine->old;
	struct row_key k;
	struct db_iter it;
	size_t i;
	int r;

	row_one(&k, l->vol->number, oid);
	r = db_iter_first(&it, txn(l->engine), table, k.b, k.len, NULL, 0);
	while (r == 1) {
		key.id = be64_get(it.key + 12);
		r = reg_load(reg, txn(l->engine), l->vol->number, &key);
		for (i = 0; r == 0 && i < reg->num; i++)
			if ((by_target ? reg->e[i].e.target : reg->e[i].e.parent) == oid)
				r = visit(arg, &reg->e[i].e);
		if (r != 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static int local_links_to(void *ctx, uint64_t oid, tree_visit_fn *visit, void *arg)
{
	struct tree_key key = { .id = oid, .kind = TREE_LINK };
	struct pull_local *l = ctx;
	struct reg *reg = &l->engine->old;
	size_t i;
	int r;

	/* A directory's own link has no row in targets. */
	r = reg_load(reg, txn(l->engine), l->vol->number, &key);
	for (i = 0; r == 0 && i < reg->num; i++)
		if (reg->e[i].e.target == oid)
			r = visit(arg, &reg->e[i].e);
	return r != 0 ? r : visit_links(l, DB_TARGETS, oid, true, visit, arg);
}

static int local_links_under(void *ctx, uint64_t oid, tree_visit_fn *visit, void *arg)
{
	return visit_links(ctx, DB_DIRS, oid, false, visit, arg);
}

struct tree_local pull_callbacks(struct pull_local *local)
{
	return (struct tree_local){ local, local_unit, local_links_to, local_links_under,
		local_all };
}
