/*
 * bazil sharing ...: the secret goes as a descriptor from standard input to keyd; this process
 * never reads it (R1).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/print.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"

int cli_sharing_add(struct cli *cli)
{
	struct ctl_sharing_add req = { .name = cli->argv[0], .secret = STDIN_FILENO };
	struct ctl_sharing_add_reply reply;
	int r;

	if (isatty(STDIN_FILENO) || fcntl(STDIN_FILENO, F_GETFD) < 0) {
		cli_error("sharing add: the secret is read from standard input, 32 bytes: "
			  "`bazil sharing add %s <FILE`",
			cli->argv[0]);
		return CLI_USAGE;
	}
	r = cli_connect(cli, CTL_SHARING_ADD);
	if (r != CLI_OK)
		return r;
	r = ctl_sharing_add_wait(cli->chan, &req, CLI_TIMEOUT_MS, &reply);
	if (r < 0)
		return cli_request_error("sharing add", r, ipc_chan_error(cli->chan));
	ctl_sharing_add_reply_release(&reply);
	return CLI_OK;
}

int cli_sharing_list(struct cli *cli)
{
	struct ctl_sharing_list_reply reply;
	json_t *keys;
	int r = cli_connect(cli, CTL_SHARING_LIST);

	if (r != CLI_OK)
		return r;
	r = ctl_sharing_list_wait(
		cli->chan, &(struct ctl_sharing_list){ 0 }, CLI_TIMEOUT_MS, &reply);
	if (r < 0)
		return cli_request_error("sharing list", r, ipc_chan_error(cli->chan));
	keys = json_array();
	for (size_t i = 0; i < reply.num_keys; i++) {
		char hex[17];

		cli_hex(hex, reply.keys[i].keyid, sizeof(reply.keys[i].keyid));
		json_array_append_new(
			keys, json_pack("{s:s,s:s}", "name", reply.keys[i].name, "keyid", hex));
		if (!cli->json)
			printf("%-24s %s\n", reply.keys[i].name, hex);
	}
	ctl_sharing_list_reply_release(&reply);
	if (cli->json)
		return cli_print_json(keys);
	json_decref(keys);
	return cli_flush();
}

int cli_find_sharing(struct cli *cli, uint8_t ret_keyid[8])
{
	const char *name = cli->sharing ? cli->sharing : "default";
	struct ctl_sharing_list_reply reply;
	bool found = false;
	int r = cli_connect(cli, CTL_SHARING_LIST);

	if (r != CLI_OK)
		return r;
	r = ctl_sharing_list_wait(
		cli->chan, &(struct ctl_sharing_list){ 0 }, CLI_TIMEOUT_MS, &reply);
	if (r < 0)
		return cli_request_error("sharing", r, ipc_chan_error(cli->chan));
	for (size_t i = 0; i < reply.num_keys && !found; i++) {
		found = strcmp(reply.keys[i].name, name) == 0;
		if (found)
			memcpy(ret_keyid, reply.keys[i].keyid, 8);
	}
	ctl_sharing_list_reply_release(&reply);
	if (found)
		return CLI_OK;
	return cli_error(
		"sharing: %s: no such sharing key here: see `bazil sharing list`, or add it "
		"with `bazil sharing add %s <SECRET`",
		name, name);
}

/* A volume whose key is gone can be read by nobody: ask for -force. Returns CLI_OK when none uses
 * it. */
static int check_unused(struct cli *cli, const char *name)
{
	struct ctl_volume_list_reply reply;
	int r = ctl_volume_list_wait(
		cli->chan, &(struct ctl_volume_list){ 0 }, CLI_TIMEOUT_MS, &reply);

	if (r < 0)
		return cli_request_error("sharing remove", r, ipc_chan_error(cli->chan));
	r = CLI_OK;
	for (size_t i = 0; i < reply.num_volumes && r == CLI_OK; i++)
		if (strcmp(reply.volumes[i].sharing, name) == 0)
			r = cli_error("sharing remove: %s: volume %s uses it and could not be read "
				      "any more: remove the volume first, or give -force",
				name, reply.volumes[i].name);
	ctl_volume_list_reply_release(&reply);
	return r;
}

int cli_sharing_remove(struct cli *cli)
{
	struct ctl_sharing_remove req = { .name = cli->argv[0] };
	int r = cli_connect(cli, CTL_SHARING_REMOVE);

	if (r == CLI_OK && !cli->force)
		r = check_unused(cli, req.name);
	if (r != CLI_OK)
		return r;
	r = ctl_sharing_remove_wait(
		cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_sharing_remove_reply){ 0 });
	return r < 0 ? cli_request_error("sharing remove", r, ipc_chan_error(cli->chan)) : CLI_OK;
}
