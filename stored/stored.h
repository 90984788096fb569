/*
 * bazil-stored: the process around the store engine (stored/engine.h). One loop; the
 * engine has threads for fdatasync and for sealing arenas.
 *
 * Edges: any number of `store` (a mountd each, with the ring that it writes to), one `sync` (syncd,
 * rings both ways), one `fetch` (we are its client), any number of `ctl`. Edges that come before
 * work_begin wait for it.
 *
 * Each turn of the loop: take what the rings hold (stored/intake.c), answer requests, which first
 * take what was published before them, then make durable what waits for it (stored/commit.c). For
 * a moment after the last activity the loop polls instead of sleeping: waking an idle core costs
 * more than the work.
 */
#ifndef BAZIL_STORED_STORED_H
#define BAZIL_STORED_STORED_H

#include "ipc/chan.h"
#include "ipc/ring.h"
#include "ipc/work.gen.h"
#include "stored/engine.h"
#include "stored/staged.h"

#include <ev.h>

#define STORED_PULLS_MAX 16
#define STORED_PAGE_MAX	 120000

struct fetch;
struct objects_job;
struct scrubber;

struct sync_waiting {
	struct ipc_call *call;
	uint64_t ticket; /* of engine_sync_start; 0: not begun */
};

/* The edge to a mountd. */
struct store_server {
	struct stored *stored;
	struct store_server *next;
	struct ipc_chan *chan;
	struct ipc_ring *ring;
	uint64_t id;
	uint8_t volume[16];
	uint64_t incarnation;
	uint64_t taken;		    /* ring position up to which entries are in the engine */
	uint64_t released;	    /* and up to which they are written */
	struct sync_waiting *syncs; /* calls waiting for durability, in order */
	size_t num_syncs, cap_syncs;
	bool is_broken;	      /* it sent nonsense: closed as soon as nothing is on the way */
	bool is_full;	      /* area->error is set */
	uint64_t flush_token; /* it was asked to store all for a collection; 0: it did */
	bool is_reader;	      /* shows an instant: there may be others of the volume */
};

/* A peer's pull that waits until the volume's mountd has stored what was written before it. */
struct serve_waiting {
	struct serve_waiting *next;
	struct sync_server *sync;
	struct ipc_call *call;
	struct ev_timer timer; /* a mountd that is stuck holds up no peer for longer */
	uint64_t token;
	uint8_t peer[32], volume[16];
	size_t known_len;
	uint8_t known[];
};

/* A pull or an undo that is committed and answered when the volume's mountd shows it. Embedded at
 * the start of what `answer` needs, which frees all. */
struct seen_waiting {
	struct seen_waiting *next;
	struct stored *stored;
	const struct ipc_chan *chan; /* of who asked */
	struct ipc_call *call;
	void (*answer)(struct seen_waiting *w);
	struct ev_timer timer;
	uint64_t view;
	uint8_t volume[16];
};

/* The edge to syncd. */
struct sync_server {
	struct stored *stored;
	struct ipc_chan *chan;
	struct ipc_ring *in, *out;
	struct objects_job *jobs, **last_job;
	struct {
		uint64_t id;
		struct pull *pull;
		uint8_t volume[16];
	} pulls[STORED_PULLS_MAX];
	struct {
		uint64_t id;
		struct serve *serve;
		double used; /* loop time */
	} serves[ENGINE_SERVES_MAX];
	struct serve_waiting *waiting;
	uint64_t next_id;
};

struct ctl_server {
	struct stored *stored;
	struct ctl_server *next;
	struct ipc_chan *chan;
	uint64_t id;
};

/* The other edge to syncd, on which we ask. */
struct fetch_client {
	struct stored *stored;
	struct ipc_chan *chan;
};

struct undo_waiting;
struct waiting_edge;

struct stored {
	struct worker *worker;
	struct ev_loop *loop;
	struct engine *engine;
	struct ev_prepare prepare;
	struct ev_check check;
	struct ev_idle idle;
	struct ev_timer tick, nap;
	struct ev_async durable; /* from the engine's thread */
	double active;		 /* loop time of the last request */
	double took;		 /* and of the last entry taken from a ring */
	bool is_asleep;
	struct waiting_edge *waiting;
	struct scrubber *scrubber;
	struct store_server *mounts;
	struct sync_server *sync;
	struct ctl_server *ctls;
	struct seen_waiting *unseen;
	struct undo_waiting *undos;
	struct fetch_client *fetch;
	struct fetch *fetches;
	struct collect *collect;
	uint64_t flush_token; /* of the last store_flush: they rise */
	uint8_t *entry;	      /* private copy of the ring entry at hand */
	size_t entry_cap;
	struct staged staged; /* objects of the ring at hand */
	uint64_t grown;	      /* bytes taken since the disk was last asked for room */
	uint8_t page[STORED_PAGE_MAX];
	struct {
		uint64_t objects, batches, syncs, fdatasyncs, reads, pulls, serves, fetches, broken;
	} counters;
};

