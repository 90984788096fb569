#include "supervisor/zone.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/scope.h"

#define TAIL 128

/* The last line, which a newline ends and one begins. */
static void read_footer(const char *path, char ret[ZONE_MAX])
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char tail[TAIL + 1];
	const char *line;
	off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
	ssize_t n = size >= 0 ? pread(fd, tail, TAIL, size > TAIL ? size - TAIL : 0) : -1;

	if (n < 2 || tail[n - 1] != '\n')
		return;
	tail[n - 1] = '\0';
	line = memrchr(tail, '\n', (size_t)n - 1);
	if (line && strlen(line + 1) < ZONE_MAX)
		memcpy(ret, line + 1, strlen(line + 1) + 1);
}

void zone_find(char ret[ZONE_MAX])
{
	const char *tz = getenv("TZ");
	char path[300];

	ret[0] = '\0';
	if (!tz || !*tz) {
		read_footer("/etc/localtime", ret);
		return;
	}
	tz += *tz == ':';
	snprintf(path, sizeof(path), "%s%s", *tz == '/' ? "" : "/usr/share/zoneinfo/", tz);
	read_footer(path, ret);
	/* No file: it may be of POSIX's form itself. */
	if (!*ret && strlen(tz) < ZONE_MAX)
		memcpy(ret, tz, strlen(tz) + 1);
}
