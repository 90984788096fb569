#include "supervisor/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "ipc/ring.h"
#include "ipc/work.gen.h"
#include "supervisor/auto_mounts.h"
#include "supervisor/edges.h"
#include "supervisor/keep.h"
#include "supervisor/supervisor.h"
#include "supervisor/zone.h"
#include "worker/log.h"
#include "worker/scope.h"

#define DIRTY_SIZE	   ((off_t)64 << 20)
#define STATE_SIZE	   ((off_t)64 << 10)
#define PREDECESSOR_PAUSES 500

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Its end: nothing of it is left here, and the last descriptor of the kernel's connection is
 * closed. */
void mount_free(struct mount *m)
{
	struct supervisor *s = m->supervisor;

	for (struct mount **p = &s->mounts; *p; p = &(*p)->next)
		if (*p == m) {
			*p = m->next;
			break;
		}
	keep_forget(m);
	ev_timer_stop(s->loop, &m->timer);
	ev_timer_stop(s->loop, &m->retire);
	child_release(&m->child);
	edges_drop_mount(s, m);
	close_fd(&m->fuse);
	close_fd(&m->state_fd);
	close_fd(&m->dirty);
	close_fd(&m->ring);
	close_fd(&m->meta);
	free(m->path);
	free(m);
	datadir_write_lock(&s->dir, s->mounts);
}

/* call NULL: nobody waits for it. */
static void not_mounted(
	struct supervisor *s, struct ipc_call *call, const char *path, int err, const char *text)
{
	if (call)
		ipc_call_fail(call, err, "%s", text);
	else
		auto_mounts_failed(s, path, text);
}

static void fail(struct mount *m, int err, const char *text)
{
	not_mounted(m->supervisor, TAKE_PTR(m->call), m->path, err, text);
	mount_free(m);
}

struct mount *mounts_find(struct supervisor *s, const char *volume)
{
	struct mount *past = NULL;

	for (struct mount *m = s->mounts; m; m = m->next) {
		if (strcmp(m->volume, volume) != 0)
			continue;
		if (m->at == 0)
			return m;
		past = m;
	}
	return past;
}

struct ipc_chan *mount_mounter(struct supervisor *s)
{
	struct child *c = &s->children[ROLE_MOUNTER];

	return child_is_ready(c) ? c->work : NULL;
}

bool mount_is_over(const struct mount *m)
{
	return m->is_over;
}

struct mount *mounts_at(struct supervisor *s, const char *target)
{
	char path[4097];
	size_t len = strlen(target);

	if (!strchr(target, '/'))
		return mounts_find(s, target);
	while (len > 1 && target[len - 1] == '/')
		len--;
	snprintf(path, sizeof(path), "%.*s", (int)len, target);
	for (struct mount *m = s->mounts; m; m = m->next)
		if (strcmp(m->path, path) == 0)
			return m;
	return NULL;
}

/* Up. */

static void came_up(struct mount *m)
{
	m->state = MOUNT_MOUNTED;
	auto_mounts_came_up(m->supervisor, m->path);
	if (m->call && m->is_auto)
		auto_mounts_add(m->supervisor, TAKE_PTR(m->call), m->volume, m->path, m->flags);
	else if (m->call)
		ctl_volume_mount_reply(TAKE_PTR(m->call), &(struct ctl_volume_mount_reply){ 0 });
}

static void mounted(void *arg, int err, const struct work_mount_reply *reply)
{
	struct mount *m = arg;
	struct child *c = &m->child;

	if (m->state != MOUNT_STARTING) {
		if (err && err != -ECONNRESET) {
			log_error("mountd: %s", c->work ? ipc_chan_error(c->work) : strerror(-err));
			child_kill(c, "could not take over its mount");
		}
		return;
	}
	if (!err) {
		came_up(m);
		return;
	}
	if (err == -ECONNRESET)
		return; /* it died: the next one tries */
	mount_set_failure(
		m, c->work && *ipc_chan_error(c->work) ? ipc_chan_error(c->work) : strerror(-err));
	m->is_over = true;
	child_stop(c);
}

void mount_child_running(struct mount *m)
{
	char zone[ZONE_MAX];
	const bool keep = geteuid() == 0 && (m->flags & MOUNT_ALLOW_OTHER);
	const struct work_mount msg = {
		.fuse = m->fuse,
		.state = m->state_fd,
		.dirty = m->dirty,
		.volume_name = m->volume,
		.flags = m->flags,
		.uid = geteuid(),
		.gid = getegid(),
		.keep_owner = keep,
		.at = m->at,
		.zone = zone,
	};

	zone_find(zone);
	if (work_mount(m->child.work, &msg, mounted, m) < 0)
		child_kill(&m->child, "work_mount could not be sent");
}

