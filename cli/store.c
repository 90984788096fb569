/*
 * bazil store ...: what the store is made of, and its index made anew.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/print.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"

static int ask(struct cli *cli, struct ctl_store_status_reply *reply)
{
	int r = cli_connect(cli, CTL_STORE_STATUS);

	if (r != CLI_OK)
		return r;
	r = ctl_store_status_wait(
		cli->chan, &(struct ctl_store_status){ 0 }, CLI_LONG_TIMEOUT_MS, reply);
	return r < 0 ? cli_request_error("store", r, ipc_chan_error(cli->chan)) : CLI_OK;
}

/* ---- status */

static json_t *arenas_json(const struct ctl_store_status_reply *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->num_arenas; i++) {
		const struct ctl_arena *a = &s->arenas[i];

		json_array_append_new(
			list, json_pack("{s:I,s:b,s:I,s:I,s:I,s:I,s:I}", "arena",
				      (json_int_t)a->number, "sealed", a->sealed, "bytes",
				      (json_int_t)a->size, "disk_bytes", (json_int_t)a->disk,
				      "objects", (json_int_t)a->objects, "live_bytes",
				      (json_int_t)a->live, "dead_bytes", (json_int_t)a->dead));
	}
	return list;
}

static json_t *ranges_json(const struct ctl_store_status_reply *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->num_ranges; i++)
		json_array_append_new(list,
			json_pack("{s:I,s:I,s:I}", "arena", (json_int_t)s->ranges[i].arena, "from",
				(json_int_t)s->ranges[i].from, "to", (json_int_t)s->ranges[i].to));
	return list;
}

static int status_json(const struct ctl_store_status_reply *s)
{
	json_t *ret = json_pack("{s:I,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:b}", "format",
		(json_int_t)s->version, "hash", "sha256", "arena_size", (json_int_t)s->arena_size,
		"arenas", (json_int_t)s->num_all_arenas, "sealed", (json_int_t)s->sealed, "bytes",
		(json_int_t)s->arena_bytes, "disk_bytes", (json_int_t)s->disk_bytes, "objects",
		(json_int_t)s->objects, "live_bytes", (json_int_t)s->live, "dead_bytes",
		(json_int_t)s->dead, "index_bytes", (json_int_t)s->index_bytes, "index_free_bytes",
		(json_int_t)s->index_free, "index_rebuilt", s->rebuilt);
	json_t *more = json_pack("{s:I,s:I,s:I,s:I,s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o}",
		"changes_bytes", (json_int_t)s->changes, "bases_bytes", (json_int_t)s->bases,
		"reserve_bytes", (json_int_t)s->reserve, "available_bytes",
		(json_int_t)s->available, "scrub_running", s->scrub_running, "scrub_finished",
		(json_int_t)s->scrubbed, "gc_finished", (json_int_t)s->collected, "gc_noted",
		(json_int_t)s->garbage_objects, "gc_freed_objects", (json_int_t)s->freed_objects,
		"gc_freed_bytes", (json_int_t)s->freed_bytes, "oldest", (json_int_t)s->oldest,
		"damaged_objects", (json_int_t)s->damaged_objects, "damaged_ranges", ranges_json(s),
		"arena_list", arenas_json(s));

	if (ret && more)
		json_object_update(ret, more);
	json_decref(more);
	return cli_print_json(ret);
}

static void print_arenas(const struct ctl_store_status_reply *s)
{
	printf("\n%8s %-7s %10s %10s %10s %10s %10s\n", "ARENA", "", "SIZE", "ON DISK", "OBJECTS",
		"LIVE", "DEAD");
	for (size_t i = 0; i < s->num_arenas; i++) {
		const struct ctl_arena *a = &s->arenas[i];

		printf("%8" PRIu32 " %-7s %10s %10s %10" PRIu64 " %10s %10s\n", a->number,
			a->sealed ? "sealed" : "open", cli_size(a->size), cli_size(a->disk),
			a->objects, cli_size(a->live), a->sealed ? cli_size(a->dead) : "-");
	}
	if (s->num_arenas < s->num_all_arenas)
		printf("%8s and %zu more\n", "", s->num_all_arenas - s->num_arenas);
}

static void print_damage(const struct ctl_store_status_reply *s)
{
	if (s->damaged_objects > 0)
		printf("damaged: %" PRIu32 "%s objects: see `bazil scrub status`\n",
			s->damaged_objects,
			s->damaged_objects == CTL_STORE_STATUS_REPLY_RANGES_MAX ? " or more" : "");
	for (size_t i = 0; i < s->num_ranges; i++)
		printf("damaged: arena %" PRIu32 ", bytes %" PRIu64 " to %" PRIu64 "\n",
			s->ranges[i].arena, s->ranges[i].from, s->ranges[i].to);
	if (s->damaged_objects == 0 && s->num_ranges == 0)
		printf("no damage is known\n");
}

