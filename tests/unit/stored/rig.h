/*
 * A store in a directory of its own, and batches to feed it, for the tests of stored/.
 */
#ifndef BAZIL_TESTS_UNIT_STORED_RIG_H
#define BAZIL_TESTS_UNIT_STORED_RIG_H

#include "stored/engine.h"
#include "stored/intake.h"
#include "tree/record.h"

struct rig {
	char path[64];
	int dir_fd;
	struct engine_options options;
	struct engine *engine;
	struct volume *vol;
	uint64_t position; /* of the imagined ring */
	uint32_t replica;
	uint64_t next_id, last_id;
	struct engine_changes changes;
	uint64_t seed;
	uint64_t at;	  /* what rig_digest reads: an instant; 0: now */
	bool is_thorough; /* and by name and by number as well */
};

/* xorshift; the seed is BAZIL_SEED or fresh, and printed. */
uint64_t rig_seed(void);
uint64_t rig_random(uint64_t *seed);

void rig_new(struct rig *rig);	/* a directory, a store, a volume "v" */
void rig_open(struct rig *rig); /* asserts */
int rig_try_open(struct rig *rig);
void rig_close(struct rig *rig);
void rig_kill(struct rig *rig); /* as by SIGKILL: nothing is flushed */
void rig_free(struct rig *rig); /* and removes the directory */
void rig_path(const struct rig *rig, const char *name, char ret[96]);

uint64_t rig_id(struct rig *rig);

/* A batch being built. */
struct entry {
	uint8_t data[INTAKE_BATCH_MAX];
	size_t len;
};
void entry_start(struct entry *entry, uint64_t view);
void entry_put(struct entry *entry, const struct tree_record *rec);
void entry_remove(struct entry *entry, enum tree_kind kind, uint64_t id, const uint8_t *tag);
int rig_apply(struct rig *rig, struct entry *entry);

void tag_of(const char *name, uint8_t ret_tag[TREE_TAG_SIZE]);
/* Records with a value that is told by `value`: vtag and sealed part follow from it. */
void put_attr(struct entry *entry, uint64_t oid, bool is_dir, uint64_t value);
void put_body(struct entry *entry, uint64_t oid, uint64_t value, size_t sealed_len);
void put_link(struct entry *entry, uint64_t lid, uint64_t parent, const char *name, uint64_t target,
	bool is_dir);
void put_xattr(struct entry *entry, uint64_t oid, const char *name, uint64_t value, size_t len);

/* Whole operations, each a batch; asserted to succeed. */
uint64_t rig_file(struct rig *rig, uint64_t parent, const char *name, uint64_t *ret_lid);
uint64_t rig_dir(struct rig *rig, uint64_t parent, const char *name);
void rig_unlink(struct rig *rig, uint64_t lid, uint64_t oid, bool drop);

/* A page with room. */
struct page {
	uint8_t records[120000];
	struct engine_node nodes[1024];
	struct engine_page page;
};
struct engine_page *page_init(struct page *page);
/* Records in it. */
size_t page_count(const struct page *page);
bool page_find(const struct page *page, enum tree_kind kind, uint64_t id, struct tree_record *ret);

/* Everything that can be read below the root, as a sum: equal states have equal sums. stamps: also
 * who wrote it. */
uint64_t rig_digest(struct rig *rig, bool stamps);

#endif
