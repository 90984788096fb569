#include "supervisor/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "worker/sandbox.h"
#include "worker/scope.h"

struct facts {
	unsigned seccomp, no_new_privs;
	uint64_t caps; /* the union of all five sets */
	bool has_seccomp, has_privs, has_caps;
};

static int read_facts(pid_t pid, struct facts *ret)
{
	_cleanup_(fclosep) FILE *f = NULL;
	char path[64], line[256];

	memset(ret, 0, sizeof(*ret));
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		uint64_t set;

		if (sscanf(line, "Seccomp: %u", &ret->seccomp) == 1)
			ret->has_seccomp = true;
		else if (sscanf(line, "NoNewPrivs: %u", &ret->no_new_privs) == 1)
			ret->has_privs = true;
		else if (strncmp(line, "Cap", 3) == 0 && sscanf(line + 7, "%" SCNx64, &set) == 1) {
			ret->caps |= set;
			ret->has_caps = true;
		}
	}
	return 0;
}

/* Readable memory means that it can be dumped. Root reads everything: then nothing is learnt. */
static bool is_dumpable(pid_t pid)
{
	_cleanup_(closep) int fd = -1;
	char path[64];

	if (geteuid() == 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0;
}

/* A pid may be somebody else's as soon as its process is reaped; the pidfd never is. */
static bool is_alive(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 0;
}

int verify(pid_t pid, int pidfd, uint32_t claimed, char *why, size_t why_size)
{
	const char *wrong = NULL;
	struct facts facts;
	bool dumpable;

	if (read_facts(pid, &facts) < 0) {
		snprintf(why, why_size, "/proc cannot be read");
		return -EPERM;
	}
	dumpable = is_dumpable(pid);
	if (!is_alive(pidfd))
		wrong = "it died";
	else if ((claimed & SANDBOX_SECCOMP) && !(facts.has_seccomp && facts.seccomp == 2))
		wrong = "it has no system call filter";
	else if ((claimed & SANDBOX_NO_NEW_PRIVS) && !(facts.has_privs && facts.no_new_privs == 1))
		wrong = "it may gain privileges";
	else if ((claimed & SANDBOX_CAPS) && !(facts.has_caps && facts.caps == 0))
		wrong = "it has capabilities";
	else if ((claimed & SANDBOX_NOT_DUMPABLE) && dumpable)
		wrong = "its memory can be read";
	if (!wrong)
		return 0;
	snprintf(why, why_size, "%s", wrong);
	return -EPERM;
}
