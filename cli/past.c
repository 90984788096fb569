#include "cli/past.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/connect.h"
#include "cli/print.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "tree/instant.h"

#define NS_PER_S UINT64_C(1000000000)

int past_find_mount(struct cli *cli, const char *what, const char *volume, char **ret_path)
{
	struct ctl_status_reply status;
	int r = cli_connect(cli, CTL_STATUS);

	if (r != CLI_OK)
		return r;
	r = ctl_status_wait(cli->chan, &(struct ctl_status){ 0 }, CLI_TIMEOUT_MS, &status);
	if (r < 0)
		return cli_request_error(what, r, ipc_chan_error(cli->chan));
	*ret_path = NULL;
	for (size_t i = 0; i < status.num_mounts && !*ret_path; i++)
		if (strcmp(status.mounts[i].volume, volume) == 0 && status.mounts[i].at == 0)
			*ret_path = strdup(status.mounts[i].path);
	ctl_status_reply_release(&status);
	if (*ret_path)
		return CLI_OK;
	return cli_error("%s: %s: it is not mounted: names can be read in a mount only: `bazil "
			 "volume mount %s DIRECTORY` first",
		what, volume, volume);
}

static int parse_time(const char *what, const char *text, uint64_t *ret)
{
	struct timespec now;
	int64_t ns;

	clock_gettime(CLOCK_REALTIME, &now);
	if (instant_parse(text, now.tv_sec * (int64_t)NS_PER_S + now.tv_nsec, &ns) < 0 || ns <= 0) {
		cli_error("%s: %s: not a time: give 2026-11-21T10:00, -2h, or seconds since 1970",
			what, text);
		return CLI_USAGE;
	}
	*ret = (uint64_t)ns;
	return CLI_OK;
}

int past_check_name(const char *what, const char *name)
{
	if (*name && *name != '@' && !strchr(name, '/') && strcmp(name, ".") != 0 &&
		strcmp(name, "..") != 0 && strlen(name) <= 255)
		return CLI_OK;
	cli_error(
		"%s: %s: not a name for a snapshot: 1 to 255 bytes without a slash, not beginning "
		"with @",
		what, name);
	return CLI_USAGE;
}

static int check_both(const struct cli *cli, const char *what)
{
	if (!cli->at || !cli->snapshot)
		return cli->snapshot ? past_check_name(what, cli->snapshot) : CLI_OK;
	cli_error("%s: give either -at or -snapshot", what);
	return CLI_USAGE;
}

/* The time of a snapshot is the mtime of its directory. */
int past_mount_time(struct cli *cli, const char *what, const char *volume, uint64_t *ret_at)
{
	char path[PATH_MAX], *root;
	struct stat st;
	int r = check_both(cli, what);

	*ret_at = 0;
	if (r != CLI_OK || (!cli->at && !cli->snapshot))
		return r;
	if (cli->at)
		return parse_time(what, cli->at, ret_at);
	r = past_find_mount(cli, what, volume, &root);
	if (r != CLI_OK)
		return r;
	snprintf(path, sizeof(path), "%s/.snap/%s", root, cli->snapshot);
	free(root);
	if (stat(path, &st) < 0)
		return cli_error("%s: %s: %s: `bazil snapshot list %s` shows those that are", what,
			cli->snapshot,
			errno == ENOENT ? "there is no snapshot of this name" : strerror(errno),
			volume);
	*ret_at = (uint64_t)st.st_mtim.tv_sec * NS_PER_S + (uint64_t)st.st_mtim.tv_nsec;
	return CLI_OK;
}

int past_directory_at(const char *root, uint64_t ns, char ret[PATH_MAX])
{
	int n = snprintf(ret, PATH_MAX, "%s/.snap/@%" PRIu64 ".%09" PRIu64, root, ns / NS_PER_S,
		ns % NS_PER_S);

	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int past_directory(const struct cli *cli, const char *what, const char *root, char ret[PATH_MAX])
{
	uint64_t ns;
	struct stat st;
	int r = check_both(cli, what);

	if (r != CLI_OK)
		return r;
	if (cli->at) {
		r = parse_time(what, cli->at, &ns);
		if (r != CLI_OK)
			return r;
		if (past_directory_at(root, ns, ret) < 0)
			return cli_error("%s: %s: %s", what, root, strerror(ENAMETOOLONG));
	} else if (cli->snapshot) {
		snprintf(ret, PATH_MAX, "%s/.snap/%s", root, cli->snapshot);
	} else {
		return CLI_USAGE;
	}
	if (stat(ret, &st) == 0)
		return CLI_OK;
	if (cli->snapshot)
		return cli_error("%s: %s: there is no snapshot of this name: `ls %s/.snap` shows "
				 "those that are",
			what, cli->snapshot, root);
	return cli_error(
		"%s: %s: nothing is kept of that time: `bazil log` shows what is", what, cli->at);
}
