/*
 * bazil volume ...
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/past.h"
#include "cli/print.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"

/* flags of ctl_volume_mount, as in ipc/control.msg */
#define MOUNT_READ_ONLY	  1
#define MOUNT_ALLOW_OTHER 2
#define MOUNT_AUTO	  4

int cli_volume_create(struct cli *cli)
{
	struct ctl_volume_create req = {
		.name = cli->argv[0],
		.sharing = cli->sharing ? cli->sharing : "default",
	};
	int r = cli_find_sharing(cli, req.keyid);

	if (r != CLI_OK)
		return r;
	r = ctl_volume_create_wait(
		cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_volume_create_reply){ 0 });
	return r < 0 ? cli_request_error("volume create", r, ipc_chan_error(cli->chan)) : CLI_OK;
}

static json_t *volume_json(const struct ctl_volume *v)
{
	return json_pack("{s:s,s:o,s:s,s:o,s:I}", "name", v->name, "id",
		cli_json_hex(v->id, sizeof(v->id)), "sharing", v->sharing, "keyid",
		cli_json_hex(v->keyid, sizeof(v->keyid)), "replica", (json_int_t)v->replica);
}

int cli_volume_list(struct cli *cli)
{
	struct ctl_volume_list_reply reply;
	json_t *volumes;
	int r = cli_connect(cli, CTL_VOLUME_LIST);

	if (r != CLI_OK)
		return r;
	r = ctl_volume_list_wait(cli->chan, &(struct ctl_volume_list){ 0 }, CLI_TIMEOUT_MS, &reply);
	if (r < 0)
		return cli_request_error("volume list", r, ipc_chan_error(cli->chan));
	volumes = json_array();
	for (size_t i = 0; i < reply.num_volumes; i++) {
		const struct ctl_volume *v = &reply.volumes[i];

		if (cli->json)
			json_array_append_new(volumes, volume_json(v));
		else
			printf("%-24s sharing %s\n", v->name, v->sharing);
	}
	ctl_volume_list_reply_release(&reply);
	if (cli->json)
		return cli_print_json(volumes);
	json_decref(volumes);
	return cli_flush();
}

/* A typed "yes" on a terminal, or -force. */
static int confirm(struct cli *cli, const char *name)
{
	char answer[16];

	if (cli->force)
		return CLI_OK;
	if (!isatty(STDIN_FILENO))
		return cli_error("volume remove: %s: this forgets all its files on this node: give "
				 "-force to confirm",
			name);
	fprintf(stderr, "Forget volume %s and all its files on this node? Type yes: ", name);
	if (fgets(answer, sizeof(answer), stdin) && strcmp(answer, "yes\n") == 0)
		return CLI_OK;
	return cli_error("volume remove: %s: not confirmed: nothing was changed", name);
}

int cli_volume_remove(struct cli *cli)
{
	struct ctl_volume_remove req = { .name = cli->argv[0] };
	int r = cli_connect(cli, CTL_VOLUME_REMOVE);

	if (r == CLI_OK)
		r = confirm(cli, req.name);
	if (r != CLI_OK)
		return r;
	r = ctl_volume_remove_wait(
		cli->chan, &req, CLI_LONG_TIMEOUT_MS, &(struct ctl_volume_remove_reply){ 0 });
	return r < 0 ? cli_request_error("volume remove", r, ipc_chan_error(cli->chan)) : CLI_OK;
}

static int status_json(const struct ctl_volume_status_reply *s)
{
	json_t *storages = json_array();

	for (size_t i = 0; i < s->num_storages; i++)
		json_array_append_new(
			storages, json_pack("{s:s,s:s}", "storage", s->storages[i].storage,
					  "sharing", s->storages[i].sharing));
	return cli_print_json(json_pack("{s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:b,s:o}", "volume",
		volume_json(&s->volume), "links", (json_int_t)s->links, "inodes",
		(json_int_t)s->inodes, "logical", (json_int_t)s->logical, "conflicts",
		(json_int_t)s->conflicts, "store_objects", (json_int_t)s->objects,
		"store_object_bytes", (json_int_t)s->object_bytes, "history",
		(json_int_t)s->history, "oldest", cli_time(s->oldest), "lost_changes", s->lost > 0,
		"storages", storages));
}

