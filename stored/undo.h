/*
 * The syncs that changed a volume, and undoing one.
 *
 * Undoing writes what the registers that the sync changed had before it, as new values with our own
 * stamp, or removes what there was nothing of before. So for peers it is an edit like any other,
 * nothing that was deleted comes back by itself, and it is in the list and can be undone. What was
 * changed again since the sync stays as it is, and so do an inode that the sync brought and
 * somebody changed here, and the links to it. So does the first contents of a file that was empty
 * since it was made.
 *
 * However much the sync changed, it is all or nothing: the changes are logged in parts, as those of
 * a pull are, and count when the last frame is there. For each register that changed 48 bytes are
 * in memory, less than its pull took; records are read when they are written.
 */
#ifndef BAZIL_STORED_UNDO_H
#define BAZIL_STORED_UNDO_H

#include "stored/engine.h"

#define UNDO_KEPT_MAX 1024

struct pulled {
	uint64_t time;
	uint64_t num_changed;
	bool is_undone;
	uint8_t peer[32]; /* zero: an undo */
};

/* Newest first, those before a time (0: all). */
int undo_list(struct engine *engine, const struct volume *vol, uint64_t before, struct pulled *ret,
	size_t max, size_t *ret_num, bool *ret_end);

struct undo_result {
	uint64_t time; /* of the sync */
	uint64_t num_restored, num_stayed;
	uint64_t kept[UNDO_KEPT_MAX]; /* inodes of what stayed */
	size_t num_kept;
	struct engine_changes changes; /* the caller releases it */
};

/*
 * time 0: the newest that was a sync and is not undone. Durable when it returns; counts as a pull
 * for the view of mountd (stored/intake.h). -ENOENT: there is none; -ESTALE: what was before is not
 * kept any more; engine_error has the text.
 */
int undo_run(struct engine *engine, struct volume *vol, uint64_t time, struct undo_result *result);

#endif
