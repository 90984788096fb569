/*
 * Several stores of one volume that pull from each other, and random operations on them.
 */
#ifndef BAZIL_TESTS_UNIT_STORED_PEERS_H
#define BAZIL_TESTS_UNIT_STORED_PEERS_H

#include "rig.h"

/* What q answers to a pull. */
struct peers_answer {
	uint8_t known[2 * TREE_KNOWLEDGE_SIZE];
	struct serve_info info;
	struct serve *serve;
};

/* Whom the following pulls name; NULL: nobody. */
extern const uint8_t *peers_name;
/* Another store of the same volume. */
void peers_join(struct rig *rig, const struct rig *first);
/* Stages all of the answer; pages as large as cap. */
void peers_stage(struct rig *p, struct pull *pull, struct peers_answer *a, size_t cap);
/* p <- q: what the last step returned, 1 when there was nothing. changes and ret_conflicts may be
 * NULL. */
int peers_pull_with(struct rig *p, struct rig *q, size_t cap, struct engine_changes *changes,
	uint64_t *ret_conflicts);
int peers_pull(struct rig *p, struct rig *q);

/* What was made, by whom ever; dirs begins with the root. */
struct peers_model {
	uint64_t dirs[200], files[600], lids[600];
	size_t num_dirs, num_files;
};

bool peers_has_inode(struct rig *rig, uint64_t oid);
uint64_t peers_view(struct rig *rig);
/* As a mountd that sometimes has not seen the last pull yet. */
void peers_random_op(struct rig *rig, struct peers_model *m, uint64_t *seed);

#endif
