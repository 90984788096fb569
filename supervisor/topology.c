#include "supervisor/topology.h"

#include <string.h>

#define MIB ((size_t)1 << 20)

const struct role topology_roles[NUM_ROLES + 1] = {
	[ROLE_MOUNTER] = { ROLE_MOUNTER, "mounter", SANDBOX_MOUNTER, NULL, false },
	[ROLE_KEYD] = { ROLE_KEYD, "keyd", SANDBOX_KEYD, "keys", true },
	[ROLE_STORED] = { ROLE_STORED, "stored", SANDBOX_STORED, "store", true },
	[ROLE_DIALER] = { ROLE_DIALER, "dialer", SANDBOX_DIALER, NULL, false },
	[ROLE_SYNCD] = { ROLE_SYNCD, "syncd", SANDBOX_SYNCD, NULL, true },
	[ROLE_MOUNTD] = { ROLE_MOUNTD, "mountd", SANDBOX_MOUNTD, NULL, false },
};

/* There is no edge between mountd and syncd, and none between stored and keyd. */
const struct edge_kind topology_edges[] = {
	{ "store", ROLE_MOUNTD, ROLE_STORED, 64 * MIB, 0, true },
	{ "key", ROLE_MOUNTD, ROLE_KEYD, 0, 0, false },
	{ "ident", ROLE_SYNCD, ROLE_KEYD, 0, 0, false },
	{ "sync", ROLE_SYNCD, ROLE_STORED, 16 * MIB, 16 * MIB, false },
	{ "fetch", ROLE_STORED, ROLE_SYNCD, 0, 0, false },
	{ "dial", ROLE_SYNCD, ROLE_DIALER, 0, 0, false },
};
const size_t topology_num_edges = sizeof(topology_edges) / sizeof(topology_edges[0]);

const struct role *topology_find(const char *name)
{
	for (size_t i = 0; i <= NUM_ROLES; i++)
		if (strcmp(topology_roles[i].name, name) == 0)
			return &topology_roles[i];
	return NULL;
}
