/*
 * bazil create, version, server ...
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/print.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"

/* Smaller ones would be too many open files, larger ones the format does not have. */
#define ARENA_MIN (UINT64_C(4) << 20)
#define ARENA_MAX (UINT64_C(2) << 30)

/* Becomes the supervisor, which says itself what goes wrong. */
static int exec_supervisor(struct cli *cli, const char *mode, const char *option)
{
	const char *program = cli_program("bazil-supervisor");
	char dir[4096 + 32];

	snprintf(dir, sizeof(dir), "--data-dir=%s", cli->data_dir);
	execl(program, program, dir, mode, option, (char *)NULL);
	return cli_error("%s: %s: is bazil installed completely?", program, strerror(errno));
}

/* "256M": bytes, or with K, M or G as powers of 1024. */
static int parse_size(const char *text, uint64_t *ret)
{
	static const char units[] = "KMG";
	const char *unit;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (errno || *ret > UINT64_MAX >> 30)
		return -EINVAL;
	unit = *end ? strchr(units, *end) : NULL;
	if (unit) {
		*ret <<= 10 * (unit - units + 1);
		end++;
	}
	return *end ? -EINVAL : 0;
}

int cli_create(struct cli *cli)
{
	char option[64];
	uint64_t size;

	if (!cli->arena_size)
		return exec_supervisor(cli, "--create", NULL);
	if (parse_size(cli->arena_size, &size) < 0 || size < ARENA_MIN || size > ARENA_MAX) {
		cli_error("create: -arena-size=%s: give a size from 4M to 2G", cli->arena_size);
		return CLI_USAGE;
	}
	snprintf(option, sizeof(option), "--arena-size=%" PRIu64, size);
	return exec_supervisor(cli, "--create", option);
}

int cli_server_run(struct cli *cli)
{
	char *end, option[32];

	if (cli->port) {
		unsigned long port = strtoul(cli->port, &end, 10);

		if (*end || port < 1 || port > 65535) {
			cli_error("server run: -port=%s: not a port: 1 to 65535", cli->port);
			return CLI_USAGE;
		}
		snprintf(option, sizeof(option), "--port=%lu", port);
	}
	return exec_supervisor(cli, "--run", cli->port ? option : NULL);
}

int cli_version(struct cli *cli)
{
	if (cli->json)
		return cli_print_json(json_pack("{s:s}", "version", BAZIL_VERSION));
	printf("bazil %s\n", BAZIL_VERSION);
	return cli_flush();
}

int cli_pubkey(struct cli *cli)
{
	struct ctl_pubkey_reply reply;
	char hex[65];
	int r = cli_connect(cli, CTL_PUBKEY);

	if (r != CLI_OK)
		return r;
	r = ctl_pubkey_wait(cli->chan, &(struct ctl_pubkey){ 0 }, CLI_TIMEOUT_MS, &reply);
	if (r < 0)
		return cli_request_error("pubkey", r, ipc_chan_error(cli->chan));
	cli_hex(hex, reply.identity, sizeof(reply.identity));
	ctl_pubkey_reply_release(&reply);
	if (cli->json)
		return cli_print_json(json_pack("{s:s}", "pubkey", hex));
	printf("%s\n", hex);
	return cli_flush();
}

int cli_server_ping(struct cli *cli)
{
	struct ctl_ping_reply reply;
	int r = cli_connect(cli, CTL_PING);

	if (r != CLI_OK)
		return r;
	r = ctl_ping_wait(cli->chan, &(struct ctl_ping){ 0 }, CLI_TIMEOUT_MS, &reply);
	if (r < 0)
		return cli_request_error("server ping", r, ipc_chan_error(cli->chan));
	r = CLI_OK;
	if (cli->json)
		r = cli_print_json(
			json_pack("{s:s,s:i}", "version", reply.version, "pid", (int)reply.pid));
	ctl_ping_reply_release(&reply);
	return r;
}

int cli_server_stop(struct cli *cli)
{
	int r = cli_connect(cli, CTL_STOP);

	if (r != CLI_OK)
		return r;
	r = ctl_stop_wait(
		cli->chan, &(struct ctl_stop){ 0 }, CLI_TIMEOUT_MS, &(struct ctl_stop_reply){ 0 });
	if (r < 0)
		return cli_request_error("server stop", r, ipc_chan_error(cli->chan));
	/* The lock is free only when the supervisor is gone: wait for its end of the socket to
	 * close. */
	for (int i = 0; i < 200 && ipc_chan_pump(cli->chan, 50) >= 0; i++)
		;
	return CLI_OK;
}

/* The server may be of another build, which understands nothing of ours: it is told by a signal. */
static int signal_server(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct ucred cred;
	socklen_t len = sizeof(cred);

	/* Its hello: now it has accepted us, and closes this when it becomes another program. */
	if (poll(&p, 1, CLI_TIMEOUT_MS) <= 0)
		return -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || kill(cred.pid, SIGUSR2) < 0)
		return -errno;
	return 0;
}

static int await_end(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };

	return poll(&p, 1, 2 * CLI_TIMEOUT_MS) > 0 ? 0 : -ETIMEDOUT;
}

static bool is_up(const struct ctl_status_reply *s)
{
	for (size_t i = 0; i < s->num_workers; i++)
		if (strcmp(s->workers[i].state, "running") != 0)
			return false;
	return true;
}

