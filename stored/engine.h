/*
 * The store engine: one directory with all that a node keeps, as a library without any process
 * around it. It is blind: it sees sealed objects, the clear parts of records, and settings.
 *
 *   arena.NNNNNNNN   objects and the redo log of everything else (stored/arena.h)
 *   index            LMDB: where objects are, registers and what is derived (stored/rows.h)
 *   format           text: version and settings, checked before anything else is touched
 *   superblocks      copies of the arenas' first blocks (stored/superblocks.h)
 *   reserve          space for deleting on a full disk
 *   failed           what the last process could not make durable (stored/failed.h)
 *
 * Model. A change is first put into the arena's buffer as a frame, then into the index, in memory
 * (stored/db.h), where every read sees it.
 *
 *   engine_flush        the buffered frames are written (one pwrite): they survive the process
 *   engine_sync         and are durable (one fdatasync for everything before it)
 *   engine_checkpoint   sync, then the index commits together with the log position it covers
 *   engine_tick         the same when it is time, beside serving (stored/indexer.h)
 *
 * engine_open takes the last commit and replays the frames behind it, so that after any crash the
 * store is what it was after some change, and no earlier than the last sync. A lost or damaged
 * index is rebuilt from the arenas by the same replay.
 *
 * Calling order: engine_open; anything; engine_close (which checkpoints). After a group of puts and
 * batches call engine_flush, and only then acknowledge them. engine_tick checkpoints when it is
 * time, and seals full arenas.
 *
 * Errors, of every function: 0 or -errno. -ENOSPC: the disk is full; the change did not happen.
 * -EIO: the engine is broken (a write or fdatasync failed): end the process, open anew. -ERESTART:
 * what was buffered since the last flush did not happen and was taken back: do it again.
 * engine_error has a text for people after a failed engine_open, settings call or pull.
 *
 * Volumes are handled by pointer; a pointer is valid until its volume is removed. Not for use from
 * several threads.
 */
#ifndef BAZIL_STORED_ENGINE_H
#define BAZIL_STORED_ENGINE_H

#include "stored/arena.h"
#include "stored/io.h"
#include "tree/merge.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENGINE_NAME_MAX	   64
#define ENGINE_STORAGE_MAX 256
#define ENGINE_FORMAT	   4

struct engine;
struct volume;

struct engine_options {
	const struct store_io *io; /* NULL: store_io_file */
	int dir_fd;		   /* the store's directory; borrowed */
	const char *path;	   /* the same directory by name, for LMDB */
	bool create;		   /* make a new store; -EEXIST if there is one */
	bool threads;		   /* may make threads for what takes long; else it is done in
				      engine_tick */
	bool rebuild;	       /* forget the index and make it anew from the arenas; an opening that
				  does not get to its end is followed by one that does so too */
	uint64_t arena_size;   /* 0: as store/format says, 1 GiB */
	uint32_t open_arenas;  /* descriptors of them to keep; 0: ARENAS_OPEN_MAX */
	uint32_t part_size;    /* of what a pull changes, in one frame; 0: 4 MiB */
	uint64_t map_size;     /* 0: 1 TiB */
	uint64_t reserve_size; /* 0: 64 MiB; ~0: none */
	uint64_t shrink_size;  /* 0: 64 MiB; a smaller index is not compacted */
	uint64_t base_size; /* 0: 4 MiB; for less of changes no base is written (stored/base.h), */
	uint32_t base_percent;	   /* 0: 200; nor for less of its own size */
	uint64_t checkpoint_bytes; /* 0: 256 MiB of log, or */
	uint64_t checkpoint_ops;   /* 0: 200000 changes, or */
	uint32_t checkpoint_ms;	   /* 0: 5000 ms after the last one */
	uint32_t dead_rows;	   /* 0: DEAD_ROWS (stored/dead.h) */
	void (*wake)(void *arg);   /* see engine_sync_start; NULL: nobody */
	void *wake_arg;
	/* While opening takes long: bytes of the arenas; NULL: nobody wants to know. */
	void (*progress)(void *arg, uint64_t done, uint64_t total);
	void *progress_arg;
	void (*log)(void *arg, int level, const char *text); /* level as syslog(3) */
	void *log_arg;
};

int engine_open(struct engine **ret, const struct engine_options *options);
/* Checkpoints and releases. The engine is gone whatever it returns. */
int engine_close(struct engine *engine);
/* Releases without making anything durable: what a kill does. */
void engine_abandon(struct engine *engine);
/* The text of the last failure; with engine NULL of the last failed engine_open. */
const char *engine_error(const struct engine *engine);

int engine_flush(struct engine *engine);
int engine_sync(struct engine *engine);
/*
 * The same without waiting, if options.threads: everything until now is flushed, and is durable
 * when engine_is_durable says so of the ticket. engine_sync_poll moves it on: -EIO when it failed.
 * options.wake is called from another thread when there is something to poll.
 */
