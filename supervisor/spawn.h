/*
 * A new process for a worker: clone3(2) with the namespaces that the kernel grants, its agreed
 * descriptors and nothing else, and execve(2) of its own program, so that it shares neither memory
 * nor layout with anybody.
 *
 * In an ordinary user's new user namespace he is mapped to himself alone, and of all capabilities
 * in it the program inherits the two that it needs to close its sandbox (worker/sandbox.h), which
 * drops them.
 */
#ifndef BAZIL_SUPERVISOR_SPAWN_H
#define BAZIL_SUPERVISOR_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct spawn {
	const char *program; /* path, without symbolic links */
	const char *arg;     /* first argument, or NULL */
	int work_fd;	     /* becomes 3 */
	int dir_fd;	     /* becomes 4; -1: none */
	int log_fd;	     /* becomes 1 and 2 */
	int null_fd;	     /* becomes 0: /dev/null, opened outside of the new namespaces */
	uint32_t layers;     /* enum sandbox_layer: which namespaces it should have */
	bool resolves;	     /* its root has what getaddrinfo(3) reads */
};

struct spawned {
	pid_t pid;
	int pidfd;
	uint32_t layers;   /* the namespaces that it got */
	char missing[200]; /* why others are missing, or "" */
};

/* Descriptors stay the caller's. Returns 0; -errno when no process could be made or its program not
 * run. */
int spawn(const struct spawn *what, struct spawned *ret);

#endif
