/*
 * bazil gc
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/print.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"

static void on_progress(void *arg, uint64_t serial, uint64_t done, uint64_t total, const char *text)
{
	cli_progress("gc", done, total, text);
}

static json_t *count_json(uint64_t objects, uint64_t bytes)
{
	return json_pack("{s:I,s:I}", "objects", (json_int_t)objects, "bytes", (json_int_t)bytes);
}

/* true: as long as an arena is set aside. */
static json_t *lost_json(uint64_t until)
{
	return until == UINT64_MAX ? json_true() : json_integer((json_int_t)until);
}

/* As they come: what history lets go within a day ... and what snapshots keep. */
static const char *const ages[] = { "day", "week", "month", "later", "snapshots" };
#define AGES	      (sizeof(ages) / sizeof(*ages))
#define AGE_SNAPSHOTS (AGES - 1)

static json_t *ages_json(const struct ctl_gc_reply *reply)
{
	json_t *json = json_object();

	for (size_t i = 0; i < reply->num_ages && i < AGES; i++)
		json_object_set_new(
			json, ages[i], count_json(reply->ages[i].objects, reply->ages[i].bytes));
	return json;
}

static int print_json(const struct cli *cli, const struct ctl_gc_reply *reply)
{
	json_t *holders = json_array();

	for (size_t i = 0; i < reply->num_holders; i++)
		json_array_append_new(holders, cli_json_text(reply->holders[i].name));
	return cli_print_json(json_pack(
		"{s:b,s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:I,"
		"s:o,s:I,s:o,s:I,s:I,s:o}",
		"dry_run", cli->dry_run, "incomplete", reply->incomplete, "all",
		count_json(reply->objects, reply->bytes), "live",
		count_json(reply->live_objects, reply->live_bytes), "history",
		count_json(reply->history_objects, reply->history_bytes), "freed",
		count_json(reply->freed_objects, reply->freed_bytes), "noted",
		count_json(reply->noted_objects, reply->noted_bytes), "peers",
		count_json(reply->peers_objects, reply->peers_bytes), "tail",
		count_json(reply->tail_objects, reply->tail_bytes), "old",
		count_json(reply->old_objects, reply->old_bytes), "punched_bytes",
		(json_int_t)reply->punched, "unpunched_bytes", (json_int_t)reply->unpunched,
		"compacted_arenas", (json_int_t)reply->compacted, "removed_arenas",
		(json_int_t)reply->removed, "regained_bytes", (json_int_t)reply->regained,
		"changes_bytes", (json_int_t)reply->changes, "bases_bytes",
		(json_int_t)reply->bases, "base_written_bytes", (json_int_t)reply->written, "moved",
		count_json(reply->moved_objects, reply->moved_bytes), "grace_until",
		(json_int_t)reply->grace_until, "peers_waited_for", holders, "peers_until",
		(json_int_t)reply->peers_until, "history_ages", ages_json(reply), "history_from",
		(json_int_t)reply->ages_from, "history_until", (json_int_t)reply->ages_until,
		"lost_until", lost_json(reply->lost_until)));
}

/* One line for each reason that there is. */
static void line(const char *what, uint64_t objects, uint64_t bytes, const char *why)
{
	if (objects > 0)
		printf("%-8s %10s in %" PRIu64 " objects: %s\n", what, cli_size(bytes), objects,
			why);
}

static void print_lost(uint64_t until)
{
	const char *what =
		"Damage took away a part of the log, which may have referred to anything";

	if (until == UINT64_MAX)
		printf("%s: nothing is freed while an arena is set aside (arena.*.bad).\n", what);
	else if (until > 0)
		printf("%s: nothing is freed before %s.\n", what, cli_time(until));
}

/* Of what history has: until when. */
static void print_ages(const struct ctl_gc_reply *reply)
{
	static const char *const what[AGES] = { "go within a day", "go within a week",
		"go within a month", "go later", "stay as long as their snapshots" };

	for (size_t i = 0; i < reply->num_ages && i < AGES; i++)
		if (reply->ages[i].objects > 0)
			printf("         %10s in %" PRIu64 " objects %s\n",
				cli_size(reply->ages[i].bytes), reply->ages[i].objects, what[i]);
	if (reply->ages_until > 0)
		printf("           the first not before %s, the last about %s\n",
			cli_time(reply->ages_from), cli_time(reply->ages_until));
}

/* What is neither an object nor needed for long. */
static void print_log(const struct ctl_gc_reply *reply)
{
	if (reply->changes > 0 || reply->bases > 0)
		printf("log      %10s of changes, %s of the index as it was, for which older "
		       "changes "
		       "go\n",
			cli_size(reply->changes), cli_size(reply->bases));
	if (reply->written > 0)
		printf("%s of the index were written into the log\n", cli_size(reply->written));
}

static void print_text(const struct cli *cli, const struct ctl_gc_reply *reply)
{
	char why[160];

	line(cli->dry_run ? "to free" : "freed", reply->freed_objects, reply->freed_bytes,
		"nothing refers to them");
	line("kept", reply->live_objects, reply->live_bytes, "files have them");
	line("kept", reply->history_objects, reply->history_bytes,
		"only history and snapshots have them (bazil volume retention)");
	print_ages(reply);
	snprintf(why, sizeof(why), "nothing refers to them, the grace time ends from %s on",
		cli_time(reply->grace_until));
	line("kept", reply->noted_objects, reply->noted_bytes, why);
	snprintf(why, sizeof(why),
		"peers have not synced since, and may ask for them; they go from %s on at the "
		"latest",
		cli_time(reply->peers_until));
	line("kept", reply->peers_objects, reply->peers_bytes, why);
	for (size_t i = 0; i < reply->num_holders; i++) {
		char *name = cli_escape(reply->holders[i].name);

		printf("           waiting for %s\n", name);
		free(name);
	}
	line("kept", reply->tail_objects, reply->tail_bytes,
		"nothing refers to them, but they were written last; they go when more is written, "
		"or with bazil gc -now");
	line("kept", reply->old_objects, reply->old_bytes,
		"a file of an older version may have them; write it anew to be sure");
	if (!cli->dry_run && reply->punched > 0)
		printf("%s were given back to the disk\n", cli_size(reply->punched));
	print_lost(reply->lost_until);
	print_log(reply);
	if (reply->compacted > 0 || reply->removed > 0) {
		printf("%s %s given back by compacting %" PRIu64 " arenas and removing %" PRIu64,
			cli_size(reply->regained), cli->dry_run ? "more would be" : "more were",
			reply->compacted, reply->removed);
		printf(", %s copied for it\n", cli_size(reply->moved_bytes));
	}
}

int cli_gc(struct cli *cli)
{
	struct ctl_gc req = { .dry_run = cli->dry_run, .now = cli->now };
	struct ctl_gc_reply reply;
	int r = cli_connect(cli, CTL_GC);

	if (r != CLI_OK)
		return r;
	ipc_chan_on_progress(cli->chan, on_progress, NULL);
	r = ctl_gc_wait(cli->chan, &req, CLI_LONG_TIMEOUT_MS, &reply);
	cli_progress_end();
	if (r < 0)
		return cli_request_error("gc", r, ipc_chan_error(cli->chan));
	if (cli->json) {
		r = print_json(cli, &reply);
	} else {
		print_text(cli, &reply);
		r = cli_flush();
	}
	if (r == CLI_OK && reply.incomplete)
		r = cli_error("gc: a mounted volume did not store what it holds in time, so "
			      "nothing was freed: try again later");
	ctl_gc_reply_release(&reply);
	return r;
}
