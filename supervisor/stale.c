#include "supervisor/stale.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/chan.h"
#include "ipc/work.gen.h"
#include "supervisor/mounts.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"
#include "worker/scope.h"

#define SECONDS 30.0

struct stale {
	struct supervisor *supervisor;
	unsigned awaited;
};

/* point is as mountinfo writes it. "36 35 98:0 /root /point opts - fuse.bazil bazil:name opts" */
static bool is_ours(const char *point)
{
	_cleanup_(fclosep) FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_(freep) char *line = NULL;
	size_t size = 0;

	while (f && getline(&line, &size, f) > 0) {
		const char *type = strstr(line, " - ");
		const char *field = line;

		for (int i = 0; i < 4 && field; i++) {
			field = strchr(field, ' ');
			field += field != NULL;
		}
		if (!field || !type || strncmp(type, " - fuse.bazil bazil:", 20) != 0)
			continue;
		if (strcspn(field, " ") == strlen(point) &&
			strncmp(field, point, strlen(point)) == 0)
			return true;
	}
	return false;
}

static void unescape(char *ret, const char *text)
{
	while (*text) {
		unsigned value;

		if (text[0] == '\\' && sscanf(text + 1, "%3o", &value) == 1) {
			*ret++ = (char)value;
			text += 4;
		} else {
			*ret++ = *text++;
		}
	}
	*ret = '\0';
}

static void detached(void *arg, int err, const struct work_detach_reply *reply)
{
	struct stale *stale = arg;

	if (err && err != -ENOENT)
		log_error_errno(err, "a mount that was left behind could not be removed");
	stale->awaited--;
}

static bool all_done(void *arg)
{
	return ((struct stale *)arg)->awaited == 0;
}

void stale_detach(struct supervisor *s)
{
	struct stale stale = { s, 0 };
	struct child *mounter = &s->children[ROLE_MOUNTER];
	const char *point = s->dir.stale;

	for (; point && *point; point += strlen(point) + 1) {
		char path[4097];

		if (!is_ours(point) || strlen(point) >= sizeof(path) || !mounter->work)
			continue;
		unescape(path, point);
		if (mounts_at(s, path))
			continue; /* kept: it goes on */
		log_warn("a mount was left behind by a server that was killed: it is removed");
		if (work_detach(mounter->work, &(struct work_detach){ .path = path, .lazy = true },
			    detached, &stale) == 0)
			stale.awaited++;
	}
	if (!supervisor_wait(s, all_done, &stale, SECONDS) && stale.awaited > 0) {
		/* Its callbacks point into this frame: the channel ends before it does. */
		child_kill(mounter, "did not unmount in time");
		ipc_chan_close(TAKE_PTR(mounter->work));
	}
}
