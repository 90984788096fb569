/*
 * The store engine fed with bytes: the first byte says as what. 0: a batch entry out of a ring,
 * from a mountd that was broken into; 1 to 3: the changes of a frame whose sums are right, as from
 * a damaged or forged arena; 4: what a peer sent in a pull. None may crash, and the engine must
 * work afterwards.
 */
#include "stored/change.h"
#include "stored/engine.h"
#include "stored/settings.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char path[] = "/tmp/bazil-fuzz-XXXXXX";
static int dir_fd = -1;
static struct engine *engine;
static uint64_t position = 1;

static void clean(void)
{
	static const char *const names[] = { "arena.00000001", "index", "index-lock", "format" };

	engine_abandon(engine);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlinkat(dir_fd, names[i], 0);
	close(dir_fd);
	rmdir(path);
}

static void start(void)
{
	struct engine_options options = {
		.path = path, .create = true, .map_size = 64u << 20, .reserve_size = UINT64_MAX
	};
	uint64_t first;

	if (!mkdtemp(path))
		abort();
	dir_fd = open(path, O_RDONLY | O_DIRECTORY);
	options.dir_fd = dir_fd;
	if (engine_open(&engine, &options) < 0 ||
		settings_volume_add(engine, "v", NULL, "s", (const uint8_t *)"12345678") < 0 ||
		engine_oids(engine, engine_volume_at(engine, 0), 1000, &first) < 0)
		abort();
	atexit(clean);
}

static void as_batch(struct volume *vol, uint8_t *data, size_t len)
{
	struct engine_changes changes = { 0 };

	engine_apply(engine, vol, data, len, 1, position++, &changes);
	engine_changes_release(&changes);
}

static void as_frame(enum frame_type type, const uint8_t *data, size_t len)
{
	struct frame_view frame = { .type = type,
		.place = { .arena = 1, .len = (uint32_t)len, .offset = FRAME_SUPER_SIZE },
		.payload = data };

	engine->is_replaying = true;
	change_replay(engine, &frame);
	engine->is_replaying = false;
}

static void as_pull(struct volume *vol, const uint8_t *data, size_t len)
{
	/* Knowledge of one replica and an empty horizon. */
	static const uint8_t known[] = { 1, 1, 0, 0, 9, 0, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0,
		0 };
	static uint8_t asked[TREE_KNOWLEDGE_SIZE], need[8000];
	struct pull_result result = { .need = need, .need_cap = sizeof(need) };
	struct pull *pull;
	size_t asked_len;

	if (engine_pull_begin(engine, vol, &pull, asked, &asked_len) < 0)
		return;
	engine_pull_put(engine, pull, data, len, NULL, 0);
	if (engine_pull_step(engine, pull, known, sizeof(known), len & 1, &result) == 0 &&
		result.need_len > 0)
		engine_pull_abort(engine, pull);
	engine_changes_release(&result.changes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct volume *vol;
	uint8_t *copy;

	if (!engine)
		start();
	if (len == 0)
		return 0;
	vol = engine_volume_at(engine, 0);
	copy = malloc(len);
	if (!copy || !vol)
		abort();
	memcpy(copy, data + 1, len - 1);
	switch (data[0] % 5) {
	case 0:
		as_batch(vol, copy, len - 1);
		break;
	case 4:
		as_pull(vol, copy, len - 1);
		break;
	default:
		as_frame(data[0] % 5 == 1   ? FRAME_BATCH
			 : data[0] % 5 == 2 ? FRAME_SETTINGS
					    : FRAME_PULL_COMMIT,
			copy, len - 1);
		break;
	}
	free(copy);
	/* Back to what it was; that must work whatever it was. */
	if (engine_rollback(engine) < 0)
		abort();
	return 0;
}
