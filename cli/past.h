/*
 * Naming the past: -at=TIME and -snapshot=NAME, and the directory .snap of a mount where both can
 * be looked at. Names of snapshots are never told to the server: they are resolved in the mount.
 */
#ifndef BAZIL_CLI_PAST_H
#define BAZIL_CLI_PAST_H

#include <limits.h>
#include <stdint.h>

#include "cli/cli.h"

/* The live mount of a volume; malloc'ed. CLI_OK, or CLI_FAILED after saying how to mount it. */
int past_find_mount(struct cli *cli, const char *what, const char *volume, char **ret_path);
/* What -at or -snapshot says, for a mount of it; 0 without them. */
int past_mount_time(struct cli *cli, const char *what, const char *volume, uint64_t *ret_at);
/* ROOT/.snap/... for -at or -snapshot; CLI_USAGE when neither is given. */
int past_directory(const struct cli *cli, const char *what, const char *root, char ret[PATH_MAX]);
/* ROOT/.snap/@TIME of ns since 1970. */
int past_directory_at(const char *root, uint64_t ns, char ret[PATH_MAX]);
/* A name of a snapshot that can be one, or CLI_USAGE. */
int past_check_name(const char *what, const char *name);

#endif
