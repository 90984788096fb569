/*
 * A base on its way; for the files that write it.
 */
#ifndef BAZIL_STORED_GC_BASE_H
#define BAZIL_STORED_GC_BASE_H

#include "stored/digest.h"
#include "stored/gc_state.h"

enum base_stage {
	BASE_COUNT,
	BASE_BEGIN,
	BASE_REVIEW, /* those that there are: a new one stands beside one that is whole */
	BASE_WRITE,
	BASE_CHECK,
};

struct gc_base {
	enum base_stage stage;
	bool is_written;
	/* Changes in sealed arenas that are in no frame with a far part. */
	size_t arena; /* of gc->arenas, being counted */
	struct gc_walk walk;
	uint64_t old;	/* bytes of those that may go already, */
	uint64_t fresh; /* and of those that could with one more base, */
	uint64_t last;	/* and of them those that will not, but with the one after that */
	/* Being written. */
	struct db_txn *snapshot;
	unsigned table; /* below BASE_TABLES + BASE_TWICE */
	uint8_t key[DB_KEY_MAX + 1];
	size_t key_len;
	uint64_t table_rows;
	struct base base;
	struct digest *digest;
	uint8_t *buf;
	size_t len, cap;
	/* Being read back: this one of gc->bases. */
	struct base_reader reader;
	int checking;
	bool is_reading;
};

/* ---- stored/gc_write.c */
/* Begins it, when nothing speaks against that now. 1. */
int gc_write_begin(struct engine *engine, struct gc *gc);
/* Writes some rows. 1: there are more; 0: it is complete and durable. */
int gc_write_step(struct engine *engine, struct gc *gc);
/* Also of one that is not complete. */
void gc_write_end(struct gc_base *b);

#endif
