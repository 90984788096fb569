/*
 * bazil(1): the table of commands. Each runs in the file of its first word.
 */
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/options.h"
#include "cli/print.h"

static const struct cli_command commands[] = {
	{ "create", "", "make this node's data directory", 0, 0, TAKES_ARENA_SIZE, cli_create },
	{ "version", "", "print the version", 0, 0, 0, cli_version },
	{ "pubkey", "", "print this node's public key", 0, 0, 0, cli_pubkey },
	{ "debug pubkey", "", "the same, as first called", 0, 0, 0, cli_pubkey },
	{ "server run", "", "run the server in the foreground", 0, 0, TAKES_PORT, cli_server_run },
	{ "server ping", "", "is the server up?", 0, 0, 0, cli_server_ping },
	{ "server stop", "", "unmount all and stop the server", 0, 0, 0, cli_server_stop },
	{ "server upgrade", "", "let newly installed programs take over", 0, 0, 0,
		cli_server_upgrade },
	{ "server status", "", "processes, restarts, mounts", 0, 0, 0, cli_server_status },
	{ "sharing add", "NAME <SECRET", "add a sharing key: 32 bytes on standard input", 1, 1, 0,
		cli_sharing_add },
	{ "sharing list", "", "names and fingerprints of the sharing keys", 0, 0, 0,
		cli_sharing_list },
	{ "sharing remove", "NAME", "forget a sharing key", 1, 1, TAKES_FORCE, cli_sharing_remove },
	{ "volume create", "VOLUME", "make a new volume", 1, 1, TAKES_SHARING, cli_volume_create },
	{ "volume list", "", "the volumes of this node", 0, 0, 0, cli_volume_list },
	{ "volume remove", "VOLUME", "forget a volume and all its files here", 1, 1, TAKES_FORCE,
		cli_volume_remove },
	{ "volume status", "VOLUME", "what a volume holds", 1, 1, 0, cli_volume_status },
	{ "volume mount", "VOLUME DIRECTORY", "mount a volume on an empty directory", 2, 2,
		TAKES_READ_ONLY | TAKES_ALLOW_OTHER | TAKES_AUTO | TAKES_AT | TAKES_SNAPSHOT,
		cli_volume_mount },
	{ "volume retention", "VOLUME", "how long old versions are kept", 1, 1, TAKES_RETENTION,
		cli_volume_retention },
	{ "volume syncs", "VOLUME", "the syncs that changed a volume here", 1, 1, 0,
		cli_volume_syncs },
	{ "volume unmount", "VOLUME|DIRECTORY", "unmount it", 1, 1, TAKES_FORCE,
		cli_volume_unmount },
	{ "volume connect", "PEER VOLUME", "use a volume that a peer has", 2, 2, TAKES_SHARING,
		cli_volume_connect },
	{ "volume sync", "VOLUME PEER", "fetch the changes that a peer has", 2, 2, 0,
		cli_volume_sync },
	{ "volume storage add", "VOLUME STORAGE", "where contents may be fetched: peerkey:KEY", 2,
		2, TAKES_SHARING, cli_volume_storage_add },
	{ "volume storage list", "VOLUME", "the storages of a volume", 1, 1, 0,
		cli_volume_storage_list },
	{ "volume storage remove", "VOLUME STORAGE", "fetch from there no more", 2, 2, 0,
		cli_volume_storage_remove },
	{ "snapshot create", "VOLUME NAME", "keep the volume as it is now under a name", 2, 2, 0,
		cli_snapshot_create },
	{ "snapshot list", "VOLUME", "the snapshots of a volume", 1, 1, 0, cli_snapshot_list },
	{ "snapshot remove", "VOLUME NAME", "keep it no more", 2, 2, 0, cli_snapshot_remove },
	{ "snapshot diff", "VOLUME NAME [NAME]", "what changed since then, or until another one", 2,
		3, 0, cli_snapshot_diff },
	{ "log", "PATH", "the versions of a file, also of one that is gone", 1, 1, 0, cli_log },
	{ "restore", "PATH", "bring back a file or a tree as it was", 1, 1,
		TAKES_AT | TAKES_SNAPSHOT | TAKES_TO | TAKES_DRY_RUN, cli_restore },
	{ "undo", "VOLUME", "take back what a sync changed", 1, 1, TAKES_SYNC, cli_undo },
	{ "du", "PATH...", "what a directory holds, at once", 1, INT_MAX, TAKES_DEPTH | TAKES_HUMAN,
		cli_du },
	{ "df", "", "disk, volumes, and how much the store saves", 0, 0, TAKES_HUMAN, cli_df },
	{ "stat", "PATH...", "what Bazil knows of a file", 1, INT_MAX, 0, cli_stat },
	{ "scrub", "", "verify everything stored, and heal it from peers", 0, 0,
		TAKES_RATE | TAKES_BACKGROUND, cli_scrub },
	{ "scrub status", "", "how the last scrub went, and what is damaged", 0, 0, 0,
		cli_scrub_status },
	{ "scrub stop", "", "end it; it goes on there the next time", 0, 0, 0, cli_scrub_stop },
	{ "gc", "", "free what no file and no history needs", 0, 0, TAKES_DRY_RUN | TAKES_NOW,
		cli_gc },
	{ "store status", "", "what the store is made of", 0, 0, 0, cli_store_status },
	{ "store rebuild-index", "", "make the index of the store anew", 0, 0, TAKES_FORCE,
		cli_store_rebuild },
	{ "peer add", "KEY", "introduce a peer by its public key", 1, 1, TAKES_NAME, cli_peer_add },
	{ "peer list", "", "peers, addresses and permissions", 0, 0, 0, cli_peer_list },
	{ "peer remove", "PEER", "forget a peer and its permissions", 1, 1, 0, cli_peer_remove },
	{ "peer rename", "PEER NICKNAME", "call a peer by another name", 2, 2, 0, cli_peer_rename },
	{ "peer location set", "PEER HOST:PORT", "where the peer can be reached", 2, 2, 0,
		cli_peer_location_set },
	{ "peer location remove", "PEER", "forget where the peer can be reached", 1, 1, 0,
		cli_peer_location_clear },
	{ "peer storage allow", "PEER local", "let a peer fetch objects of this node", 2, 2, 0,
		cli_peer_storage_allow },
	{ "peer storage deny", "PEER local", "take that back", 2, 2, 0, cli_peer_storage_deny },
	{ "peer volume allow", "PEER VOLUME", "let a peer sync a volume from here", 2, 2, 0,
		cli_peer_volume_allow },
	{ "peer volume deny", "PEER VOLUME", "take that back", 2, 2, 0, cli_peer_volume_deny },
};

