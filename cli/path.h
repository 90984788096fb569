/*
 * The name of a file by its inode number, which only a mount of its volume can tell.
 */
#ifndef BAZIL_CLI_PATH_H
#define BAZIL_CLI_PATH_H

#include "ipc/ctl.gen.h"

#include <stdint.h>

#define CLI_PATH_LEN 4096

/* Its absolute path in buf, which is returned; NULL: not mounted, or it has no name. until: the
 * name that it had just before that time; 0: has now. */
char *cli_path_of(const struct ctl_status_reply *status, const char *volume, uint64_t oid,
	uint64_t until, char buf[CLI_PATH_LEN]);

#endif