int engine_sync_start(struct engine *engine, uint64_t *ret_ticket);
int engine_sync_poll(struct engine *engine);
bool engine_is_durable(const struct engine *engine, uint64_t ticket);
/* Waits until the index is committed. */
int engine_checkpoint(struct engine *engine);
/* Begins a checkpoint if enough has changed, or long enough ago, and goes on with one: once the log
 * is durable the index is committed, by later calls or by a thread. -ENOSPC: what is to be
 * committed finds no room and stays in memory. */
int engine_tick(struct engine *engine);
/* The same whether it is due or not, but one at a time. */
int engine_commit_soon(struct engine *engine);
/* Something has changed since the last checkpoint was begun. */
bool engine_is_dirty(const struct engine *engine);
/* More has changed than the index takes at once: engine_tick should go on before more comes, or it
 * will wait at last. There will be a wake. */
bool engine_is_behind(const struct engine *engine);
/* Drops what was not flushed and brings the index back to what the log has. */
int engine_rollback(struct engine *engine);

/* 0 or ENOSPC (positive): whether there is room to grow. Asks the file system. */
int engine_room(struct engine *engine);
/* Gives the reserve up to make room for what is in flight already; -ENOSPC when it is gone. */
int engine_use_reserve(struct engine *engine);

struct engine_stat {
	uint64_t objects;
	uint64_t object_bytes;
	uint64_t damaged; /* ranges of arenas skipped since open */
	uint64_t changes; /* since the last checkpoint */
	uint32_t arenas, sealed;
	uint32_t set_aside;   /* arenas without a superblock: arena.NNNNNNNN.bad */
	uint64_t arena_bytes; /* of frames; holes included */
	bool was_rebuilt;     /* the index, when it was opened */
	uint64_t arena_size;
	uint64_t reserve; /* bytes kept for deleting on a full disk */
	struct statvfs fs;
};
int engine_stat(struct engine *engine, struct engine_stat *ret);
/* Bytes of the index file and of its free pages; reads the list of these. */
int engine_stat_index(struct engine *engine, uint64_t *ret_bytes, uint64_t *ret_free);

/* ---- objects */

/* Keeps a sealed object; the id is computed here. tag NULL or zero: no dedup tag. -EBADMSG: a
 * manifest (cas/object.h) whose references cannot be read, or no size of an object. */
int engine_put_object(struct engine *engine, const uint8_t tag[32], const uint8_t *sealed,
	size_t len, uint8_t ret_id[32]);
/* Whose id is known: the SHA-256 of sealed, which is private memory. */
int engine_put_hashed(struct engine *engine, const uint8_t tag[32], const uint8_t *sealed,
	size_t len, const uint8_t id[32]);
/* Of the sealed bytes. -ENOENT. */
int engine_locate(struct engine *engine, const uint8_t id[32], struct place *ret);
/* The id of the object with this tag. -ENOENT. */
int engine_have(struct engine *engine, const uint8_t tag[32], uint8_t ret_id[32]);
/* That a chunk which was put without a tag has this one; nothing if the tag finds another. Not in
 * the log: an index that is made anew does not have it. -ENOENT: there is no such chunk. */
int engine_learn_tag(struct engine *engine, const uint8_t tag[32], const uint8_t id[32]);
/* Reads and verifies: -EBADMSG when the bytes do not have that id. buf has place.len bytes. */
int engine_read_object(
	struct engine *engine, const uint8_t id[32], struct place place, uint8_t *buf);
/* A read-only descriptor of an arena; the caller's. */
int engine_arena_open(struct engine *engine, uint32_t arena);

/* ---- volumes and settings (stored/settings.h has the rest) */

struct volume *engine_volume(struct engine *engine, const uint8_t id[16]); /* NULL: none */
struct volume *engine_volume_named(struct engine *engine, const char *name);
struct volume *engine_volume_at(struct engine *engine, size_t i); /* NULL: past the end */

struct volume_info {
	const uint8_t *id, *keyid;
	const char *name, *sharing;
	uint32_t replica;
	uint64_t view;
	uint64_t links, inodes, conflicts;
	uint64_t incarnation, position; /* of the ring, applied */
	uint64_t time;			/* of the newest change (stored/history.h) */
	uint64_t history;		/* versions that are kept */
};
void volume_info(const struct volume *vol, struct volume_info *ret);

/* A mount is there: what pulls remove is set aside for its open files until it says otherwise. */
void volume_attached(struct volume *vol, bool is_attached);

/* A range of numbers never given out before, durable. */
int engine_oids(struct engine *engine, struct volume *vol, uint32_t count, uint64_t *ret_first);

/* ---- batches */

/* A register as store_change says it. */
struct engine_change {
	uint8_t kind;
	uint64_t id;
	uint64_t parent;
	uint8_t tag[TREE_TAG_SIZE];
};

struct engine_changes {
	struct engine_change *list;
	size_t num, cap;
	bool all; /* more than ENGINE_CHANGES_MAX, or not known one by one */
};
#define ENGINE_CHANGES_MAX 8192
void engine_changes_release(struct engine_changes *changes);