static int status_text(const struct ctl_volume_status_reply *s)
{
	char id[33], keyid[17];

	cli_hex(id, s->volume.id, sizeof(s->volume.id));
	cli_hex(keyid, s->volume.keyid, sizeof(s->volume.keyid));
	printf("%s: id %s, replica %08" PRIx32 "\n", s->volume.name, id, s->volume.replica);
	printf("sharing key: %s, fingerprint %s\n", s->volume.sharing, keyid);
	printf("names: %" PRIu64 ", inodes: %" PRIu64 ", conflicts: %" PRIu64 "\n", s->links,
		s->inodes, s->conflicts);
	printf("old versions: %" PRIu64 ", every instant since %s\n", s->history,
		cli_time(s->oldest));
	printf("objects in the store: %" PRIu64 ", %s\n", s->objects, cli_size(s->object_bytes));
	printf("storages:");
	for (size_t i = 0; i < s->num_storages; i++)
		printf(" %s", s->storages[i].storage);
	printf("\n");
	if (s->lost > 0)
		printf("DAMAGED: changes of this node were lost before %s. Files may be missing or "
		       "old here, and no peer takes\nanything from this node, as it would take "
		       "what is missing for deleted. Copy what is new here to another\nplace; "
		       "then `bazil volume remove %s` and `bazil volume connect` it again, from a "
		       "peer that has it.\n",
			cli_time(s->lost), s->volume.name);
	return cli_flush();
}

static int get_status(
	struct cli *cli, const char *what, const char *name, struct ctl_volume_status_reply *ret)
{
	struct ctl_volume_status req = { .name = name };
	int r = cli_connect(cli, CTL_VOLUME_STATUS);

	if (r != CLI_OK)
		return r;
	r = ctl_volume_status_wait(cli->chan, &req, CLI_TIMEOUT_MS, ret);
	return r < 0 ? cli_request_error(what, r, ipc_chan_error(cli->chan)) : CLI_OK;
}

int cli_volume_status(struct cli *cli)
{
	struct ctl_volume_status_reply reply;
	int r = get_status(cli, "volume status", cli->argv[0], &reply);

	if (r != CLI_OK)
		return r;
	r = cli->json ? status_json(&reply) : status_text(&reply);
	ctl_volume_status_reply_release(&reply);
	return r;
}

int cli_volume_mount(struct cli *cli)
{
	struct ctl_volume_mount req = { .volume = cli->argv[0] };
	char path[PATH_MAX];
	int r;

	if (!realpath(cli->argv[1], path))
		return cli_error("volume mount: %s: %s: %s", cli->argv[1], strerror(errno),
			errno == ENOENT ? "make it with mkdir first" : "give an empty directory");
	r = past_mount_time(cli, "volume mount", cli->argv[0], &req.at);
	if (r != CLI_OK)
		return r;
	if (cli->automatic && req.at != 0) {
		cli_error("volume mount: -auto: what was cannot be mounted at every start: leave "
			  "out -at and -snapshot");
		return CLI_USAGE;
	}
	req.path = path;
	req.flags = (cli->read_only ? MOUNT_READ_ONLY : 0) |
		    (cli->allow_other ? MOUNT_ALLOW_OTHER : 0) | (cli->automatic ? MOUNT_AUTO : 0);
	r = cli_connect(cli, CTL_VOLUME_MOUNT);
	if (r != CLI_OK)
		return r;
	r = ctl_volume_mount_wait(
		cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_volume_mount_reply){ 0 });
	return r < 0 ? cli_request_error("volume mount", r, ipc_chan_error(cli->chan)) : CLI_OK;
}

int cli_volume_unmount(struct cli *cli)
{
	struct ctl_volume_unmount req = { .target = cli->argv[0], .force = cli->force };
	char path[PATH_MAX];
	int r;

	/* A word with a slash is a path; the last component is not looked at: its mount may be
	 * dead. */
	if (strchr(req.target, '/') && realpath(req.target, path))
		req.target = path;
	r = cli_connect(cli, CTL_VOLUME_UNMOUNT);
	if (r != CLI_OK)
		return r;
	r = ctl_volume_unmount_wait(
		cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_volume_unmount_reply){ 0 });
	if (r == -ENOENT && req.target != path && realpath(req.target, path)) {
		req.target = path;
		r = ctl_volume_unmount_wait(
			cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_volume_unmount_reply){ 0 });
	}
	return r < 0 ? cli_request_error("volume unmount", r, ipc_chan_error(cli->chan)) : CLI_OK;
}