/* ---- stored/edges.c */
int stored_edge(struct stored *stored, const struct work_edge *req);
void stored_edges_begin(struct stored *stored); /* after the engine is open */
void stored_edges_close(struct stored *stored);
void mount_close(struct store_server *mount);
void sync_close(struct stored *stored);
struct store_server *stored_mount_of(struct stored *stored, const uint8_t volume[16]);

/* ---- stored/serve_sync.c */
void sync_release(struct sync_server *sync);

/* ---- stored/serve_peer.c */
/* The pulls that waited for this token, or (0) for this volume's mountd at all, go on. */
void sync_flushed(struct stored *stored, const uint8_t volume[16], uint64_t token);
void sync_expire(struct sync_server *sync);
void peers_release(struct sync_server *sync);

/* ---- stored/serve_objects.c */
void sync_jobs_run(struct sync_server *sync);
void objects_release(struct sync_server *sync);

/* ---- stored/seen.c */
/* Tells the volume's mountd what changed since a view, and answers when it shows it: who syncs and
 * then looks must see it. At once when there is no mount. chan, call and answer are set. */
void seen_tell(struct seen_waiting *w, struct stored *stored, const struct volume *vol,
	uint64_t since, const struct engine_changes *changes);
/* The volume's mountd shows the pulls up to this view, or (~0) there is none any more. */
void seen_view(struct stored *stored, const uint8_t volume[16], uint64_t view);
/* The edge closes: what it waits for is done in any case, and answered. */
void seen_close(struct stored *stored, const struct ipc_chan *chan);

/* ---- stored/serve_undo.c */
/* As sync_flushed. */
void undo_flushed(struct stored *stored, const uint8_t volume[16], uint64_t token);
void undo_close(struct stored *stored, const struct ctl_server *ctl);

/* ---- stored/intake.c */
/* Takes all that is published; true if there was something. */
bool intake_run(struct store_server *mount);
bool intake_sync(struct stored *stored);
void intake_sleep(struct stored *stored);
void intake_wake(struct stored *stored);
bool intake_pending(struct stored *stored);
/* Sets or clears the error in the ring's user area. */
void intake_check_room(struct stored *stored);
/* store_changed, in pieces: what changed between two views. */
void mount_tell(struct store_server *mount, uint64_t since, uint64_t view,
	const struct engine_changes *changes);

/* ---- stored/commit.c */
int commit_wait(struct store_server *mount, struct ipc_call *call);
/* Moves the commit of the index on, when it is time for one. */
void commit_index(struct stored *stored);
/* Begins what waits, answers what is durable. */
void commit_run(struct stored *stored);
/* Waits until all is answered. */
void commit_all(struct stored *stored);
void commit_forget(struct store_server *mount);
/* The engine cannot go on: says so and ends the process, which then recovers. */
_Noreturn void stored_die(int err, const char *doing);

/* ---- stored/fetch.c */
void fetch_close(struct stored *stored);
/* Objects have arrived: answers what is complete. */
void fetch_arrived(struct stored *stored);
/* There is a syncd again: asks it for what is parked. */
void fetch_resume(struct stored *stored);
bool fetch_wants(const struct stored *stored, const uint8_t id[32]);
/* Brings objects (at most FETCH_IDS_MAX) from the storages of a volume for ourselves. done is
 * called once, perhaps before this returns, unless this fails. */
#define FETCH_IDS_MAX 64
typedef void fetch_done_fn(struct stored *stored, int err);
int fetch_bring(struct stored *stored, const uint8_t volume[16], const uint8_t (*ids)[32],
	size_t num, double seconds, fetch_done_fn *done);

/* ---- stored/serve_scrub.c */
void scrubber_begin(struct stored *stored); /* after the engine is open: goes on with one */
void scrubber_end(struct stored *stored);

/* ---- stored/serve_control.c */
void control_changed(struct stored *stored);

#endif
