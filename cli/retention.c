/*
 * bazil volume retention: how long old versions are kept.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/print.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"

/* "7d", "36h", "90m", "2w", "3600s" or seconds. False: none of them. */
static bool parse_span(const char *text, uint64_t *ret)
{
	static const char units[] = "smhdw";
	static const uint64_t seconds[] = { 1, 60, 3600, 86400, 604800 };
	const char *unit;
	char *end;
	uint64_t n;

	if (*text < '0' || *text > '9')
		return false;
	n = strtoull(text, &end, 10);
	if (n > UINT64_MAX / 604800)
		return false;
	*ret = n;
	if (!*end)
		return true;
	unit = strchr(units, *end);
	if (!unit || end[1])
		return false;
	*ret = n * seconds[unit - units];
	return true;
}

static bool parse_number(const char *text, uint32_t *ret)
{
	char *end;
	unsigned long n;

	if (*text < '0' || *text > '9')
		return false;
	n = strtoul(text, &end, 10);
	*ret = (uint32_t)n;
	return !*end && n <= 100000;
}

/* Into the policy where given. CLI_OK or CLI_USAGE; *ret_any: one was. */
static int take(const struct cli *cli, struct ctl_retention *policy, bool *ret_any)
{
	const struct {
		const char *name, *value;
		uint32_t *field;
	} numbers[] = {
		{ "hourly", cli->hourly, &policy->hourly },
		{ "daily", cli->daily, &policy->daily },
		{ "weekly", cli->weekly, &policy->weekly },
		{ "monthly", cli->monthly, &policy->monthly },
	};

	*ret_any = cli->keep_all != NULL;
	if (cli->keep_all && !parse_span(cli->keep_all, &policy->keep_all_s)) {
		cli_error("volume retention: -keep-all=%s: give a time such as 7d, 36h or 90m",
			cli->keep_all);
		return CLI_USAGE;
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (!numbers[i].value)
			continue;
		*ret_any = true;
		if (!parse_number(numbers[i].value, numbers[i].field)) {
			cli_error("volume retention: -%s=%s: give a number up to 100000",
				numbers[i].name, numbers[i].value);
			return CLI_USAGE;
		}
	}
	return CLI_OK;
}

static const char *span(uint64_t seconds, char ret[32])
{
	if (seconds > 0 && seconds % 86400 == 0)
		snprintf(ret, 32, "%" PRIu64 "d", seconds / 86400);
	else if (seconds > 0 && seconds % 3600 == 0)
		snprintf(ret, 32, "%" PRIu64 "h", seconds / 3600);
	else
		snprintf(ret, 32, "%" PRIu64 "s", seconds);
	return ret;
}

static int show(const struct cli *cli, const struct ctl_volume_retention_reply *reply)
{
	const struct ctl_retention *p = &reply->policy;
	char text[32];

	if (cli->json)
		return cli_print_json(json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:s}", "keep_all_s",
			(json_int_t)p->keep_all_s, "hourly", (json_int_t)p->hourly, "daily",
			(json_int_t)p->daily, "weekly", (json_int_t)p->weekly, "monthly",
			(json_int_t)p->monthly, "versions", (json_int_t)reply->history, "oldest",
			cli_time(reply->oldest)));
	printf("all versions of the last %s, then %" PRIu32 " hourly, %" PRIu32 " daily, %" PRIu32
	       " weekly, %" PRIu32 " monthly\n",
		span(p->keep_all_s, text), p->hourly, p->daily, p->weekly, p->monthly);
	printf("old versions kept: %" PRIu64 ", every instant since %s\n", reply->history,
		cli_time(reply->oldest));
	return cli_flush();
}

int cli_volume_retention(struct cli *cli)
{
	struct ctl_volume_retention req = { .volume = cli->argv[0] };
	struct ctl_volume_retention_reply reply;
	struct ctl_retention unused;
	bool any;
	int r = take(cli, &unused, &any);

	if (r == CLI_OK)
		r = cli_connect(cli, CTL_VOLUME_RETENTION);
	if (r != CLI_OK)
		return r;
	/* What is not given stays as it is. */
	r = ctl_volume_retention_wait(cli->chan, &req, CLI_TIMEOUT_MS, &reply);
	if (r == 0 && any) {
		req.set = true;
		req.policy = reply.policy;
		ctl_volume_retention_reply_release(&reply);
		take(cli, &req.policy, &any);
		r = ctl_volume_retention_wait(cli->chan, &req, CLI_TIMEOUT_MS, &reply);
	}
	if (r < 0)
		return cli_request_error("volume retention", r, ipc_chan_error(cli->chan));
	r = any && !cli->json ? CLI_OK : show(cli, &reply);
	ctl_volume_retention_reply_release(&reply);
	return r;
}
