#include "supervisor/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "supervisor/mounts.h"
#include "supervisor/notify.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"
#include "worker/scope.h"

#define META_MAGIC   UINT32_C(0x4d4b5a42) /* "BZKM" */
#define META_VERSION 2
#define FIRST_FD     3 /* SD_LISTEN_FDS_START */
#define FDS_MAX	     512
#define NAME_SIZE    64

struct meta {
	uint32_t magic, version;
	uint64_t incarnation;
	uint64_t at;
	uint32_t flags;
	uint8_t volume_id[16];
	char volume[65], sharing[65], path[4097];
	/* New fields go here: an older supervisor's meta is shorter, and has zeros in them. */
};
#define META_SIZE_2 (offsetof(struct meta, path) + 4097)

enum part { PART_FUSE, PART_STATE, PART_DIRTY, PART_RING, PART_META };
#define NUM_PARTS 5
static const char *const part_names[NUM_PARTS] = { "fuse", "state", "dirty", "ring", "meta" };

static void parts_of(const struct mount *m, int ret[NUM_PARTS])
{
	ret[PART_FUSE] = m->fuse;
	ret[PART_STATE] = m->state_fd;
	ret[PART_DIRTY] = m->dirty;
	ret[PART_RING] = m->ring;
	ret[PART_META] = m->meta;
}

static void name_part(char ret[NAME_SIZE], const struct mount *m, enum part part)
{
	snprintf(ret, NAME_SIZE, "bazil.%016" PRIx64 ".%s", m->incarnation, part_names[part]);
}

int keep_mount(struct mount *m)
{
	struct meta meta = { .magic = META_MAGIC,
		.version = META_VERSION,
		.incarnation = m->incarnation,
		.at = m->at,
		.flags = m->flags };
	char name[NAME_SIZE];
	int parts[NUM_PARTS];

	memcpy(meta.volume_id, m->volume_id, sizeof(meta.volume_id));
	snprintf(meta.volume, sizeof(meta.volume), "%s", m->volume);
	snprintf(meta.sharing, sizeof(meta.sharing), "%s", m->sharing);
	snprintf(meta.path, sizeof(meta.path), "%s", m->path);
	m->meta = memfd_create("bazil-meta", MFD_CLOEXEC);
	if (m->meta < 0)
		return -errno;
	if (pwrite(m->meta, &meta, sizeof(meta), 0) != (ssize_t)sizeof(meta))
		return -EIO;
	parts_of(m, parts);
	for (int i = 0; i < NUM_PARTS; i++) {
		name_part(name, m, i);
		notify_store(name, parts[i]);
	}
	return 0;
}

void keep_forget(const struct mount *m)
{
	char name[NAME_SIZE];

	if (m->meta < 0)
		return;
	for (int i = 0; i < NUM_PARTS; i++) {
		name_part(name, m, i);
		notify_forget(name);
	}
}

/* The next life. */

struct found {
	int fd;
	char name[NAME_SIZE];
};

static bool is_text(const char *text, size_t size)
{
	return *text && memchr(text, '\0', size);
}

static bool read_meta(int fd, uint64_t incarnation, struct meta *ret)
{
	memset(ret, 0, sizeof(*ret));
	return pread(fd, ret, sizeof(*ret), 0) >= (ssize_t)META_SIZE_2 &&
	       ret->magic == META_MAGIC && ret->version == META_VERSION &&
	       ret->incarnation == incarnation && is_text(ret->volume, sizeof(ret->volume)) &&
	       is_text(ret->path, sizeof(ret->path)) && ret->path[0] == '/' &&
	       memchr(ret->sharing, '\0', sizeof(ret->sharing));
}

static int take_named(struct found *found, size_t num, const char *name)
{
	for (size_t i = 0; i < num; i++)
		if (found[i].fd >= 0 && strcmp(found[i].name, name) == 0)
			return TAKE_FD(found[i].fd);
	return -1;
}

/* All five, or none. */
static void take_mount(
	struct supervisor *s, struct found *found, size_t num, uint64_t incarnation, int meta_fd)
{
	struct mount *m = NULL;
	struct meta meta;
	char name[NAME_SIZE];
	int fds[NUM_PARTS];
	bool all = true;

	for (int i = 0; i < NUM_PARTS; i++) {
		snprintf(name, sizeof(name), "bazil.%016" PRIx64 ".%s", incarnation, part_names[i]);
		fds[i] = i == PART_META ? meta_fd : take_named(found, num, name);
		all = all && fds[i] >= 0;
	}
	if (all && read_meta(meta_fd, incarnation, &meta))
		m = mount_new(s, meta.volume, meta.path, meta.flags, meta.at);
	if (!m) {
		log_warn("what was kept of a mount is not complete: it is given up");
		for (int i = 0; i < NUM_PARTS; i++) {
			snprintf(name, sizeof(name), "bazil.%016" PRIx64 ".%s", incarnation,
				part_names[i]);
			notify_forget(name);
			if (fds[i] >= 0)
				close(fds[i]);
		}
		return;
	}
	m->incarnation = incarnation;
	memcpy(m->volume_id, meta.volume_id, sizeof(m->volume_id));
	snprintf(m->sharing, sizeof(m->sharing), "%s", meta.sharing);
	m->fuse = fds[PART_FUSE];
	m->state_fd = fds[PART_STATE];
	m->dirty = fds[PART_DIRTY];
	m->ring = fds[PART_RING];
	m->meta = fds[PART_META];
	m->attached = true;
	m->state = MOUNT_MOUNTED;
}