/* Memory that no process can shrink under another one's feet. */
static int sealed_memory(const char *name, off_t size, int *ret_fd)
{
	_cleanup_(closep) int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | 8u);

	/* 8: MFD_NOEXEC_SEAL, unknown before Linux 6.3. */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, size) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int make_memory(struct mount *m)
{
	int r = sealed_memory("bazil-state", STATE_SIZE, &m->state_fd);

	if (r == 0)
		r = sealed_memory("bazil-dirty", DIRTY_SIZE, &m->dirty);
	if (r == 0)
		r = ipc_ring_create((size_t)64 << 20, &m->ring);
	while (r == 0 && m->incarnation == 0)
		if (getrandom(&m->incarnation, sizeof(m->incarnation), 0) < 0)
			r = -errno;
	return r;
}

static void attached(void *arg, int err, const struct work_attach_reply *reply)
{
	struct mount *m = arg;
	struct supervisor *s = m->supervisor;
	struct ipc_chan *chan = s->children[ROLE_MOUNTER].work;
	int r;

	if (err == -ECONNRESET) {
		fail(m, -EIO, "server: the mounter died: try again");
		return;
	}
	if (err) {
		fail(m, err, chan ? ipc_chan_error(chan) : strerror(-err));
		return;
	}
	m->fuse = fcntl(reply->fuse, F_DUPFD_CLOEXEC, 3);
	m->attached = true;
	m->state = MOUNT_STARTING;
	r = m->fuse < 0 ? -errno : make_memory(m);
	if (r == 0)
		r = keep_mount(m);
	if (r < 0) {
		close_fd(&m->fuse);
		work_detach(
			chan, &(struct work_detach){ .path = m->path, .lazy = true }, NULL, NULL);
		fail(m, r, "server: out of memory or descriptors");
		return;
	}
	edges_make_mount(s, m);
	child_start(&m->child);
}

static void attach(struct mount *m)
{
	struct supervisor *s = m->supervisor;
	const struct work_attach msg = {
		.path = m->path, .volume_name = m->volume, .flags = m->flags
	};

	m->state = MOUNT_ATTACHING;
	/* Before the kernel has it: whoever starts after our sudden death looks for it there. */
	datadir_write_lock(&s->dir, s->mounts);
	if (!mount_mounter(s) || work_attach(mount_mounter(s), &msg, attached, m) < 0)
		fail(m, -EAGAIN, "server: the mounter is being restarted: try again");
}

/* Who has the lock on the state memory; 0: nobody. */
static pid_t locker(const struct mount *m)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(m->state_fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid;
}

/*
 * A mountd of a supervisor that was killed may still be storing what it has. It holds a lock on the
 * memory that we now give to another one; as it may be killed at any time, it is killed here.
 */
static void end_predecessor(const struct mount *m)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	_cleanup_(closep) int pidfd = -1;
	const pid_t pid = locker(m);

	if (pid <= 0)
		return;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* The pid is that process's still if it still has the lock, now that we hold on to it. */
	if (pidfd < 0 || locker(m) != pid)
		return;
	log_info("the mountd of the last server is ended");
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	/* Not for its end, which may be held back: see remains.h. */
	for (int i = 0; i < PREDECESSOR_PAUSES && locker(m) == pid; i++)
		nanosleep(&pause, NULL);
}

void mounts_resume(struct supervisor *s)
{
	for (struct mount *m = s->mounts; m; m = m->next) {
		end_predecessor(m);
		edges_make_mount(s, m);
		child_start(&m->child);
	}
}

static unsigned distance(const char *a, const char *b)
{
	unsigned row[65 + 1];
	const size_t n = strlen(b);

	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		unsigned diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < n; j++) {
			const unsigned change = diagonal + (a[i] != b[j]);

			diagonal = row[j + 1];
			row[j + 1] = row[j] + 1 < diagonal + 1 ? row[j] + 1 : diagonal + 1;
			if (change < row[j + 1])
				row[j + 1] = change;
		}
	}
	return row[n];
}

/* There is no such volume; is there one that could have been meant? */
static void listed(void *arg, int err, const struct ctl_volume_list_reply *reply)
{
	struct mount *m = arg;
	const char *close = NULL;
	unsigned best = 3;
	char text[300];

	for (size_t i = 0; !err && i < reply->num_volumes; i++) {
		const unsigned d = distance(m->volume, reply->volumes[i].name);

		if (d < best) {
			best = d;
			close = reply->volumes[i].name;
		}
	}
	if (close)
		snprintf(text, sizeof(text),
			"%s: there is no volume of this name: did you mean %s?", m->volume, close);
	else
		snprintf(text, sizeof(text),
			"%s: there is no volume of this name: `bazil volume list` shows those that "
			"are, `bazil volume create` makes one",
			m->volume);
	fail(m, -ENOENT, text);
}