static int status_text(const struct ctl_store_status_reply *s)
{
	printf("format %" PRIu32 ", sha256, arenas of %s\n", s->version, cli_size(s->arena_size));
	printf("objects: %" PRIu64 ", %s; dead: %s\n", s->objects, cli_size(s->live),
		cli_size(s->dead));
	printf("arenas: %" PRIu32 ", %" PRIu32 " of them sealed, %s, %s on the disk\n",
		s->num_all_arenas, s->sealed, cli_size(s->arena_bytes), cli_size(s->disk_bytes));
	printf("log: %s of changes, %s of the index as it was\n", cli_size(s->changes),
		cli_size(s->bases));
	printf("index: %s, %s of it free%s\n", cli_size(s->index_bytes), cli_size(s->index_free),
		s->rebuilt ? ", made anew when the store was opened" : "");
	printf("disk: %s free, %s in reserve for deleting\n", cli_size(s->available),
		cli_size(s->reserve));
	printf("scrub: %s%s\n", s->scrub_running ? "running, last finished " : "last finished ",
		s->scrubbed ? cli_time(s->scrubbed) : "never");
	printf("gc: last %s, %" PRIu64 " objects noted, %s freed so far\n",
		s->collected ? cli_time(s->collected) : "never", s->garbage_objects,
		cli_size(s->freed_bytes));
	if (s->oldest)
		printf("history: every version since %s\n", cli_time(s->oldest));
	print_damage(s);
	print_arenas(s);
	return cli_flush();
}

int cli_store_status(struct cli *cli)
{
	struct ctl_store_status_reply reply;
	int r = ask(cli, &reply);

	if (r != CLI_OK)
		return r;
	r = cli->json ? status_json(&reply) : status_text(&reply);
	ctl_store_status_reply_release(&reply);
	return r;
}

/* ---- rebuild-index */

/* Who uses a mount waits until it is done: that is said before. */
static int confirm(struct cli *cli)
{
	struct ctl_status_reply status;
	char answer[16];
	size_t num;
	int r;

	if (cli->force || cli->once_pid)
		return CLI_OK;
	r = ctl_status_wait(cli->chan, &(struct ctl_status){ 0 }, CLI_TIMEOUT_MS, &status);
	if (r < 0)
		return cli_request_error("store rebuild-index", r, ipc_chan_error(cli->chan));
	num = status.num_mounts;
	ctl_status_reply_release(&status);
	if (num == 0)
		return CLI_OK;
	if (!isatty(STDIN_FILENO))
		return cli_error("store rebuild-index: volumes are mounted, and who uses them "
				 "waits until it is done: give -force to confirm");
	fprintf(stderr, "Who uses the mounted volumes waits until it is done. Type yes: ");
	if (fgets(answer, sizeof(answer), stdin) && strcmp(answer, "yes\n") == 0)
		return CLI_OK;
	return cli_error("store rebuild-index: not confirmed: nothing was changed");
}

static void on_progress(void *arg, uint64_t serial, uint64_t done, uint64_t total, const char *text)
{
	cli_progress("rebuild-index", done, total, cli_size(done));
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int report(struct cli *cli, double took)
{
	struct ctl_store_status_reply s;
	int r = ask(cli, &s);

	if (r != CLI_OK)
		return r;
	if (cli->json) {
		r = cli_print_json(json_pack("{s:f,s:I,s:I,s:I,s:I,s:o}", "seconds", took, "arenas",
			(json_int_t)s.num_all_arenas, "objects", (json_int_t)s.objects,
			"live_bytes", (json_int_t)s.live, "index_bytes", (json_int_t)s.index_bytes,
			"damaged_ranges", ranges_json(&s)));
	} else {
		printf("the index of %" PRIu64 " objects (%s) in %" PRIu32
		       " arenas was made anew in %.1f s\n",
			s.objects, cli_size(s.live), s.num_all_arenas, took);
		for (size_t i = 0; i < s.num_ranges; i++)
			printf("damaged: arena %" PRIu32 ", bytes %" PRIu64 " to %" PRIu64 "\n",
				s.ranges[i].arena, s.ranges[i].from, s.ranges[i].to);
		r = cli_flush();
	}
	ctl_store_status_reply_release(&s);
	return r;
}

int cli_store_rebuild(struct cli *cli)
{
	double start = seconds();
	int r = cli_connect(cli, CTL_STORE_REBUILD);

	if (r == CLI_OK)
		r = confirm(cli);
	if (r != CLI_OK)
		return r;
	ipc_chan_on_progress(cli->chan, on_progress, NULL);
	r = ctl_store_rebuild_wait(cli->chan, &(struct ctl_store_rebuild){ 0 }, CLI_LONG_TIMEOUT_MS,
		&(struct ctl_store_rebuild_reply){ 0 });
	cli_progress_end();
	if (r < 0)
		return cli_request_error("store rebuild-index", r, ipc_chan_error(cli->chan));
	return report(cli, seconds() - start);
}
