#include "mounter/mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/scope.h"

__attribute__((format(printf, 3, 4))) static int refuse(
	char why[FUSERMOUNT_WHY], int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, FUSERMOUNT_WHY, fmt, ap);
	va_end(ap);
	return err;
}

/* mountinfo writes space, tab, newline and backslash as \ooo. Decodes in place. */
static void unescape(char *s)
{
	char *o = s;

	while (*s) {
		unsigned value;

		if (s[0] == '\\' && sscanf(s + 1, "%3o", &value) == 1) {
			*o++ = (char)value;
			s += 4;
		} else {
			*o++ = *s++;
		}
	}
	*o = '\0';
}

bool mountpoint_mounted(const char *path)
{
	_cleanup_(fclosep) FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_(freep) char *line = NULL;
	size_t size = 0;

	while (f && getline(&line, &size, f) > 0) {
		char *point = line;

		/* The fifth field. */
		for (int i = 0; i < 4 && point; i++) {
			point = strchr(point, ' ');
			point += point != NULL;
		}
		if (!point)
			continue;
		point[strcspn(point, " \n")] = '\0';
		unescape(point);
		if (strcmp(point, path) == 0)
			return true;
	}
	return false;
}

static bool is_empty(int fd)
{
	_cleanup_(closedirp) DIR *d = NULL;
	struct dirent *e;
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	d = copy < 0 ? NULL : fdopendir(copy);
	if (!d)
		return false;
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			return false;
	return true;
}

int mountpoint_check(const char *path, char why[FUSERMOUNT_WHY])
{
	_cleanup_(closep) int fd = -1;
	struct stat st;

	if (path[0] != '/')
		return refuse(why, -EINVAL, "not an absolute path");
	if (mountpoint_mounted(path))
		return refuse(why, -EBUSY,
			"something is mounted there already: choose another directory, or unmount "
			"it");
	fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return refuse(why, -ENOENT, "no such directory: make it with mkdir first");
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		return refuse(why, -ENOTDIR, "not a directory: give an empty directory");
	if (fd < 0 || fstat(fd, &st) < 0)
		return refuse(why, -errno, "%s", strerror(errno));
	if (st.st_uid != geteuid())
		return refuse(
			why, -EPERM, "the directory belongs to another user: give one of your own");
	if (access(path, R_OK | W_OK | X_OK) < 0)
		return refuse(why, -EACCES,
			"you may not write there: give a directory that you may write to");
	if (!is_empty(fd))
		return refuse(why, -ENOTEMPTY,
			"the directory is not empty: what is in it would be hidden: give an empty "
			"one");
	return 0;
}
