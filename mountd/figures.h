/*
 * Recursive accounting: bytes, files, directories and the newest change of every subtree, kept
 * lazily. This is the cache; mountd/figure_walk.h fills it. Pure: no I/O, no records.
 *
 * Of each directory that was looked at it knows what is directly in it (own, the directories in it)
 * and the sum of its subtree (total). What changes takes away exactly what it makes untrue: figures
 * of the directory, sums of those above. Always true: who has a total has only such below him.
 *
 * A file with several names is counted with each: so the sum of a directory is the sum of what is
 * in it. Its directories are remembered, to be told when it changes.
 *
 * Directories are named by their node ids. Bounded: figures_full(), then the next walk begins with
 * an empty cache, and counts without keeping what does not fit.
 */
#ifndef BAZIL_MOUNTD_FIGURES_H
#define BAZIL_MOUNTD_FIGURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FIGURES_DIRS_MAX  (256u << 10) /* each some 100 bytes, and 8 for each directory in it */
#define FIGURES_LINKS_MAX (64u << 10)

struct figures;

/* Of a subtree, its own directory not counted. newest: the greatest ctime, ns. */
struct figure {
	uint64_t bytes, files, dirs;
	int64_t newest;
};

struct figure_dir {
	struct figure_dir *hash_next;
	uint64_t node, parent; /* parent 0: not known */
	struct figure own, total;
	bool has_own, has_total;
	uint64_t *subdirs; /* with own */
	size_t num_subdirs;
};

int figures_new(struct figures **ret);
void figures_free(struct figures *figures);
void figures_forget_all(struct figures *figures);
bool figures_empty(const struct figures *figures);
bool figures_full(const struct figures *figures);

/* NULL when nothing is known of it. */
struct figure_dir *figures_find(struct figures *figures, uint64_t node);
/* What is in the directory: takes a copy of subdirs and becomes their parent. NULL: full. */
struct figure_dir *figures_set_own(struct figures *figures, uint64_t node, const struct figure *own,
	const uint64_t *subdirs, size_t num);
/* A place in the cache for the subdirectory of a parent, without figures. NULL: full. */
struct figure_dir *figures_expect(struct figures *figures, uint64_t node, uint64_t parent);
/* A file with several names was counted in this directory. */
void figures_note_link(struct figures *figures, uint64_t file, uint64_t dir);

/* Files got second names that nobody noted: their changes take everything away from now on. */
void figures_lose_links(struct figures *figures);

/* Something in the directory changed: a name, or an inode under one. */
void figures_touch(struct figures *figures, uint64_t dir);
/* An inode changed that is shown in this directory (0: not known) and maybe, a file, in others. */
void figures_touch_inode(struct figures *figures, uint64_t node, uint64_t parent, uint32_t nlink);
/* Counts the changes: equal numbers, equal figures. */
uint64_t figures_changes(const struct figures *figures);

void figure_add(struct figure *sum, const struct figure *other);

#endif