static int await_workers(struct cli *cli)
{
	struct ctl_status_reply reply;
	bool up = false;

	for (int i = 0; i < 600 && !up; i++) {
		int r = cli_connect(cli, CTL_STATUS);

		if (r != CLI_OK)
			return r;
		r = ctl_status_wait(cli->chan, &(struct ctl_status){ 0 }, CLI_TIMEOUT_MS, &reply);
		if (r < 0)
			return cli_request_error("server upgrade", r, ipc_chan_error(cli->chan));
		up = is_up(&reply);
		ctl_status_reply_release(&reply);
		if (!up)
			usleep(100000);
	}
	return up ? CLI_OK
		  : cli_error("server upgrade: not every process runs yet: see `bazil server "
			      "status` and the server's log");
}

int cli_server_upgrade(struct cli *cli)
{
	int fd = cli_connect_raw(cli->data_dir);
	int r;

	if (fd < 0)
		return cli_explain_connect(cli->data_dir, fd);
	r = signal_server(fd);
	if (r == 0)
		r = await_end(fd);
	close(fd);
	if (r == -ETIMEDOUT)
		return cli_error("server upgrade: the server goes on as it was: see its log");
	if (r < 0)
		return cli_error("server upgrade: %s", strerror(-r));
	return await_workers(cli);
}

static json_t *worker_json(const struct ctl_worker *w)
{
	return json_pack("{s:s,s:s,s:i,s:s,s:i,s:I,s:i,s:i,s:s,s:s}", "role", w->role, "label",
		w->label, "pid", (int)w->pid, "state", w->state, "restarts", (int)w->restarts,
		"uptime_s", (json_int_t)w->uptime_s, "layers", (int)w->layers, "landlock_abi",
		(int)w->landlock_abi, "missing", w->missing, "last_death", w->last_death);
}

static int status_json(const struct ctl_status_reply *s)
{
	json_t *workers = json_array(), *mounts = json_array(), *counters = json_array();

	for (size_t i = 0; i < s->num_workers; i++)
		json_array_append_new(workers, worker_json(&s->workers[i]));
	for (size_t i = 0; i < s->num_mounts; i++)
		json_array_append_new(
			mounts, json_pack("{s:s,s:s,s:i,s:s,s:s,s:I}", "volume",
					s->mounts[i].volume, "path", s->mounts[i].path, "flags",
					(int)s->mounts[i].flags, "state", s->mounts[i].state, "why",
					s->mounts[i].why, "at", (json_int_t)s->mounts[i].at));
	for (size_t i = 0; i < s->num_counters; i++)
		json_array_append_new(counters,
			json_pack("{s:s,s:s,s:I}", "worker", s->counters[i].worker, "name",
				s->counters[i].name, "value", (json_int_t)s->counters[i].value));
	return cli_print_json(json_pack("{s:s,s:i,s:i,s:s,s:o,s:o,s:o}", "version", s->version,
		"pid", (int)s->pid, "port", (int)s->port, "data_dir", s->data_dir, "workers",
		workers, "mounts", mounts, "counters", counters));
}

static int status_text(const struct ctl_status_reply *s)
{
	printf("bazil %s, pid %u, port %u, %s\n\n", s->version, s->pid, s->port, s->data_dir);
	printf("%-10s %-16s %8s %-12s %8s %9s  %s\n", "PROCESS", "VOLUME", "PID", "STATE",
		"RESTARTS", "UPTIME", "LAST DEATH");
	for (size_t i = 0; i < s->num_workers; i++) {
		const struct ctl_worker *w = &s->workers[i];

		printf("%-10s %-16s %8u %-12s %8u %8" PRIu64 "s  %s\n", w->role,
			*w->label ? w->label : "-", w->pid, w->state, w->restarts, w->uptime_s,
			w->last_death);
		if (*w->missing)
			printf("%-10s sandbox: %s\n", "", w->missing);
	}
	printf("\n");
	for (size_t i = 0; i < s->num_mounts; i++) {
		char *path = cli_escape(s->mounts[i].path), *why;

		why = cli_escape(s->mounts[i].why);
		printf("%s on %s, %s%s%s%s%s%s%s\n", s->mounts[i].volume, path, s->mounts[i].state,
			s->mounts[i].flags & 1 ? ", read-only" : "",
			s->mounts[i].flags & 4 ? ", at every start" : "",
			s->mounts[i].at ? ", as of " : "",
			s->mounts[i].at ? cli_time(s->mounts[i].at) : "", *why ? ": " : "", why);
		free(path);
		free(why);
	}
	if (s->num_mounts == 0)
		printf("nothing is mounted\n");
	return cli_flush();
}

int cli_server_status(struct cli *cli)
{
	struct ctl_status_reply reply;
	int r = cli_connect(cli, CTL_STATUS);

	if (r != CLI_OK)
		return r;
	r = ctl_status_wait(cli->chan, &(struct ctl_status){ 0 }, CLI_TIMEOUT_MS, &reply);
	if (r < 0)
		return cli_request_error("server status", r, ipc_chan_error(cli->chan));
	r = cli->json ? status_json(&reply) : status_text(&reply);
	ctl_status_reply_release(&reply);
	return r;
}