static void found(void *arg, int err, const struct ctl_volume_status_reply *reply)
{
	struct mount *m = arg;
	struct ipc_chan *stored = m->supervisor->children[ROLE_STORED].ctl;

	if (err == -ENOENT && stored &&
		ctl_volume_list(stored, &(struct ctl_volume_list){ 0 }, listed, m) == 0)
		return;
	if (err) {
		fail(m, err,
			stored && *ipc_chan_error(stored) ? ipc_chan_error(stored)
							  : strerror(-err));
		return;
	}
	if (m->supervisor->stopping) {
		fail(m, -ESHUTDOWN, "server: it is stopping");
		return;
	}
	memcpy(m->volume_id, reply->volume.id, sizeof(m->volume_id));
	snprintf(m->sharing, sizeof(m->sharing), "%s", reply->volume.sharing);
	attach(m);
}

/* What is wrong with this wish, as far as it can be told without looking at the path: text and
 * -errno. */
static int refuse(
	struct supervisor *s, const char *volume, const char *path, uint64_t at, char text[4500])
{
	const size_t len = strlen(s->dir.path);
	const struct mount *same = mounts_find(s, volume);
	const struct mount *there = mounts_at(s, path);

	if (path[0] != '/') {
		snprintf(text, 4500, "%s: not an absolute path", path);
		return -EINVAL;
	}
	if (there) {
		snprintf(text, 4500, "%s: volume %s is mounted there already", path, there->volume);
		return -EBUSY;
	}
	if (same && at == 0 && same->at == 0) {
		snprintf(text, 4500, "%s: it is mounted on %s already", volume, same->path);
		return -EBUSY;
	}
	if (strncmp(path, s->dir.path, len) == 0 && (path[len] == '/' || path[len] == '\0')) {
		snprintf(text, 4500,
			"%s: it is inside the data directory, where Bazil keeps its own files: "
			"choose another one",
			path);
		return -EINVAL;
	}
	return 0;
}

/* What is mounted so already needs only to be noted. */
static bool is_there(struct supervisor *s, const char *volume, const char *path, uint32_t flags)
{
	const struct mount *m = mounts_at(s, path);

	return m && m->state == MOUNT_MOUNTED && m->at == 0 && m->flags == flags &&
	       strcmp(m->volume, volume) == 0;
}

struct mount *mount_new(
	struct supervisor *s, const char *volume, const char *path, uint32_t flags, uint64_t at)
{
	struct mount *m = calloc(1, sizeof(*m));

	if (!m || !(m->path = strdup(path))) {
		free(m);
		return NULL;
	}
	m->supervisor = s;
	m->flags = flags;
	m->at = at;
	m->id = ++s->num_mounts_made;
	m->fuse = m->state_fd = m->dirty = m->ring = m->meta = -1;
	snprintf(m->volume, sizeof(m->volume), "%s", volume);
	child_init(&m->child, s, &topology_roles[ROLE_MOUNTD], m);
	ev_init(&m->timer, mount_on_timer);
	ev_init(&m->retire, mount_on_retire);
	m->timer.data = m->retire.data = m;
	m->next = s->mounts;
	s->mounts = m;
	return m;
}

void mount_start(struct supervisor *s, struct ipc_call *call, const char *volume, const char *path,
	uint32_t flags, uint64_t at)
{
	struct ipc_chan *stored = s->children[ROLE_STORED].ctl;
	const bool is_auto = (flags & MOUNT_AUTO) && at == 0;
	char text[4500];
	struct mount *m;
	int r;

	flags &= ~MOUNT_AUTO;
	/* What was cannot be changed. */
	if (at != 0)
		flags |= MOUNT_READ_ONLY;
	if (call && is_auto && is_there(s, volume, path, flags)) {
		auto_mounts_add(s, call, volume, path, flags);
		return;
	}
	r = refuse(s, volume, path, at, text);
	if (r < 0) {
		not_mounted(s, call, path, r, text);
		return;
	}
	m = mount_new(s, volume, path, flags, at);
	if (!m) {
		not_mounted(s, call, path, -ENOMEM, strerror(ENOMEM));
		return;
	}
	m->call = call;
	m->is_auto = is_auto;
	if (!stored || ctl_volume_status(
			       stored, &(struct ctl_volume_status){ .name = volume }, found, m) < 0)
		fail(m, -EAGAIN, "server: the store is being restarted: try again");
}
