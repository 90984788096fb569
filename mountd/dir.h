/*
 * The loaded names of one directory. Found by name through a hash, listed in the order of their
 * link ids, which are the cookies of readdir: they never change, so a listing that is interrupted
 * by changes, or by the death of mountd, misses and repeats nothing that was there all the time.
 *
 * `complete`: every name of the directory is here, so a missing one is known to be missing and
 * a listing needs no stored. A directory made here is complete from its birth; one that is loaded
 * has all names up to a link id, beside those that were asked for or made.
 *
 * A name may be a conflict name (shown instead of the true one, see view.h): shown_len, shown.
 */
#ifndef BAZIL_MOUNTD_DIR_H
#define BAZIL_MOUNTD_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dirent_entry {
	struct dirent_entry *hash_next;
	uint64_t lid, target;
	uint32_t hash;
	uint16_t name_len; /* what is shown */
	uint8_t type;	   /* S_IFMT bits >> 12 */
	bool is_computed;  /* a conflict name: name differs from the record's */
	char name[];
};

struct dir {
	bool complete;
	uint64_t upto;	/* all with link ids up to this are here */
	uint32_t asked; /* how often for a single name */
	struct dirent_entry **table;
	size_t size, num;
	struct dirent_entry **order; /* by lid, somewhere in order_room; as many fit as in table */
	struct dirent_entry **order_room;
};

struct dir *dir_new(void);
void dir_free(struct dir *dir);
void dir_clear(struct dir *dir); /* empty and no longer complete */

struct dirent_entry *dir_find(const struct dir *dir, const char *name, size_t len);
struct dirent_entry *dir_find_lid(const struct dir *dir, uint64_t lid);
/* Adds or replaces what has this lid. */
struct dirent_entry *dir_add(
	struct dir *dir, uint64_t lid, uint64_t target, uint8_t type, const char *name, size_t len);
void dir_remove(struct dir *dir, struct dirent_entry *entry);
/* Index in `order` of the first entry with a link id greater than `after`. */
size_t dir_after(const struct dir *dir, uint64_t after);

#endif
