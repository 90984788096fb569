/*
 * bazil volume syncs, bazil undo: what syncs changed, and taking it back.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/path.h"
#include "cli/print.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"

/* One sync after the other, newest first, numbered from 1. False: enough. */
typedef bool sync_fn(void *arg, unsigned number, const struct ctl_sync *sync);

static int each_sync(struct cli *cli, const char *what, const char *volume, sync_fn *fn, void *arg)
{
	struct ctl_sync_list req = { .volume = volume };
	unsigned number = 0;
	bool more = true;
	int r = cli_connect(cli, CTL_SYNC_LIST);

	if (r != CLI_OK)
		return r;
	while (more) {
		struct ctl_sync_list_reply reply;

		r = ctl_sync_list_wait(cli->chan, &req, CLI_TIMEOUT_MS, &reply);
		if (r < 0)
			return cli_request_error(what, r, ipc_chan_error(cli->chan));
		more = !reply.end && reply.num_syncs > 0;
		for (size_t i = 0; i < reply.num_syncs; i++) {
			req.before = reply.syncs[i].time;
			if (!fn(arg, ++number, &reply.syncs[i])) {
				more = false;
				break;
			}
		}
		ctl_sync_list_reply_release(&reply);
	}
	return CLI_OK;
}

struct listing {
	bool json;
	json_t *list;
};

static bool show(void *arg, unsigned number, const struct ctl_sync *sync)
{
	struct listing *listing = arg;
	char *peer;

	if (listing->json) {
		json_array_append_new(listing->list,
			json_pack("{s:i,s:s,s:I,s:s,s:I,s:b}", "number", (int)number, "time",
				cli_time(sync->time), "ns", (json_int_t)sync->time, "peer",
				sync->peer, "changed", (json_int_t)sync->num_changed, "undone",
				(int)sync->undone));
		return true;
	}
	peer = cli_escape(*sync->peer ? sync->peer : "-");
	printf("%4u  %s  %8llu changed  %s%s\n", number, cli_time(sync->time),
		(unsigned long long)sync->num_changed, peer, sync->undone ? "  (undone)" : "");
	free(peer);
	return true;
}

int cli_volume_syncs(struct cli *cli)
{
	struct listing listing = { .json = cli->json, .list = json_array() };
	int r = each_sync(cli, "volume syncs", cli->argv[0], show, &listing);

	if (r == CLI_OK && cli->json)
		return cli_print_json(listing.list);
	json_decref(listing.list);
	return r != CLI_OK ? r : cli_flush();
}

struct wanted {
	unsigned number;
	uint64_t time;
};

static bool take(void *arg, unsigned number, const struct ctl_sync *sync)
{
	struct wanted *wanted = arg;

	if (number == wanted->number)
		wanted->time = sync->time;
	return number < wanted->number;
}

/* The first of the files that stay as they are, for people on stderr or as a list. */
static json_t *print_kept(struct cli *cli, const struct ctl_sync_undo_reply *reply)
{
	json_t *list = cli->json ? json_array() : NULL;
	struct ctl_status_reply status;
	char buf[CLI_PATH_LEN];

	if (ctl_status_wait(cli->chan, &(struct ctl_status){ 0 }, CLI_TIMEOUT_MS, &status) < 0)
		return list;
	for (size_t i = 0; i < reply->num_kept; i++) {
		char *path = cli_path_of(&status, cli->argv[0], reply->kept[i], 0, buf);
		char *text = path ? cli_escape(path) : NULL;

		if (list && text)
			json_array_append_new(list, json_string(text));
		else if (text)
			fprintf(stderr, "stays: %s\n", text);
		free(text);
	}
	ctl_status_reply_release(&status);
	return list;
}

static int print_undone(struct cli *cli, const struct ctl_sync_undo_reply *reply)
{
	if (cli->json)
		return cli_print_json(json_pack("{s:s,s:I,s:I,s:o}", "time", cli_time(reply->time),
			"restored", (json_int_t)reply->num_restored, "stayed",
			(json_int_t)reply->stayed, "kept", print_kept(cli, reply)));
	if (reply->stayed == 0)
		return CLI_OK;
	fprintf(stderr,
		"bazil: undo: %llu changes were taken back; %llu stay, as they were changed again "
		"since\n",
		(unsigned long long)reply->num_restored, (unsigned long long)reply->stayed);
	print_kept(cli, reply);
	return CLI_OK;
}

int cli_undo(struct cli *cli)
{
	struct ctl_sync_undo req = { .volume = cli->argv[0] };
	struct ctl_sync_undo_reply reply;
	struct wanted wanted = { .number = 1 };
	char *end = NULL;
	int r;

	if (cli->sync)
		wanted.number = (unsigned)strtoul(cli->sync, &end, 10);
	if (wanted.number == 0 || (end && *end)) {
		cli_error("undo: -sync=%s: give a number that `bazil volume syncs %s` shows",
			cli->sync, cli->argv[0]);
		return CLI_USAGE;
	}
	r = each_sync(cli, "undo", cli->argv[0], take, &wanted);
	if (r != CLI_OK)
		return r;
	if (wanted.time == 0)
		return cli_error("undo: %s: there is no such sync: `bazil volume syncs %s` shows "
				 "those that are",
			cli->argv[0], cli->argv[0]);
	req.time = wanted.time;
	r = ctl_sync_undo_wait(cli->chan, &req, CLI_LONG_TIMEOUT_MS, &reply);
	if (r < 0)
		return cli_request_error("undo", r, ipc_chan_error(cli->chan));
	r = print_undone(cli, &reply);
	ctl_sync_undo_reply_release(&reply);
	return r;
}
