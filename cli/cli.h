/*
 * What the commands of bazil(1) share.
 *
 * main() parses the words (cli/options.h), finds the command in the table of cli/main.c and calls
 * it. A command returns the exit status: CLI_OK, CLI_FAILED or CLI_USAGE. It prints data on stdout
 * and everything else on stderr; a change that worked prints nothing.
 *
 * Commands talk to the server through cli_connect(); those whose request is marked `offline` in
 * ipc/control.msg work without a server too, by a supervisor that serves this one request and ends.
 */
#ifndef BAZIL_CLI_CLI_H
#define BAZIL_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLI_OK	   0
#define CLI_FAILED 1
#define CLI_USAGE  2

struct ipc_chan;

/* What the words of the command line said. Strings point into argv. */
struct cli {
	const char *data_dir; /* absolute; main() fills in the default */
	const char *sharing;  /* -sharing=NAME, or NULL */
	const char *port;     /* -port=N, or NULL */
	const char *name;     /* -name=NICKNAME, or NULL */
	const char *depth;    /* -depth=N, or NULL */
	const char *at;	      /* -at=TIME, or NULL */
	const char *snapshot; /* -snapshot=NAME, or NULL */
	const char *to;	      /* -to=PATH, or NULL */
	const char *sync;     /* -sync=N, or NULL */
	const char *keep_all; /* -keep-all=TIME, -hourly=N and so on, or NULL */
	const char *hourly, *daily, *weekly, *monthly;
	bool dry_run;
	const char *rate;	/* -rate=N, or NULL */
	const char *arena_size; /* -arena-size=SIZE, or NULL */
	bool json;
	bool human; /* -h */
	bool force;
	bool read_only;
	bool allow_other;
	bool automatic; /* -auto */
	bool background;
	bool now;
	bool help;
	int argc; /* words after the command's own */
	char **argv;
	struct ipc_chan *chan; /* cli_connect() */
	int once_pid;	       /* the supervisor of this one request, or 0 */
};

/* The commands, a file per first word. */
int cli_create(struct cli *);
int cli_version(struct cli *);
int cli_pubkey(struct cli *);
int cli_server_run(struct cli *);
int cli_server_ping(struct cli *);
int cli_server_stop(struct cli *);
int cli_server_upgrade(struct cli *);
int cli_server_status(struct cli *);
int cli_sharing_add(struct cli *);
int cli_sharing_list(struct cli *);
int cli_sharing_remove(struct cli *);
int cli_volume_create(struct cli *);
int cli_volume_list(struct cli *);
int cli_volume_remove(struct cli *);
int cli_volume_status(struct cli *);
int cli_volume_mount(struct cli *);
int cli_volume_unmount(struct cli *);
int cli_volume_connect(struct cli *);
int cli_volume_sync(struct cli *);
int cli_volume_storage_add(struct cli *);
int cli_volume_storage_list(struct cli *);
int cli_volume_storage_remove(struct cli *);
int cli_volume_syncs(struct cli *);
int cli_volume_retention(struct cli *);
int cli_undo(struct cli *);
int cli_snapshot_create(struct cli *);
int cli_snapshot_list(struct cli *);
int cli_snapshot_remove(struct cli *);
int cli_snapshot_diff(struct cli *);
int cli_log(struct cli *);
int cli_restore(struct cli *);
int cli_du(struct cli *);
int cli_df(struct cli *);
int cli_stat(struct cli *);
int cli_scrub(struct cli *);
int cli_scrub_status(struct cli *);
int cli_scrub_stop(struct cli *);
int cli_gc(struct cli *);
int cli_store_status(struct cli *);
int cli_store_rebuild(struct cli *);
int cli_peer_add(struct cli *);
int cli_peer_list(struct cli *);
int cli_peer_remove(struct cli *);
int cli_peer_rename(struct cli *);
int cli_peer_location_set(struct cli *);
int cli_peer_location_clear(struct cli *);
int cli_peer_storage_allow(struct cli *);
int cli_peer_storage_deny(struct cli *);
int cli_peer_volume_allow(struct cli *);
int cli_peer_volume_deny(struct cli *);

/*
 * Gives the keyid of the sharing key -sharing names (or `default`), or says that there is none.
 * Returns CLI_OK or CLI_FAILED.
 */
int cli_find_sharing(struct cli *, uint8_t ret_keyid[8]);

#endif