/*
 * Applies a batch entry (stored/intake.h) that ends at position of the ring of this incarnation. An
 * entry at or before the last applied position of the same incarnation was taken already and is
 * ignored. The bytes are changed in place (stamped); they must not be shared memory. changes: what
 * became other than the writer asked for. -EBADMSG: malformed, nothing happened.
 */
int engine_apply(struct engine *engine, struct volume *vol, uint8_t *entry, size_t len,
	uint64_t incarnation, uint64_t position, struct engine_changes *changes);
/* Records that the ring was taken up to here without a batch. */
void engine_took(struct volume *vol, uint64_t incarnation, uint64_t position);
/* The position applied of this incarnation, 0 for another one. */
uint64_t engine_taken(const struct volume *vol, uint64_t incarnation);

/* ---- reading */

/* As struct store_node of the schema. */
struct engine_node {
	uint64_t oid;
	uint32_t nlink;
	uint64_t entries;
	uint32_t subdirs;
	uint32_t num_xattrs;
	bool is_fallen;	 /* shown in the root, wherever its link says (stored/fallen.h) */
	uint32_t strays; /* such directories whose links say that they are in this one */
};

/* Packed records one after another, and what they do not say. The caller owns the memory, and sets
 * at: the instant to read at (stored/history.h), 0 for now. */
struct engine_page {
	uint64_t at;
	uint8_t *records;
	size_t len, cap;
	struct engine_node *nodes;
	size_t num_nodes, max_nodes;
	uint64_t next; /* of a directory: go on with after = next */
	bool end;
};

int engine_lookup(struct engine *engine, struct volume *vol, uint64_t parent,
	const uint8_t tag[TREE_TAG_SIZE], struct engine_page *page);
int engine_dir(struct engine *engine, struct volume *vol, uint64_t parent, uint64_t after,
	uint32_t max, struct engine_page *page);
int engine_inode(struct engine *engine, struct volume *vol, uint64_t oid, struct engine_page *page);
int engine_xattrs(struct engine *engine, struct volume *vol, uint64_t oid,
	const uint8_t after[TREE_TAG_SIZE], struct engine_page *page);
int engine_orphans(struct engine *engine, struct volume *vol, uint64_t after, uint64_t *oids,
	size_t max, size_t *ret_num, bool *ret_end);

/* ---- pulls: this store is p (tree/merge.h) */

struct pull;

/* -EBUSY: one is running. ret_known: encoded knowledge, TREE_KNOWLEDGE_SIZE bytes of room. */
int engine_pull_begin(struct engine *engine, struct volume *vol, struct pull **ret,
	uint8_t *ret_known, size_t *ret_len);
/* Who is pulled from, for the list of syncs (stored/undo.h). */
void engine_pull_name(struct pull *pull, const uint8_t peer[32]);
/* Stages what came: entries of tree/delta.h, as one run of bytes in two pieces. */
int engine_pull_put(struct engine *engine, struct pull *pull, const uint8_t *a, size_t a_len,
	const uint8_t *b, size_t b_len);

struct pull_result {
	uint8_t *need; /* u64 little-endian inode numbers; room for need_cap bytes */
	size_t need_cap, need_len;
	uint64_t num_changed, num_conflicts;
	struct engine_changes changes;
};
/* known: q's knowledge and horizon, encoded one behind the other. With need_len 0 the pull is
 * committed and durable, and gone; after an error it is gone as well. */
int engine_pull_step(struct engine *engine, struct pull *pull, const uint8_t *known, size_t len,
	bool is_full, struct pull_result *result);
void engine_pull_abort(struct engine *engine, struct pull *pull);

/* ---- serving pulls: this store is q */

struct serve;
#define ENGINE_SERVES_MAX 8

struct serve_info {
	uint8_t *known; /* knowledge and horizon; room for 2 * TREE_KNOWLEDGE_SIZE */
	size_t known_len;
	bool is_full, has_nothing;
	uint64_t num_units;
};
/* Freezes the epoch, makes all durable, takes a snapshot. *ret is NULL with has_nothing. -EBUSY:
 * too many at once. -EUCLEAN: damage has taken changes away (settings_lost_at). */
int engine_serve_begin(struct engine *engine, struct volume *vol, const uint8_t *asked, size_t len,
	struct serve **ret, struct serve_info *info);
/* Entries from *cursor on (0 at first) into buf, and the cursor behind them. -ENOBUFS: not one
 * fits. */
int engine_serve_page(struct serve *serve, uint64_t *cursor, uint8_t *buf, size_t cap,
	size_t *ret_len, bool *ret_end);
/* The answer to a need: as many of the inodes (u64 little-endian) as fit, at least one. */
int engine_serve_inodes(struct serve *serve, const uint8_t *oids, size_t len, uint8_t *buf,
	size_t cap, size_t *ret_len);
void engine_serve_end(struct serve *serve);

#endif
