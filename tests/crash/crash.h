/*
 * What may be on a disk after the power went off in the middle of a log (tests/crash/simdisk.h).
 *
 * The model: an operation before a sync of its file (or of the directory, for names) is durable.
 * Of all others each sector is there as of any moment since the last sync, independently: so writes
 * are lost, reordered and torn at 512 or 4096 bytes. A file's size and each name are independent of
 * that too: a size may be durable without the bytes, which are then zeros or an old block of
 * another file. The operation during which it happens is one of those that are not durable.
 * What was written before a failed sync never gets there, however often the file is synced later:
 * it must be written again.
 *
 * Calling order: crash_start with the image that the log began with; crash_step once for each
 * operation in order; after each step crash_image any number of times; crash_end.
 */
#ifndef BAZIL_TESTS_CRASH_CRASH_H
#define BAZIL_TESTS_CRASH_CRASH_H

#include "tests/crash/simdisk.h"

struct crash {
	const struct sim_log *log;
	size_t next;	       /* operations before this one have begun */
	struct sim_image base; /* all that is durable, and files without a name */
	size_t *pending;       /* operations that are not, ascending */
	size_t num_pending, cap_pending;
};

void crash_start(struct crash *crash, const struct sim_image *image, const struct sim_log *log);
/* The next operation is in flight; those before are done. */
void crash_step(struct crash *crash);
/* The first `num` images are the plain ones: all lost, all kept. Others are chosen by the seed. */
#define CRASH_PLAIN 2
void crash_image(const struct crash *crash, unsigned index, uint64_t seed, struct sim_image *ret);
void crash_end(struct crash *crash);

#endif
