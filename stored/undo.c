#include "stored/undo.h"

#include "stored/change.h"
#include "stored/history.h"
#include "stored/object.h"
#include "stored/undo_state.h"
#include "stored/volume.h"

#include <errno.h>
#include <string.h>

static int load(void *arg, const struct tree_key *key, uint8_t *buf, size_t *ret_len)
{
	struct plan *p = arg;
	struct reg *was = &p->engine->old;
	const struct element *e;
	int r = undo_before(p, key, was);

	if (r < 0 || was->num == 0)
		return r < 0 ? r : -EUCLEAN;
	e = &was->e[reg_winner(was)];
	*ret_len = element_size(e);
	if (*ret_len > TREE_RECORD_MAX)
		return -EUCLEAN;
	r = element_read(&p->engine->arenas, e, buf);
	return r == -EBADMSG ? -EIO : r;
}

static int apply(struct plan *p, const struct pulled *sync)
{
	static const uint8_t nobody[32];
	struct engine *engine = p->engine;
	struct volume *vol = p->vol;
	struct change_head head = { .vol = vol->number };
	int r;

	r = engine_expect(engine, p->num_ops);
	if (r == 0)
		r = change_begin(engine);
	if (r < 0)
		return r;
	head.time = change_time(engine, vol);
	r = batch_restore(engine, vol, p->ops, p->num_ops, load, p, &p->result->changes);
	vol->view++;
	if (r == 0)
		r = change_pulled(engine, vol, sync->time, sync->peer, sync->num_changed, true);
	if (r == 0)
		r = change_pulled(engine, vol, head.time, nobody, p->num_ops, false);
	if (r == 0)
		r = change_state(engine, vol);
	return change_commit_parts(engine, vol, &head, r);
}

static int attempt(struct plan *p, const struct pulled *sync)
{
	struct undo_result *result = p->result;
	int r;

	result->num_restored = result->num_stayed = result->num_kept = 0;
	r = undo_plan(p);
	if (r == 0 && p->num_ops > 0)
		r = apply(p, sync);
	if (r == 0)
		result->num_restored = p->num_ops;
	else
		engine_changes_release(&result->changes);
	undo_plan_release(p);
	return r;
}

static int run(struct engine *engine, struct volume *vol, const struct pulled *sync,
	struct undo_result *result)
{
	int i, r = -ERESTART;

	/* The index may have grown meanwhile. */
	for (i = 0; r == -ERESTART && i < 4; i++) {
		struct plan p = {
			.engine = engine, .vol = vol, .time = sync->time, .result = result
		};

		r = attempt(&p, sync);
	}
	return r == -ERESTART ? -EIO : r;
}

static int explain(struct engine *engine, const struct volume *vol, int r)
{
	switch (r) {
	case -ENOENT:
		return engine_fail(engine, r,
			"volume %s: there is no such sync to undo; `bazil volume syncs` lists them",
			vol->name);
	case -ESTALE:
		return engine_fail(engine, r,
			"volume %s: what was before that sync is not kept any more", vol->name);
	case -EALREADY:
		return engine_fail(engine, r,
			"volume %s: that sync is undone; undo the undoing to have it again",
			vol->name);
	case -EBUSY:
		return engine_fail(
			engine, r, "volume %s: a sync is running; wait for it to end", vol->name);
	case -ENOSPC:
		return engine_fail(engine, r,
			"volume %s: the disk is full; nothing was changed; free some space",
			vol->name);
	default:
		return engine_fail(engine, r, "volume %s: undo failed: %s; nothing was changed",
			vol->name, strerror(-r));
	}
}

int undo_run(struct engine *engine, struct volume *vol, uint64_t time, struct undo_result *result)
{
	struct pulled sync;
	int r;

	result->num_restored = result->num_stayed = result->num_kept = 0;
	r = vol->pull ? -EBUSY : engine_flush(engine);
	if (r == 0)
		r = undo_find(engine, vol, time, &sync);
	if (r == 0 && sync.is_undone)
		r = -EALREADY;
	if (r == 0 && sync.time <= vol->kept.all)
		r = -ESTALE;
	if (r == 0) {
		result->time = sync.time;
		r = run(engine, vol, &sync, result);
	}
	return r < 0 ? explain(engine, vol, r) : 0;
}
