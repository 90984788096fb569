/*
 * The state of a mountd: one process, one mounted volume. Requests of the kernel come in
 * (session.h), are answered from caches and records (op_*.c), and leave as batches and sealed
 * objects through the intake ring (publish.h).
 *
 * One thread owns all of this. Others only get work that touches nothing of it: sealing
 * (sealers.h, ahead.h) and telling the kernel to forget (changed.h).
 *
 * A handler may have to wait: for stored to answer or make room, for a restarted neighbour. Then
 * the event loop runs nested (edges.h) with the kernel's requests held back; timers and notices
 * that would change what the handler looks at see `nested` and come again later.
 */
#ifndef BAZIL_MOUNTD_MOUNTD_H
#define BAZIL_MOUNTD_MOUNTD_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>

#include "cas/chunker.h"
#include "cas/suite.h"
#include "mountd/dirty.h"
#include "mountd/edges.h"
#include "mountd/inode.h"
#include "mountd/sealed.h"
#include "mountd/session.h"
#include "mountd/state.h"

struct ahead;
struct chunks;
struct figures;
struct figure_walk;
struct group;
struct changed;
struct next_dir;
struct parked;
struct sealers;
struct stream;
struct tags;
struct ipc_ring;
struct worker;

/* A tree takes 20 KiB and more. */
#define MOUNTD_TREES 64

struct mountd {
	struct worker *worker;
	struct ev_loop *loop;
	unsigned nested;

	struct edges edges;
	struct ipc_ring *ring; /* to stored */
	uint64_t incarnation;
	uint32_t replica;
	uint64_t view; /* pulls seen */
	uint64_t oid_next, oid_end;
	uint64_t at; /* what is mounted is the volume at this instant, ns; 0: now */

	struct sealer sealer;
	struct cas_suite *suite;
	struct cas_chunker chunker;
	bool has_keys;

	uint32_t uid, gid;
	bool keep_owner, read_only;
	bool is_mounted, is_stopping;
	/* The kernel's connection ended; r: whether all is durable. Ends the process. */
	void (*gone)(struct mountd *m, int r);

	struct session session;
	struct state state;
	struct dirty_log *dirty;
	struct inodes inodes;
	size_t num_names;	      /* in loaded directories */
	uint64_t trees[MOUNTD_TREES]; /* files whose manifest trees are in memory, a ring */
	size_t next_tree;
	struct chunks *chunks;
	struct tags *tags;
	struct ahead *ahead;
	struct next_dir *next_dir;
	struct sealers *sealers;
	ev_async sealed;       /* they are done with something */
	struct stream *stream; /* the file that is stored while it is written */
	struct group *group;   /* small files that are stored together */
	struct changed *changed;
	struct figures *figures;
	struct figure_walk *walk; /* NULL: nobody waits for figures */
	struct parked *parked;	  /* what waits for far objects */
	double parked_pause;	  /* parked_store_aside() does nothing until then (ev_time()) */
	ev_timer flush_timer;
	ev_timer stopping; /* asked to stop, with stop_call: when no handler waits any more */
	struct ipc_call *stop_call;
	ev_timer settling; /* unmount_settle(), until then, for settle_call; NULL: not asked */
	double settle_until;
	bool settle_is_begun, settle_asked_again;
	struct ipc_call *settle_call;
	ev_timer asked; /* stored asked for a flush, mountd/asked.c */
	uint64_t asked_token;

	uint8_t *batch_buf;
	uint8_t *io_buf; /* for one read reply: SESSION_IO_MAX */
	uint64_t num_requests, num_batches, num_objects, num_sealed, num_chunk_keys, num_key_calls,
		bytes_written;
};

/* Everything that opens files or loads libraries: before the sandbox. m is zeroed. */
int mountd_prepare(struct mountd *m, struct ev_loop *loop);
/* The threads: inside of it. */
int mountd_entered(struct mountd *m);

#endif
