/*
 * bazil df: the disk, and what the volumes of this node hold.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/inside.h"
#include "cli/print.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"

struct line {
	const char *volume, *path; /* path "": not mounted */
	uint64_t disk_bytes, disk_available, store_bytes, logical;
	bool has_logical;
};

static const char *size(const struct cli *cli, uint64_t bytes)
{
	static char ring[4][24];
	static unsigned next;
	char *ret = ring[next++ % 4];

	if (cli->human)
		return cli_size(bytes);
	snprintf(ret, sizeof(ring[0]), "%llu", (unsigned long long)bytes);
	return ret;
}

static void show(const struct cli *cli, json_t *list, const struct line *line)
{
	json_t *item;

	if (!cli->json) {
		printf("%-20s %16s %16s %16s %16s  %s\n", line->volume,
			line->has_logical ? size(cli, line->logical) : "-",
			size(cli, line->store_bytes), size(cli, line->disk_bytes),
			size(cli, line->disk_available), *line->path ? line->path : "-");
		return;
	}
	item = json_pack("{s:s,s:o,s:I,s:I,s:I}", "volume", line->volume, "path",
		cli_json_text(line->path), "disk_bytes", (json_int_t)line->disk_bytes,
		"disk_available", (json_int_t)line->disk_available, "store_bytes",
		(json_int_t)line->store_bytes);
	if (line->has_logical)
		json_object_set_new(item, "logical_bytes", json_integer((json_int_t)line->logical));
	json_array_append_new(list, item);
}

static void look(struct line *line)
{
	char *text;

	line->has_logical = *line->path && inside_text(line->path, "rbytes", &text) == 0;
	if (!line->has_logical)
		return;
	line->logical = strtoull(text, NULL, 10);
	free(text);
}

static int show_all(struct cli *cli, const struct ctl_status_reply *status,
	const struct ctl_volume_list_reply *volumes)
{
	struct statvfs disk = { 0 };
	json_t *list;

	if (statvfs(cli->data_dir, &disk) < 0)
		return cli_error("df: %s: %m", cli->data_dir);
	list = json_array();
	if (!cli->json)
		printf("%-20s %16s %16s %16s %16s  %s\n", "volume", "files", "all of the store",
			"disk", "available", "mounted on");
	for (size_t i = 0; i < volumes->num_volumes; i++) {
		struct ctl_volume_status_reply reply;
		struct line line = { .volume = volumes->volumes[i].name,
			.path = "",
			.disk_bytes = (uint64_t)disk.f_blocks * disk.f_frsize,
			.disk_available = (uint64_t)disk.f_bavail * disk.f_frsize };
		int r = ctl_volume_status_wait(cli->chan,
			&(struct ctl_volume_status){ .name = line.volume }, CLI_TIMEOUT_MS, &reply);

		if (r < 0) {
			json_decref(list);
			return cli_request_error("df", r, ipc_chan_error(cli->chan));
		}
		line.store_bytes = reply.object_bytes;
		ctl_volume_status_reply_release(&reply);
		for (size_t j = 0; j < status->num_mounts; j++)
			if (strcmp(status->mounts[j].volume, line.volume) == 0 && !*line.path)
				line.path = status->mounts[j].path;
		look(&line);
		show(cli, list, &line);
	}
	if (cli->json)
		return cli_print_json(list);
	json_decref(list);
	return cli_flush();
}

int cli_df(struct cli *cli)
{
	struct ctl_status_reply status;
	struct ctl_volume_list_reply volumes;
	int r = cli_connect(cli, CTL_STATUS);

	if (r != CLI_OK)
		return r;
	r = ctl_status_wait(cli->chan, &(struct ctl_status){ 0 }, CLI_TIMEOUT_MS, &status);
	if (r < 0)
		return cli_request_error("df", r, ipc_chan_error(cli->chan));
	r = ctl_volume_list_wait(
		cli->chan, &(struct ctl_volume_list){ 0 }, CLI_TIMEOUT_MS, &volumes);
	if (r < 0) {
		ctl_status_reply_release(&status);
		return cli_request_error("df", r, ipc_chan_error(cli->chan));
	}
	r = show_all(cli, &status, &volumes);
	ctl_volume_list_reply_release(&volumes);
	ctl_status_reply_release(&status);
	return r;
}
