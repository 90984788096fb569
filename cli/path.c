#include "cli/path.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

static char *path_in(const struct ctl_mount *mount, const char *name, char buf[CLI_PATH_LEN])
{
	size_t len = strlen(mount->path);
	ssize_t n;

	if (len + 2 > CLI_PATH_LEN)
		return NULL;
	memcpy(buf, mount->path, len);
	n = getxattr(mount->path, name, buf + len, CLI_PATH_LEN - len - 1);
	if (n <= 0)
		return NULL;
	buf[len + (size_t)n] = '\0';
	return buf;
}

char *cli_path_of(const struct ctl_status_reply *status, const char *volume, uint64_t oid,
	uint64_t until, char buf[CLI_PATH_LEN])
{
	char name[64], *path;

	if (until > 0)
		snprintf(
			name, sizeof(name), "user.bazil.path.%" PRIx64 ".%" PRIx64, oid, until - 1);
	else
		snprintf(name, sizeof(name), "user.bazil.path.%" PRIx64, oid);
	for (size_t i = 0; i < status->num_mounts; i++) {
		/* A mount of an instant shows what was then. */
		if (strcmp(status->mounts[i].volume, volume) != 0 || status->mounts[i].at != 0)
			continue;
		path = path_in(&status->mounts[i], name, buf);
		if (path)
			return path;
	}
	return NULL;
}
