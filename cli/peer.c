/*
 * bazil peer ...
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/print.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"

/* A node that is its own peer would sync with itself for ever. */
static int check_not_self(struct cli *cli)
{
	struct ctl_pubkey_reply reply;
	char hex[65];
	int r = ctl_pubkey_wait(cli->chan, &(struct ctl_pubkey){ 0 }, CLI_TIMEOUT_MS, &reply);

	if (r < 0)
		return cli_request_error("peer add", r, ipc_chan_error(cli->chan));
	cli_hex(hex, reply.identity, sizeof(reply.identity));
	ctl_pubkey_reply_release(&reply);
	if (strcasecmp(hex, cli->argv[0]) != 0)
		return CLI_OK;
	return cli_error(
		"peer add: that is this node's own key: give the other node's, as its `bazil "
		"pubkey` prints it");
}

int cli_peer_add(struct cli *cli)
{
	struct ctl_peer_add req = { .key = cli->argv[0], .nickname = cli->name };
	int r = cli_connect(cli, CTL_PEER_ADD);

	if (r == CLI_OK)
		r = check_not_self(cli);
	if (r != CLI_OK)
		return r;
	r = ctl_peer_add_wait(cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_peer_add_reply){ 0 });
	return r < 0 ? cli_request_error("peer add", r, ipc_chan_error(cli->chan)) : CLI_OK;
}

static json_t *peer_json(const struct ctl_peer *p)
{
	json_t *volumes = json_array();

	for (size_t i = 0; i < p->num_volumes; i++)
		json_array_append_new(volumes, json_string(p->volumes[i].name));
	return json_pack("{s:o,s:s,s:s,s:b,s:o}", "key", cli_json_hex(p->key, sizeof(p->key)),
		"nickname", p->nickname, "address", p->address, "storage_allowed",
		(int)p->storage_allowed, "volumes", volumes);
}

static void peer_text(const struct ctl_peer *p)
{
	char hex[65];

	cli_hex(hex, p->key, sizeof(p->key));
	printf("%s", hex);
	if (*p->nickname)
		printf("  %s", p->nickname);
	printf("\n    location: %s\n", *p->address ? p->address : "not set");
	printf("    may fetch objects: %s\n    may sync:", p->storage_allowed ? "yes" : "no");
	for (size_t i = 0; i < p->num_volumes; i++)
		printf(" %s", p->volumes[i].name);
	printf("%s\n", p->num_volumes ? "" : " nothing");
}

int cli_peer_list(struct cli *cli)
{
	struct ctl_peer_list_reply reply;
	json_t *peers;
	int r = cli_connect(cli, CTL_PEER_LIST);

	if (r != CLI_OK)
		return r;
	r = ctl_peer_list_wait(cli->chan, &(struct ctl_peer_list){ 0 }, CLI_TIMEOUT_MS, &reply);
	if (r < 0)
		return cli_request_error("peer list", r, ipc_chan_error(cli->chan));
	peers = json_array();
	for (size_t i = 0; i < reply.num_peers; i++) {
		if (cli->json)
			json_array_append_new(peers, peer_json(&reply.peers[i]));
		else
			peer_text(&reply.peers[i]);
	}
	ctl_peer_list_reply_release(&reply);
	if (cli->json)
		return cli_print_json(peers);
	json_decref(peers);
	return cli_flush();
}

int cli_peer_remove(struct cli *cli)
{
	struct ctl_peer_remove req = { .peer = cli->argv[0] };
	int r = cli_connect(cli, CTL_PEER_REMOVE);

	if (r != CLI_OK)
		return r;
	r = ctl_peer_remove_wait(
		cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_peer_remove_reply){ 0 });
	return r < 0 ? cli_request_error("peer remove", r, ipc_chan_error(cli->chan)) : CLI_OK;
}

int cli_peer_rename(struct cli *cli)
{
	struct ctl_peer_nickname req = { .peer = cli->argv[0], .nickname = cli->argv[1] };
	int r = cli_connect(cli, CTL_PEER_NICKNAME);

	if (r != CLI_OK)
		return r;
	r = ctl_peer_nickname_wait(
		cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_peer_nickname_reply){ 0 });
	return r < 0 ? cli_request_error("peer rename", r, ipc_chan_error(cli->chan)) : CLI_OK;
}

static int set_location(struct cli *cli, const char *what, const char *address)
{
	struct ctl_peer_location req = { .peer = cli->argv[0], .address = address };
	int r = cli_connect(cli, CTL_PEER_LOCATION);

	if (r != CLI_OK)
		return r;
	r = ctl_peer_location_wait(
		cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_peer_location_reply){ 0 });
	return r < 0 ? cli_request_error(what, r, ipc_chan_error(cli->chan)) : CLI_OK;
}

int cli_peer_location_set(struct cli *cli)
{
	if (!*cli->argv[1]) {
		cli_error("peer location set: the address is empty: give HOST:PORT");
		return CLI_USAGE;
	}
	return set_location(cli, "peer location set", cli->argv[1]);
}

int cli_peer_location_clear(struct cli *cli)
{
	return set_location(cli, "peer location remove", "");
}

static int set_storage(struct cli *cli, const char *what, bool allow)
{
	struct ctl_peer_storage req = {
		.peer = cli->argv[0], .storage = cli->argv[1], .allow = allow
	};
	int r = cli_connect(cli, CTL_PEER_STORAGE);

	if (r != CLI_OK)
		return r;
	r = ctl_peer_storage_wait(
		cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_peer_storage_reply){ 0 });
	return r < 0 ? cli_request_error(what, r, ipc_chan_error(cli->chan)) : CLI_OK;
}

int cli_peer_storage_allow(struct cli *cli)
{
	return set_storage(cli, "peer storage allow", true);
}

int cli_peer_storage_deny(struct cli *cli)
{
	return set_storage(cli, "peer storage deny", false);
}

static int set_volume(struct cli *cli, const char *what, bool allow)
{
	struct ctl_peer_volume req = {
		.peer = cli->argv[0], .volume = cli->argv[1], .allow = allow
	};
	int r = cli_connect(cli, CTL_PEER_VOLUME);

	if (r != CLI_OK)
		return r;
	r = ctl_peer_volume_wait(
		cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_peer_volume_reply){ 0 });
	return r < 0 ? cli_request_error(what, r, ipc_chan_error(cli->chan)) : CLI_OK;
}

int cli_peer_volume_allow(struct cli *cli)
{
	return set_volume(cli, "peer volume allow", true);
}

int cli_peer_volume_deny(struct cli *cli)
{
	return set_volume(cli, "peer volume deny", false);
}