#define NUM_COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* $XDG_DATA_HOME/bazil, or its default under the home directory. NULL when there is no home. */
static char *default_data_dir(void)
{
	const char *xdg = getenv("XDG_DATA_HOME");
	const char *home = getenv("HOME");
	const struct passwd *pw;
	char *ret = NULL;

	if (xdg && *xdg == '/')
		return asprintf(&ret, "%s/bazil", xdg) < 0 ? NULL : ret;
	if (!home || *home != '/') {
		pw = getpwuid(getuid());
		home = pw ? pw->pw_dir : NULL;
	}
	if (!home || *home != '/')
		return NULL;
	return asprintf(&ret, "%s/.local/share/bazil", home) < 0 ? NULL : ret;
}

/* The path without relying on the working directory: the server has another one. */
static char *absolute(const char *path)
{
	char *cwd, *ret = NULL;

	if (*path == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	if (cwd && asprintf(&ret, "%s/%s", cwd, path) < 0)
		ret = NULL;
	free(cwd);
	return ret;
}

static int run(struct cli *cli, int argc, char **argv, char **words)
{
	const struct cli_command *command;
	char *data_dir;
	int r = cli_parse(cli, argc, argv, words, commands, NUM_COMMANDS, &command);

	if (r != CLI_OK)
		return r;
	if (!command || cli->help) {
		bool skip =
			cli->argc > 0 && cli->argv[0] == words[0] && strcmp(words[0], "help") == 0;
		int num_words = 0;

		if (argc == 1) {
			cli_help(commands, NUM_COMMANDS, 0, words);
			return CLI_USAGE;
		}
		num_words = command ? (int)(cli->argv - words) : cli->argc - skip;
		return cli_help(commands, NUM_COMMANDS, num_words, words + skip);
	}
	data_dir = cli->data_dir ? absolute(cli->data_dir) : default_data_dir();
	if (!data_dir && cli->data_dir)
		return cli_error("data directory: %s: the directory in which you are is gone: cd "
				 "to another one",
			cli->data_dir);
	if (!data_dir)
		return cli_error("data directory: no home directory is known: give -data-dir=PATH");
	cli->data_dir = data_dir;
	r = command->run(cli);
	cli_progress_end();
	cli_disconnect(cli);
	free(data_dir);
	return r;
}

int main(int argc, char **argv)
{
	struct cli cli = { 0 };
	char **words = calloc((size_t)argc + 1, sizeof(*words));
	int r;

	if (!words)
		abort();
	signal(SIGPIPE, SIG_IGN);
	r = run(&cli, argc, argv, words);
	free(words);
	return r;
}
