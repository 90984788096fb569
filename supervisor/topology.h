/*
 * Who there is, and who may speak to whom. The edges of this table are the policy of the whole
 * system: what is not in it cannot be said, since no other socket exists.
 */
#ifndef BAZIL_SUPERVISOR_TOPOLOGY_H
#define BAZIL_SUPERVISOR_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/sandbox.h"

enum role_id {
	ROLE_MOUNTER,
	ROLE_KEYD,
	ROLE_STORED,
	ROLE_DIALER,
	ROLE_SYNCD,
	ROLE_MOUNTD, /* one for each mount */
};
#define NUM_ROLES 5 /* of which there is one process each */

struct role {
	enum role_id id;
	const char *name; /* the program is bazil-NAME */
	enum sandbox_profile profile;
	const char *dir; /* its directory in the data directory, or NULL */
	bool serves_ctl; /* requests of control.msg are relayed to it */
};

struct edge_kind {
	const char *name; /* the channel */
	enum role_id client, server;
	size_t ring_in, ring_out; /* bytes of shared memory, 0: none */
	bool keeps_rings;	  /* they outlive both ends: a mount's */
};

extern const struct role topology_roles[NUM_ROLES + 1];
extern const struct edge_kind topology_edges[];
extern const size_t topology_num_edges;

/* NULL when there is none of this name. */
const struct role *topology_find(const char *name);

#endif
