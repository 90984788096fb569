/*
 * Paths inside a mounted volume: where its root is, and what mountd knows of them, asked by the
 * extended attributes user.bazil.* (mountd/hidden.h): so the kernel checks who may.
 */
#ifndef BAZIL_CLI_INSIDE_H
#define BAZIL_CLI_INSIDE_H

#include <jansson.h>
#include <limits.h>

struct inside {
	char root[PATH_MAX]; /* of the mount */
	char rest[PATH_MAX]; /* below it, without a leading slash; empty: the root itself */
};

/* path need not exist, its directory must. CLI_OK, or CLI_FAILED after saying why. what: the
 * command. */
int inside_find(const char *what, const char *path, struct inside *ret);
/* The attribute user.bazil.NAME as text, malloc'ed. -errno; -ENODATA: not a file of ours. */
int inside_text(const char *path, const char *name, char **ret);
/* The same, parsed. */
int inside_json(const char *path, const char *name, json_t **ret);
/* Says why the attribute could not be had. CLI_FAILED. */
int inside_error(const char *what, const char *path, int r);

#endif
