#include "stored/intake.h"

#include "ipc/store.gen.h"
#include "ipc/sync.gen.h"
#include "stored/digest.h"
#include "stored/stored.h"
#include "worker/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_MAX                                                                                  \
	(2u << 20) /* bytes of entries written at a time: still in the cache when they are */
#define ROOM_EVERY (4u << 20) /* bytes between two looks at the free space */
#define TRIES_MAX  4

static struct intake_area *area_of(struct ipc_ring *ring)
{
	return ipc_ring_user(ring);
}

/* ---- the rings of mountds */

static int copy_entry(struct stored *stored, const void *data, uint32_t len)
{
	if (len > stored->entry_cap) {
		uint8_t *entry = realloc(stored->entry, len);

		if (!entry)
			return -ENOMEM;
		stored->entry = entry;
		stored->entry_cap = len;
	}
	memcpy(stored->entry, data, len);
	return 0;
}

static int take_object(struct stored *stored, const uint8_t *data, uint32_t len,
	const struct staged_object *object)
{
	uint8_t tag[INTAKE_TAG_SIZE], id[32];

	if (object)
		return engine_put_hashed(stored->engine, object->entry,
			object->entry + INTAKE_TAG_SIZE, object->len - INTAKE_TAG_SIZE, object->id);
	memcpy(tag, data, sizeof(tag));
	return engine_put_object(
		stored->engine, tag, data + INTAKE_TAG_SIZE, len - INTAKE_TAG_SIZE, id);
}

static int take_entry(struct store_server *mount, struct volume *vol, uint32_t type,
	const void *data, uint32_t len, uint64_t end)
{
	struct stored *stored = mount->stored;
	struct engine_changes changes = { 0 };
	struct volume_info info;
	int r;

	switch ((enum intake_type)type) {
	case INTAKE_OBJECT:
		if (len <= INTAKE_TAG_SIZE || len - INTAKE_TAG_SIZE > INTAKE_OBJECT_MAX)
			return -EBADMSG;
		stored->counters.objects++;
		return take_object(stored, data, len, staged_find(&stored->staged, mount->taken));
	case INTAKE_BATCH:
		if (len > INTAKE_BATCH_MAX)
			return -EBADMSG;
		r = copy_entry(stored, data, len);
		if (r < 0)
			return r;
		stored->counters.batches++;
		r = engine_apply(
			stored->engine, vol, stored->entry, len, mount->incarnation, end, &changes);
		if (r == 0 && (changes.num > 0 || changes.all)) {
			volume_info(vol, &info);
			mount_tell(mount, info.view, info.view, &changes);
		}
		engine_changes_release(&changes);
		return r;
	}
	return -EBADMSG;
}

/* Entries up to the end of the ring or of a group; they are in the engine then, not written. */
static int take_group(struct store_server *mount, struct volume *vol)
{
	uint64_t start = mount->taken, end;
	const void *data;
	struct staged *staged = &mount->stored->staged;
	uint32_t type, len;
	int r;

	staged_drop(staged);
	for (;;) {
		r = ipc_ring_peek_at(mount->ring, mount->taken, &end, &type, &data, &len);
		if (r <= 0)
			return r;
		if (type == INTAKE_OBJECT && !staged_find(staged, mount->taken))
			staged_fill(staged, mount->ring, mount->taken, start + GROUP_MAX);
		r = take_entry(mount, vol, type, data, len, end);
		if (r < 0)
			return r;
		mount->taken = end;
		if (end - start >= GROUP_MAX)
			return 0;
	}
}

static void set_error(struct store_server *mount, int err)
{
	struct intake_area *area = area_of(mount->ring);

	if ((err != 0) != mount->is_full)
		log_at(err ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "%s",
			err ? "the disk is full: files can only be deleted"
			    : "there is room on the disk again");
	mount->is_full = err != 0;
	atomic_store_explicit(&area->error, (uint32_t)err, memory_order_release);
}

static void written(struct store_server *mount)
{
	struct stored *stored = mount->stored;

	stored->grown += mount->taken - mount->released;
	mount->released = mount->taken;
	atomic_store_explicit(
		&area_of(mount->ring)->applied, mount->released, memory_order_release);
	ipc_ring_release(mount->ring, mount->released);
	if (ipc_ring_must_kick(mount->ring))
		store_room(mount->chan, &(struct store_room){ 0 });
	if (stored->grown >= ROOM_EVERY)
		intake_check_room(stored);
}

static void give_up(struct store_server *mount, int r)
{
	log_warn("a mountd sent a malformed entry: its edge is closed (%s)", strerror(-r));
	mount->stored->counters.broken++;
	mount->is_broken = true;
}

/* 1: something was taken, 0: nothing was there (or it cannot be taken now). */
static int run_once(struct store_server *mount, struct volume *vol)
{
	uint64_t before = mount->released;
	int r, flushed;

	r = take_group(mount, vol);
	if (r == -ERESTART) {
		mount->taken = mount->released;
		return -ERESTART;
	}
	if (r == -EBADMSG || r == -EINVAL)
		give_up(mount, r);
	else if (r == -ENOSPC) {
		/* A new arena could not be made. */
		engine_use_reserve(mount->stored->engine);
		set_error(mount, ENOSPC);
	} else if (r < 0) {
		stored_die(r, "taking from a ring");
	}
	flushed = engine_flush(mount->stored->engine);
	if (flushed == -ENOSPC) {
		/* It did not happen. It stays in the ring until there is room. */
		mount->taken = mount->released;
		set_error(mount, ENOSPC);
		return 0;
	}
	if (flushed < 0)
		stored_die(flushed, "writing an arena");
	if (mount->taken == before)
		return 0;
	written(mount);
	return 1;
}