int cli_volume_connect(struct cli *cli)
{
	struct ctl_volume_connect ask = { .peer = cli->argv[0], .name = cli->argv[1] };
	struct ctl_volume_add add = {
		.name = cli->argv[1],
		.sharing = cli->sharing ? cli->sharing : "default",
	};
	struct ctl_volume_connect_reply there;
	int r = cli_find_sharing(cli, add.keyid);

	if (r != CLI_OK)
		return r;
	r = ctl_volume_connect_wait(cli->chan, &ask, CLI_TIMEOUT_MS, &there);
	if (r < 0)
		return cli_request_error("volume connect", r, ipc_chan_error(cli->chan));
	memcpy(add.id, there.id, sizeof(add.id));
	r = memcmp(add.keyid, there.keyid, sizeof(add.keyid));
	ctl_volume_connect_reply_release(&there);
	if (r != 0)
		return cli_error(
			"volume connect: %s: the sharing key %s here is another than the peer's "
			"volume uses: add the right one with `bazil sharing add NAME <SECRET` "
			"and name it with -sharing=NAME",
			add.name, add.sharing);
	r = ctl_volume_add_wait(
		cli->chan, &add, CLI_TIMEOUT_MS, &(struct ctl_volume_add_reply){ 0 });
	return r < 0 ? cli_request_error("volume connect", r, ipc_chan_error(cli->chan)) : CLI_OK;
}

static void sync_progress(
	void *arg, uint64_t serial, uint64_t done, uint64_t total, const char *text)
{
	cli_progress(arg, done, total, text);
}

int cli_volume_sync(struct cli *cli)
{
	struct ctl_volume_sync req = { .volume = cli->argv[0], .peer = cli->argv[1] };
	struct ctl_volume_sync_reply reply;
	int r = cli_connect(cli, CTL_VOLUME_SYNC);

	if (r != CLI_OK)
		return r;
	ipc_chan_on_progress(cli->chan, sync_progress, cli->argv[0]);
	r = ctl_volume_sync_wait(cli->chan, &req, CLI_LONG_TIMEOUT_MS, &reply);
	cli_progress_end();
	if (r < 0)
		return cli_request_error("volume sync", r, ipc_chan_error(cli->chan));
	r = CLI_OK;
	if (cli->json)
		r = cli_print_json(json_pack("{s:I,s:I,s:I}", "records",
			(json_int_t)reply.num_records, "changed", (json_int_t)reply.num_changed,
			"conflicts", (json_int_t)reply.num_conflicts));
	else if (reply.num_conflicts)
		fprintf(stderr,
			"bazil: volume sync: %" PRIu64 " conflicts: both versions are kept, one "
			"under a name with .conflict-\n",
			reply.num_conflicts);
	ctl_volume_sync_reply_release(&reply);
	return r;
}

int cli_volume_storage_add(struct cli *cli)
{
	struct ctl_volume_storage_add req = {
		.volume = cli->argv[0],
		.storage = cli->argv[1],
		.sharing = cli->sharing ? cli->sharing : "default",
	};
	uint8_t keyid[8];
	int r = cli_find_sharing(cli, keyid);

	if (r != CLI_OK)
		return r;
	r = ctl_volume_storage_add_wait(
		cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_volume_storage_add_reply){ 0 });
	return r < 0 ? cli_request_error("volume storage add", r, ipc_chan_error(cli->chan))
		     : CLI_OK;
}

int cli_volume_storage_list(struct cli *cli)
{
	struct ctl_volume_status_reply reply;
	json_t *storages;
	int r = get_status(cli, "volume storage list", cli->argv[0], &reply);

	if (r != CLI_OK)
		return r;
	storages = json_array();
	for (size_t i = 0; i < reply.num_storages; i++) {
		const struct ctl_storage *s = &reply.storages[i];

		json_array_append_new(storages,
			json_pack("{s:s,s:s}", "storage", s->storage, "sharing", s->sharing));
		if (!cli->json)
			printf("%s  sharing %s\n", s->storage, s->sharing);
	}
	ctl_volume_status_reply_release(&reply);
	if (cli->json)
		return cli_print_json(storages);
	json_decref(storages);
	return cli_flush();
}

int cli_volume_storage_remove(struct cli *cli)
{
	struct ctl_volume_storage_remove req = { .volume = cli->argv[0], .storage = cli->argv[1] };
	int r = cli_connect(cli, CTL_VOLUME_STORAGE_REMOVE);

	if (r != CLI_OK)
		return r;
	r = ctl_volume_storage_remove_wait(
		cli->chan, &req, CLI_TIMEOUT_MS, &(struct ctl_volume_storage_remove_reply){ 0 });
	return r < 0 ? cli_request_error("volume storage remove", r, ipc_chan_error(cli->chan))
		     : CLI_OK;
}
