/*
 * What was when: the versions of a register or of a name, and what changed between two instants.
 */
#ifndef BAZIL_STORED_VERSIONS_H
#define BAZIL_STORED_VERSIONS_H

#include "stored/engine.h"

struct version {
	uint64_t since, until; /* until 0: it still is */
	uint32_t size;	       /* bytes of its records in the page */
};

struct versions {
	struct version *list;
	size_t num, max;
	bool end;
};

/* Versions that began later than after, oldest first; their records into the page. key->id 0 of a
 * link: those of the name (parent, key->tag). */
int engine_versions(struct engine *engine, struct volume *vol, const struct tree_key *key,
	uint64_t parent, uint64_t after, struct engine_page *page, struct versions *versions);

/* Where a page of differences ended; all zero to start. */
#define DIFF_CURSOR_SIZE 14

/* Registers that changed later than from and not later than to (0: now). -ESTALE: one of the two is
 * not kept any more. */
int engine_diff(struct engine *engine, struct volume *vol, uint64_t from, uint64_t to,
	uint8_t cursor[DIFF_CURSOR_SIZE], struct tree_key *ret, size_t max, size_t *ret_num,
	bool *ret_end);

#endif
