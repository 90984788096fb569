/*
 * What mountd tells of the versions of a name: {"complete": bool, "versions": [{"kind": "name",
 * "contents" or "attributes", "since", "until" (ns, 0: it still is), "inode", "replica", ...}]}.
 */
#ifndef BAZIL_CLI_HISTORY_H
#define BAZIL_CLI_HISTORY_H

#include <jansson.h>

#include "cli/inside.h"

#define HISTORY_NAME_MAX 240 /* with "user.bazil.log." it is the name of an attribute */

/* CLI_OK, or CLI_FAILED after saying why. */
int history_load(const char *what, const struct inside *inside, json_t **ret);

#endif
