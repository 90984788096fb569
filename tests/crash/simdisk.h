/*
 * A disk that remembers what was never made durable: an implementation of struct store_io with its
 * files in memory, which logs each operation in order. Together with tests/crash/interpose.c it
 * logs LMDB's own operations too: files whose name starts with "index" are real ones in a directory
 * in memory, because LMDB maps them.
 *
 * Calling order: sim_new; sim_load with an image (or none for an empty disk); run the engine with
 * &disk->io, disk->dir_fd and disk->path; sim_free. What is logged: everything while is_recording.
 * tests/crash/crash.h makes images of what a crash may leave out of a log.
 *
 * Everything is deterministic: clock and randomness are counters of the disk.
 */
#ifndef BAZIL_TESTS_CRASH_SIMDISK_H
#define BAZIL_TESTS_CRASH_SIMDISK_H

#include "stored/io.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_NAME_MAX  24
#define SIM_FILES_MAX 512 /* ever made on one disk */
#define SIM_NAMES_MAX 128
#define SIM_FDS_MAX   256

/* A file's bytes. */
struct sim_data {
	uint8_t *data;
	size_t size, cap; /* bytes from size to cap are not zero */
};

struct sim_name {
	char name[SIM_NAME_MAX];
	uint32_t file;
};

struct sim_image {
	struct sim_data files[SIM_FILES_MAX];
	uint32_t num_files;
	struct sim_name names[SIM_NAMES_MAX];
	size_t num_names;
};

enum sim_op_type {
	SIM_WRITE, /* len bytes of data at offset; data NULL: zeros that leave the size (a hole) */
	SIM_TRUNCATE,	 /* to offset */
	SIM_EXTEND,	 /* to at least offset (fallocate) */
	SIM_SYNC,	 /* of a file */
	SIM_SYNC_FAILED, /* what was written before never gets to the disk, though it is read */
	SIM_CREATE,	 /* name of a new file */
	SIM_RENAME,	 /* name to to */
	SIM_UNLINK,
	SIM_SYNC_DIR,
};

struct sim_op {
	enum sim_op_type type;
	bool is_durable; /* written through O_DSYNC */
	uint32_t file;
	uint64_t offset;
	size_t len;
	uint8_t *data;
	char name[SIM_NAME_MAX], to[SIM_NAME_MAX];
};

struct sim_log {
	struct sim_op *ops;
	size_t num, cap;
};

/* Lies that a broken program or disk would tell; for the tests of the tests. */
enum sim_lie {
	SIM_HONEST,
	SIM_NO_SYNC,	   /* fdatasync of arenas does nothing */
	SIM_NO_DIR_SYNC,   /* fsync of the directory does nothing */
	SIM_SYNC_TOO_SOON, /* fdatasync covers all but the last write before it */
	SIM_INDEX_NO_SYNC, /* LMDB with MDB_NOSYNC */
	SIM_LIES,
};

struct simdisk {
	struct store_io io;
	char path[64];
	int dir_fd;
	struct sim_image now; /* what programs see; real files have no data here */
	struct {
		bool is_open;
		uint32_t file;
		bool is_append;
	} fds[SIM_FDS_MAX];
	struct sim_log log;
	bool is_recording;
	enum sim_lie lie;
	/* The next fdatasync fails, of an arena or of the index: programs go on seeing what was
	 * written, as clean pages, but the disk does not have it, and never will. */
	bool fail_arena, fail_index;
	unsigned full_after; /* the write after so many finds the disk full; 0: none */
	bool full_index;     /* every write of the index does */
	uint64_t clock, random;
};

/* The n-th call fails: of struct store_io, of those that LMDB makes, and with tests/crash/memory.c
 * of those for memory. One for the whole program. */
struct sim_faults {
	unsigned calls, fail_at; /* 0: none */
	int error;
	bool is_once;	   /* else every call from there on */
	bool is_short;	   /* writes and reads of half the length instead, never failing */
	bool is_of_memory; /* counts calls for memory, not the others */
	bool was_hit;
};
extern struct sim_faults sim_faults;
/* 0 or the errno to fail with. */
int sim_fault(bool is_of_memory);

int sim_new(struct simdisk *disk, uint64_t seed);
void sim_free(struct simdisk *disk);
/* Removes what a dead process has left behind. */
void sim_sweep(pid_t pid);
/* The disk holds exactly the image; the log is empty, and nothing is open. */
void sim_load(struct simdisk *disk, const struct sim_image *image);
/* What programs see now, as an image; bytes of real files read from them. */
void sim_save(struct simdisk *disk, struct sim_image *ret);

/* For the interposed calls. The name is below the disk's directory. */
struct simdisk *sim_of_path(const char *path, const char **ret_name);
uint32_t sim_real_open(struct simdisk *disk, const char *name, bool is_truncated);
void sim_record(struct simdisk *disk, const struct sim_op *op);

void sim_image_release(struct sim_image *image);
void sim_image_copy(struct sim_image *dst, const struct sim_image *src);
/* -1: no such name. */
int sim_image_find(const struct sim_image *image, const char *name);
void sim_data_resize(struct sim_data *data, size_t size); /* new bytes are zero */
void sim_data_write(struct sim_data *data, uint64_t offset, const void *bytes, size_t len);
/* Applies an operation on names. */
void sim_image_apply(struct sim_image *image, const struct sim_op *op);

uint64_t sim_random(uint64_t *state);

#define sim_must(x)                                                                                \
	do {                                                                                       \
		if (!(x))                                                                          \
			sim_fail(__FILE__, __LINE__, #x);                                          \
	} while (0)
_Noreturn void sim_fail(const char *file, int line, const char *what);

#endif
