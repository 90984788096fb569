/*
 * The way to the server: ctl.sock in the data directory, or, for requests marked `offline` in
 * ipc/control.msg when no server runs, a supervisor of our own that serves one connection and ends.
 */
#ifndef BAZIL_CLI_CONNECT_H
#define BAZIL_CLI_CONNECT_H

#include <stdint.h>

#include "cli/cli.h"

/*
 * Connects cli->chan for a request of this type (enum ctl_type), once. Returns CLI_OK, or
 * CLI_FAILED after saying why and what to do.
 */
int cli_connect(struct cli *cli, uint16_t type);
void cli_disconnect(struct cli *cli);

/* Only the socket: a descriptor or -errno, and its explanation, which returns CLI_FAILED. */
int cli_connect_raw(const char *data_dir);
int cli_explain_connect(const char *data_dir, int err);

/* Path of a program of ours, beside this one or in the folder of the workers. Static storage. */
const char *cli_program(const char *name);

/* How long an answer may take, in milliseconds: long work reports progress meanwhile. */
#define CLI_TIMEOUT_MS	    60000
#define CLI_LONG_TIMEOUT_MS (24 * 3600 * 1000)

#endif
