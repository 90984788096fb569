/*
 * A simulation of peers that share a volume, each a small store in memory behind the callbacks of
 * tree/merge.h, with an oracle next to it.
 *
 * The oracle is an operation-based set that knows all history: every local change (and every
 * closure) is an event that creates elements and ends elements that its peer had; every peer has
 * the set of events that it has seen, and a pull takes over the set that the other side had when it
 * answered. What a peer must hold is then defined without any stamps: the elements whose creation
 * it has seen and whose end it has not. After each pull the peer's elements are compared with that,
 * and the tree that they make is checked.
 *
 * Everything follows from the seed. A failure is kept as text in sim->failure; nothing aborts.
 */
#ifndef BAZIL_TESTS_TREE_SIM_H
#define BAZIL_TESTS_TREE_SIM_H

#include "tree/merge.h"
#include "tree/view.h"

#define SIM_PEERS  8
#define SIM_EVENTS 4096
#define SIM_PACKED (TREE_RECORD_HEAD + 4)

/* One live element: its packed record, whose sealed part is the number of the write, and its parsed
 * head. */
struct sim_element {
	struct tree_element e;
	uint32_t write;
	uint32_t eid;
	uint8_t packed[SIM_PACKED];
};

struct sim_peer {
	struct tree_state state;
	struct sim_element *elements;
	size_t num, cap;
	struct tree_death *log;
	size_t num_log, cap_log;
	uint32_t counter; /* for oids and lids */
	uint64_t seen[SIM_EVENTS / 64];
};

struct sim_end {
	uint32_t eid;
	uint32_t event;
};

struct sim_params {
	int num_peers;
	int num_ops;
	bool restores;	 /* peers are set back to a backup now and then */
	bool cuts;	 /* logs of deletions are cut or lost at random */
	bool races;	 /* things change while a pull is under way */
	bool sequential; /* one at a time writes, having pulled from who wrote before: no conflict
			    may appear */
};

struct sim {
	struct sim_params params;
	uint64_t random;
	struct sim_peer peers[SIM_PEERS];
	struct sim_peer backups[SIM_PEERS];
	bool has_backup[SIM_PEERS];
	uint32_t num_replicas, num_writes, num_events, num_eids;
	/* by eid */
	struct sim_element *history;
	uint32_t *created;
	size_t cap_history, cap_created;
	struct sim_end *ends;
	size_t num_ends, cap_ends;
	/* what happened, so that a test can say that it exercised something */
	size_t num_pulls, num_full, num_needs, num_revived, num_again, num_conflicts, num_fallen,
		num_skipped;
	char failure[300];
};

/* sim.c: peers, events, pulls */
void sim_init(struct sim *sim, uint64_t seed, const struct sim_params *params);
void sim_release(struct sim *sim);
uint32_t sim_random(struct sim *sim, uint32_t below);
void sim_fail(struct sim *sim, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint32_t sim_event(struct sim *sim, struct sim_peer *p);
/* Puts an element made of e (key, flags, parent, target, tags), ended is then separate. */
void sim_put(
	struct sim *sim, struct sim_peer *p, uint32_t event, struct tree_element e, uint32_t write);
/* Ends the element at index i of p by event. */
void sim_end(struct sim *sim, struct sim_peer *p, uint32_t event, size_t i);
void sim_log(struct sim_peer *p, const struct tree_unit *unit, struct tree_stamp label);
/* p <- q, whole. Returns how many effects it had, or -errno when nothing was applied. */
int sim_pull(struct sim *sim, int p, int q);
void sim_backup(struct sim *sim, int p);
void sim_restore(struct sim *sim, int p);
void sim_cut_log(struct sim *sim, int p);
/* Runs num_ops random things, then lets all pull from all until nothing changes; checks. */
void sim_run(struct sim *sim);
void sim_settle(struct sim *sim);

/* sim_ops.c: what a person does on one peer; each is one event */
uint64_t sim_create(struct sim *sim, int p, uint64_t parent, uint32_t name, bool is_directory);
uint64_t sim_link(struct sim *sim, int p, uint64_t oid, uint64_t parent, uint32_t name);
void sim_rename(struct sim *sim, int p, uint64_t lid, uint64_t parent, uint32_t name);
void sim_unlink(struct sim *sim, int p, uint64_t lid);
void sim_rmdir(struct sim *sim, int p, uint64_t oid);
void sim_remove_tree(struct sim *sim, int p, uint64_t oid);
/* Replaces what is there; value 0 is a new one, else equal values are equal; keep: leaves what lost
 * visible. */
uint32_t sim_write(struct sim *sim, int p, enum tree_kind kind, uint64_t oid, uint32_t name,
	uint32_t value, bool keep);
void sim_remove_xattr(struct sim *sim, int p, uint64_t oid, uint32_t name);
void sim_random_op(struct sim *sim, int p);

/* sim_check.c */
int sim_winner(void *ctx, uint64_t oid,
	struct tree_element *ret); /* for struct tree_dirs; ctx is a sim_peer */
void sim_check_peer(struct sim *sim, int p);
void sim_check_equal(struct sim *sim);
void sim_check_no_conflict(struct sim *sim, int p);
size_t sim_count(
	const struct sim_peer *p, enum tree_kind kind, uint64_t id); /* elements of all registers */
bool sim_has_write(const struct sim_peer *p, uint32_t write);
bool sim_is_shown(struct sim_peer *p, uint64_t lid, uint64_t parent);

#endif
