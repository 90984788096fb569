/*
 * Finding the figures of a subtree (mountd/figures.h): the directories that are not known are read
 * from stored, a page at a time, nothing of it kept but the sums. Never touches the network:
 * records are all here.
 *
 * Who asks is answered at once when it is known or soon found; else the request waits, and the
 * walk goes on in slices of some milliseconds between other requests. EINTR upon a signal.
 *
 * While others change the tree an answer is about as true as one of du(1); what a change might
 * have made untrue is not kept.
 */
#ifndef BAZIL_MOUNTD_FIGURE_WALK_H
#define BAZIL_MOUNTD_FIGURE_WALK_H

#include <stddef.h>
#include <stdint.h>

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include "mountd/figures.h"

struct inode;
struct mountd;

/* Writes the answer, at most 64 bytes; returns its length. */
typedef size_t figure_print_fn(char ret[64], const struct figure *figure);

/* Answers req by getxattr's rules about size. The figure's newest counts the directory too. */
void figure_walk_answer(
	fuse_req_t req, const struct inode *dir, figure_print_fn *print, size_t size);
/* The kernel is gone: nobody waits any more. */
void figure_walk_drop(struct mountd *m);

/* An inode's size or times changed, or will with the batch being made. */
void figure_walk_changed(struct mountd *m, uint64_t node);
/* A file of this directory gets a name in another one. */
void figure_walk_linked(struct mountd *m, const struct inode *file, uint64_t dir);

#endif
