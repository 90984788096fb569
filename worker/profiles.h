/*
 * What each role may do, as data: worker/profiles.c has the tables side by side. Used by
 * worker/sandbox.c alone.
 *
 * A rule allows a system call, or answers it with an errno where libraries degrade quietly instead
 * of failing; what no rule names kills the process. A rule may ask for bits of arguments: the call
 * is taken when (argument & mask) == value for each of its conditions; several rules for one call
 * are alternatives.
 */
#ifndef BAZIL_WORKER_PROFILES_H
#define BAZIL_WORKER_PROFILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include "worker/sandbox.h"

struct sandbox_cond {
	uint8_t arg; /* 1 is the first argument; 0: no condition */
	uint64_t mask;
	uint64_t value;
};

/* In a condition's value: the process's own id, known when the filter is made. */
#define SANDBOX_OWN_PID UINT64_C(0xfffffffffffffffe)

struct sandbox_rule {
	int call;   /* SCMP_SYS(x) */
	int answer; /* 0: allow; else this errno */
	struct sandbox_cond cond[2];
};

struct sandbox_rules {
	const struct sandbox_rule *rule;
	size_t num;
};

struct sandbox_limit {
	int resource;
	rlim_t value;
	bool of_memory; /* not under sanitizers */
};

enum sandbox_files {
	SANDBOX_NO_FILES,
	SANDBOX_OWN_DIR,   /* reads, writes, makes and removes files in its directory */
	SANDBOX_RESOLVER,  /* reads what getaddrinfo needs */
	SANDBOX_ANY_FILES, /* the mounter */
};

struct sandbox_table {
	const char *name;
	uint32_t layers; /* enum sandbox_layer: those that it has at best */
	enum sandbox_files files;
	bool may_connect; /* TCP to anywhere: the dialer */
	struct sandbox_rules rules[8];
	struct sandbox_limit limits[8]; /* up to the one with resource -1 */
};

const struct sandbox_table *sandbox_table(enum sandbox_profile profile);

#endif
