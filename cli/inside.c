#include "cli/inside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "cli/cli.h"
#include "cli/print.h"

#define PREFIX	 "user.bazil."
#define TEXT_MAX 65536

int inside_text(const char *path, const char *name, char **ret)
{
	char attribute[300];
	char *text;
	ssize_t n;

	if (snprintf(attribute, sizeof(attribute), PREFIX "%s", name) > 255)
		return -ENAMETOOLONG;
	text = malloc(TEXT_MAX + 1);
	if (!text)
		abort();
	n = getxattr(path, attribute, text, TEXT_MAX);
	if (n < 0) {
		n = -errno;
		free(text);
		return n == -EOPNOTSUPP ? -ENODATA : (int)n;
	}
	text[n] = '\0';
	*ret = text;
	return 0;
}

int inside_json(const char *path, const char *name, json_t **ret)
{
	char *text;
	int r = inside_text(path, name, &text);

	if (r < 0)
		return r;
	*ret = json_loads(text, 0, NULL);
	free(text);
	return *ret ? 0 : -EBADMSG;
}

int inside_error(const char *what, const char *path, int r)
{
	struct stat st;

	if (r == -ENODATA && lstat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return cli_error(
			"%s: %s: only files and directories can be asked about", what, path);
	if (r == -ENODATA)
		return cli_error("%s: %s: it is not in a mounted volume: `bazil server status` "
				 "lists the mounts",
			what, path);
	return cli_error("%s: %s: %s", what, path, strerror(-r));
}

/* The directory that holds the last component, and that component. */
static int split(const char *path, char ret_dir[PATH_MAX], const char **ret_name)
{
	char copy[PATH_MAX];
	const char *slash;
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (len >= sizeof(copy))
		return -ENAMETOOLONG;
	memcpy(copy, path, len);
	copy[len] = '\0';
	slash = strrchr(copy, '/');
	*ret_name = slash ? path + (slash - copy) + 1 : path;
	if (slash == copy)
		copy[1] = '\0';
	else if (slash)
		copy[slash - copy] = '\0';
	return realpath(slash ? copy : ".", ret_dir) ? 0 : -errno;
}

/* The absolute path, without resolving a last component that is a symbolic link or is not there. */
static int absolute(const char *path, char ret[PATH_MAX])
{
	char dir[PATH_MAX], name[NAME_MAX + 1];
	const char *last;
	size_t len;
	int r = split(path, dir, &last);

	if (r < 0)
		return r;
	len = strcspn(last, "/");
	if (len == 0 || len > NAME_MAX || (len == 1 && *last == '.') ||
		(len == 2 && strncmp(last, "..", 2) == 0))
		return realpath(path, ret) ? 0 : -errno;
	memcpy(name, last, len);
	name[len] = '\0';
	if (snprintf(ret, PATH_MAX, "%s/%s", strcmp(dir, "/") ? dir : "", name) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

int inside_find(const char *what, const char *path, struct inside *ret)
{
	char full[PATH_MAX], *text;
	struct stat here, above;
	size_t len;
	int r = absolute(path, full);

	if (r < 0)
		return cli_error("%s: %s: %s", what, path, strerror(-r));
	memcpy(ret->root, full, sizeof(full));
	/* What is gone has the device of the directory that it was in. */
	while (lstat(ret->root, &here) < 0 && strcmp(ret->root, "/") != 0)
		*(strrchr(ret->root, '/') + (strrchr(ret->root, '/') == ret->root)) = '\0';
	for (;;) {
		char up[PATH_MAX];
		char *slash;

		memcpy(up, ret->root, sizeof(up));
		slash = strrchr(up, '/');
		slash[slash == up] = '\0';
		if (strcmp(up, ret->root) == 0 || lstat(up, &above) < 0 ||
			above.st_dev != here.st_dev)
			break;
		memcpy(ret->root, up, sizeof(up));
	}
	r = inside_text(ret->root, "stat", &text);
	if (r < 0)
		return inside_error(what, path, -ENODATA);
	free(text);
	len = strlen(ret->root);
	while (full[len] == '/')
		len++;
	memmove(ret->rest, full + len, strlen(full + len) + 1);
	return CLI_OK;
}