bool intake_run(struct store_server *mount)
{
	struct volume *vol = engine_volume(mount->stored->engine, mount->volume);
	int tries = 0, r;
	bool any = false;

	if (!vol || mount->is_broken)
		return false;
	for (;;) {
		r = run_once(mount, vol);
		if (r == 1) {
			any = true;
			tries = 0;
			/* A ring that never gets empty must not fill the memory. */
			commit_index(mount->stored);
			continue;
		}
		if (r == -ERESTART && ++tries < TRIES_MAX)
			continue;
		if (r < 0)
			stored_die(r, "taking from a ring");
		return any;
	}
}

void mount_tell(struct store_server *mount, uint64_t since, uint64_t view,
	const struct engine_changes *changes)
{
	struct store_change part[STORE_CHANGED_CHANGES_MAX];
	struct store_changed msg = { .since = since, .view = view, .changes = part };
	size_t i = 0;

	if (changes->all || changes->num > ENGINE_CHANGES_MAX) {
		msg.all = true;
		store_changed(mount->chan, &msg);
		return;
	}
	do {
		msg.num_changes = 0;
		for (; i < changes->num && msg.num_changes < STORE_CHANGED_CHANGES_MAX; i++) {
			struct store_change *change = &part[msg.num_changes++];

			change->kind = changes->list[i].kind;
			change->id = changes->list[i].id;
			change->parent = changes->list[i].parent;
			memcpy(change->tag, changes->list[i].tag, sizeof(change->tag));
		}
		msg.more = i < changes->num;
		store_changed(mount->chan, &msg);
	} while (i < changes->num);
}

/* ---- the ring of syncd: objects that were asked for */

/* -ERESTART: to be taken again. What is no object, or finds no room on the disk, is dropped, and
 * whoever asked will hear that it is not here. */
static int take_fetched(
	struct stored *stored, struct digest *digest, const uint8_t *data, uint32_t len)
{
	static const uint8_t no_tag[INTAKE_TAG_SIZE];
	uint8_t id[32];
	int r;

	r = copy_entry(stored, data, len);
	data = stored->entry + INTAKE_TAG_SIZE;
	len -= INTAKE_TAG_SIZE;
	if (r == 0)
		r = digest_of(digest, data, len, id);
	/* Nobody may fill the store with what was not asked for. */
	if (r == 0 && fetch_wants(stored, id))
		r = engine_put_object(stored->engine, no_tag, data, len, id);
	if (r == -EBADMSG)
		r = 0;
	if (r == 0)
		r = engine_flush(stored->engine);
	if (r < 0 && r != -ENOSPC && r != -ERESTART)
		stored_die(r, "taking objects");
	return r == -ERESTART ? r : 0;
}

/* Takes all that there is. -EBADMSG: a malformed entry. */
static int take_all_fetched(struct stored *stored, struct digest *digest, bool *ret_any)
{
	struct sync_server *sync = stored->sync;
	const void *data;
	uint32_t type, len;
	uint64_t end;
	int r;

	while ((r = ipc_ring_peek(sync->in, &end, &type, &data, &len)) == 1) {
		if (type != INTAKE_OBJECT || len <= INTAKE_TAG_SIZE ||
			len - INTAKE_TAG_SIZE > INTAKE_OBJECT_MAX)
			return -EBADMSG;
		if (take_fetched(stored, digest, data, len) == -ERESTART)
			continue;
		*ret_any = true;
		ipc_ring_release(sync->in, end);
		if (ipc_ring_must_kick(sync->in))
			sync_room(sync->chan, &(struct sync_room){ 0 });
	}
	return r;
}

bool intake_sync(struct stored *stored)
{
	struct digest *digest;
	bool any = false;
	int r;

	if (!stored->sync || ipc_ring_head(stored->sync->in) == ipc_ring_tail(stored->sync->in))
		return false;
	digest = digest_new();
	if (!digest)
		stored_die(-ENOMEM, "taking objects");
	r = take_all_fetched(stored, digest, &any);
	digest_free(digest);
	if (r < 0) {
		log_warn("syncd sent a malformed entry: its edge is closed");
		stored->counters.broken++;
		sync_close(stored);
	} else if (any) {
		fetch_arrived(stored);
	}
	return any;
}

/* ---- sleeping, and room */

void intake_sleep(struct stored *stored)
{
	struct store_server *mount;

	for (mount = stored->mounts; mount; mount = mount->next)
		ipc_ring_sleep_begin(mount->ring);
	if (stored->sync)
		ipc_ring_sleep_begin(stored->sync->in);
}

void intake_wake(struct stored *stored)
{
	struct store_server *mount;

	for (mount = stored->mounts; mount; mount = mount->next)
		ipc_ring_sleep_end(mount->ring);
	if (stored->sync)
		ipc_ring_sleep_end(stored->sync->in);
}

bool intake_pending(struct stored *stored)
{
	struct store_server *mount;

	/* A ring that waits for room on the disk is looked at again by the timer. */
	for (mount = stored->mounts; mount; mount = mount->next)
		if (!mount->is_full && ipc_ring_head(mount->ring) != mount->taken)
			return true;
	return stored->sync && ipc_ring_head(stored->sync->in) != ipc_ring_tail(stored->sync->in);
}

void intake_check_room(struct stored *stored)
{
	struct store_server *mount;
	int err = engine_room(stored->engine);

	stored->grown = 0;
	for (mount = stored->mounts; mount; mount = mount->next)
		set_error(mount, err);
}