static void take_all(struct supervisor *s, struct found *found, size_t num)
{
	uint64_t incarnation;
	int end = 0;

	s->listener = take_named(found, num, "bazil.listener");
	s->ctl_listener = take_named(found, num, "bazil.ctl");
	for (size_t i = 0; i < num; i++)
		if (found[i].fd >= 0 &&
			sscanf(found[i].name, "bazil.%16" SCNx64 ".meta%n", &incarnation, &end) ==
				1 &&
			end > 0 && found[i].name[end] == '\0')
			take_mount(s, found, num, incarnation, TAKE_FD(found[i].fd));
	for (size_t i = 0; i < num; i++)
		if (found[i].fd >= 0) {
			notify_forget(found[i].name);
			close(found[i].fd);
		}
}

static void add_found(struct found *found, size_t *num, int fd, const char *name, size_t len)
{
	if (fd < FIRST_FD || *num == FDS_MAX || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return;
	found[*num].fd = fd;
	snprintf(found[(*num)++].name, NAME_SIZE, "%.*s", (int)len, name);
}

/* "17=bazil.ctl:18=..." from ourselves. */
static void find_own(struct found *found, size_t *num)
{
	const char *text = getenv("BAZIL_KEPT");
	char *end;

	while (text && *text) {
		const long fd = strtol(text, &end, 10);
		size_t len;

		if (end == text || *end != '=')
			return;
		len = strcspn(end + 1, ":");
		add_found(found, num, (int)fd, end + 1, len);
		text = end + 1 + len;
		text += *text == ':';
	}
}

/* From systemd: descriptors from 3 on, their names separated by colons. */
static void find_listen(struct found *found, size_t *num)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	const char *names = getenv("LISTEN_FDNAMES");
	long n = count ? strtol(count, NULL, 10) : 0;

	if (!pid || strtol(pid, NULL, 10) != getpid())
		return;
	for (int fd = FIRST_FD; fd < FIRST_FD + n && fd < FIRST_FD + FDS_MAX; fd++) {
		const size_t len = names ? strcspn(names, ":") : 0;

		add_found(found, num, fd, names ? names : "", len);
		if (names)
			names += len + (names[len] == ':');
	}
}

void keep_take(struct supervisor *s)
{
	_cleanup_(freep) struct found *found = calloc(FDS_MAX, sizeof(*found));
	size_t num = 0;

	if (!found)
		fatal("no memory");
	find_own(found, &num);
	find_listen(found, &num);
	take_all(s, found, num);
	/* Not for fusermount3, and not for a life after the next. */
	unsetenv("BAZIL_KEPT");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

/* Over an exec. */

static size_t list_one(char *text, size_t size, size_t len, int fd, const char *name)
{
	if (fd < 0 || fcntl(fd, F_SETFD, 0) < 0)
		return len;
	return len + (size_t)snprintf(text + len, size - len, "%d=%s:", fd, name);
}

int keep_over_exec(struct supervisor *s)
{
	const size_t size = (size_t)FDS_MAX * NAME_SIZE;
	_cleanup_(freep) char *text = calloc(1, size);
	size_t len = 0;

	if (!text)
		return -ENOMEM;
	len = list_one(text, size, len, s->listener, "bazil.listener");
	len = list_one(text, size, len, s->ctl_listener, "bazil.ctl");
	for (const struct mount *m = s->mounts; m; m = m->next) {
		char name[NAME_SIZE];
		int parts[NUM_PARTS];

		if (len + (size_t)NUM_PARTS * (NAME_SIZE + 16) > size)
			return -EMFILE;
		parts_of(m, parts);
		for (int i = 0; i < NUM_PARTS; i++) {
			name_part(name, m, i);
			len = list_one(text, size, len, parts[i], name);
		}
	}
	return setenv("BAZIL_KEPT", text, 1) < 0 ? -errno : 0;
}

void keep_not_over_exec(struct supervisor *s)
{
	unsetenv("BAZIL_KEPT");
	fcntl(s->listener, F_SETFD, FD_CLOEXEC);
	fcntl(s->ctl_listener, F_SETFD, FD_CLOEXEC);
	for (const struct mount *m = s->mounts; m; m = m->next) {
		int parts[NUM_PARTS];

		parts_of(m, parts);
		for (int i = 0; i < NUM_PARTS; i++)
			fcntl(parts[i], F_SETFD, FD_CLOEXEC);
	}
}
