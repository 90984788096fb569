/* Serving pulls: a snapshot of the index and the list of units to send. See stored/engine.h. */
#ifndef BAZIL_STORED_SERVE_H
#define BAZIL_STORED_SERVE_H

#include "stored/engine_state.h"

struct serve {
	struct engine *engine;
	struct serve *next;
	struct db_txn *txn;
	uint32_t vol;
	struct tree_knowledge asked;
	struct tree_delta_units units;
	struct tree_death *deaths;
	size_t num_deaths, deaths_cap;
};

#endif
