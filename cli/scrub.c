/*
 * bazil scrub, bazil scrub status, bazil scrub stop
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/path.h"
#include "cli/print.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"

#define POLL_US 200000

static int ask(struct cli *cli, const struct ctl_scrub *req, struct ctl_scrub_reply *reply)
{
	int r = cli_connect(cli, CTL_SCRUB);

	if (r != CLI_OK)
		return r;
	r = ctl_scrub_wait(cli->chan, req, CLI_LONG_TIMEOUT_MS, reply);
	return r < 0 ? cli_request_error("scrub", r, ipc_chan_error(cli->chan)) : CLI_OK;
}

static const char *when(uint64_t ns, char *buf, size_t size)
{
	time_t s = (time_t)(ns / 1000000000u);
	struct tm tm;

	if (ns == 0)
		return "never";
	localtime_r(&s, &tm);
	strftime(buf, size, "%Y-%m-%d %H:%M:%S", &tm);
	return buf;
}

static void print_damages(
	const struct ctl_scrub_reply *reply, const struct ctl_status_reply *status)
{
	char buf[CLI_PATH_LEN], *text;

	for (size_t i = 0; i < reply->num_damages; i++) {
		const struct ctl_damage *d = &reply->damages[i];
		const char *path = cli_path_of(status, d->volume, d->oid, d->until, buf);

		if (path) {
			text = cli_escape(path);
			if (d->until > 0)
				printf("damaged: %s, as it was until %s\n", text,
					cli_time(d->until));
			else
				printf("damaged: %s\n", text);
			free(text);
		} else {
			printf("damaged: volume %s: inode %" PRIu64
			       " (mount the volume to see its name)\n",
				d->volume, d->oid);
		}
	}
	if (reply->unhealed > 0 && reply->num_damages == 0)
		printf("damaged: %" PRIu32 " objects that no file needs\n", reply->unhealed);
}

static json_t *damages_json(
	const struct ctl_scrub_reply *reply, const struct ctl_status_reply *status)
{
	json_t *list = json_array();
	char buf[CLI_PATH_LEN];

	for (size_t i = 0; i < reply->num_damages; i++) {
		const struct ctl_damage *d = &reply->damages[i];
		char *path = cli_path_of(status, d->volume, d->oid, d->until, buf);
		char *text = path ? cli_escape(path) : NULL;

		json_array_append_new(list, json_pack("{s:o,s:s,s:I,s:s*,s:I}", "object",
						    cli_json_hex(d->id, sizeof(d->id)), "volume",
						    d->volume, "inode", (json_int_t)d->oid, "path",
						    text, "until_ns", (json_int_t)d->until));
		free(text);
	}
	return list;
}

/* How it stands; CLI_FAILED while something is damaged. */
static int show(struct cli *cli, const struct ctl_scrub_reply *reply)
{
	struct ctl_status_reply status;
	char started[32], finished[32];
	int r = ctl_status_wait(cli->chan, &(struct ctl_status){ 0 }, CLI_TIMEOUT_MS, &status);

	if (r < 0)
		return cli_request_error("scrub", r, ipc_chan_error(cli->chan));
	if (cli->json) {
		r = cli_print_json(json_pack("{s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o}",
			"running", reply->running, "started", (json_int_t)reply->started,
			"finished", (json_int_t)reply->finished, "bytes", (json_int_t)reply->bytes,
			"total", (json_int_t)reply->total, "objects", (json_int_t)reply->objects,
			"rate_mib", (json_int_t)reply->rate, "damaged", (json_int_t)reply->damaged,
			"healed", (json_int_t)reply->healed, "lost_bytes",
			(json_int_t)reply->lost_bytes, "unhealed", (json_int_t)reply->unhealed,
			"damages", damages_json(reply, &status)));
	} else {
		printf("%s, begun %s, last finished %s\n",
			reply->running ? "running" : "not running",
			when(reply->started, started, sizeof(started)),
			when(reply->finished, finished, sizeof(finished)));
		printf("verified: %s in %" PRIu64 " objects\n", cli_size(reply->bytes),
			reply->objects);
		printf("damaged: %" PRIu64 " found, %" PRIu64 " healed, %" PRIu32 " left\n",
			reply->damaged, reply->healed, reply->unhealed);
		if (reply->lost_bytes > 0)
			printf("unreadable: %s of the log; what it said is still in the index\n",
				cli_size(reply->lost_bytes));
		print_damages(reply, &status);
		r = cli_flush();
	}
	ctl_status_reply_release(&status);
	return r != CLI_OK || reply->unhealed > 0 ? CLI_FAILED : CLI_OK;
}

int cli_scrub(struct cli *cli)
{
	struct ctl_scrub req = { .start = true };
	struct ctl_scrub_reply reply;
	int r;

	if (cli->rate) {
		char *end;
		long rate = strtol(cli->rate, &end, 10);

		if (*end || rate < 1 || rate > 1 << 20) {
			cli_error("scrub: -rate=%s: give MiB a second, 1 or more", cli->rate);
			return CLI_USAGE;
		}
		req.rate = (uint32_t)rate;
	}
	r = ask(cli, &req, &reply);
	if (r != CLI_OK)
		return r;
	if (cli->background) {
		ctl_scrub_reply_release(&reply);
		return CLI_OK;
	}
	while (reply.running) {
		cli_progress(
			"scrub", reply.bytes, reply.total, reply.damaged ? "damage found" : "");
		ctl_scrub_reply_release(&reply);
		usleep(POLL_US);
		r = ask(cli, &(struct ctl_scrub){ 0 }, &reply);
		if (r != CLI_OK)
			return r;
	}
	cli_progress_end();
	r = show(cli, &reply);
	ctl_scrub_reply_release(&reply);
	return r;
}

int cli_scrub_status(struct cli *cli)
{
	struct ctl_scrub_reply reply;
	int r = ask(cli, &(struct ctl_scrub){ 0 }, &reply);

	if (r != CLI_OK)
		return r;
	r = show(cli, &reply);
	ctl_scrub_reply_release(&reply);
	return r;
}

int cli_scrub_stop(struct cli *cli)
{
	struct ctl_scrub_reply reply;
	int r = ask(cli, &(struct ctl_scrub){ .stop = true }, &reply);

	if (r != CLI_OK)
		return r;
	ctl_scrub_reply_release(&reply);
	return CLI_OK;
}
