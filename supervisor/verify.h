/*
 * Looks at a worker from outside before it is given anything: what it says of its sandbox must be
 * what the kernel says of it (proc(5): /proc/PID/status).
 */
#ifndef BAZIL_SUPERVISOR_VERIFY_H
#define BAZIL_SUPERVISOR_VERIFY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * claimed: enum sandbox_layer bits. pidfd must be of pid: the answer counts only while that process
 * lives. Returns 0, or -EPERM with what is not so in why.
 */
int verify(pid_t pid, int pidfd, uint32_t claimed, char *why, size_t why_size);

#endif
