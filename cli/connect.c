#include "cli/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/print.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"

const char *cli_program(const char *name)
{
	static char path[4096 + 64];
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = '\0';
		*strrchr(self, '/') = '\0';
		snprintf(path, sizeof(path), "%s/%s", self, name);
		if (access(path, X_OK) == 0)
			return path;
	}
	snprintf(path, sizeof(path), "%s/%s", BAZIL_LIBEXECDIR, name);
	return path;
}

/* A unix address is at most 107 bytes: the data directory is reached through a descriptor instead.
 */
int cli_connect_raw(const char *data_dir)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int dir = open(data_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd, r = 0;

	if (dir < 0)
		return -errno;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/ctl.sock", dir);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		r = -errno;
	close(dir);
	if (r == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return r;
}

/* The supervisor of one request: it holds the other end as fd 3 and ends when we close ours. */
static int spawn_once(const char *data_dir, int *ret_pid)
{
	const char *program = cli_program("bazil-supervisor");
	char option[4096 + 32];
	int fds[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	snprintf(option, sizeof(option), "--data-dir=%s", data_dir);
	pid = fork();
	if (pid == 0) {
		if (fds[1] == 3)
			fcntl(3, F_SETFD, 0);
		else
			dup2(fds[1], 3);
		execl(program, program, option, "--once", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return -errno;
	}
	*ret_pid = pid;
	return fds[0];
}

int cli_explain_connect(const char *data_dir, int err)
{
	struct stat st;

	if (stat(data_dir, &st) < 0 && errno == ENOENT)
		return cli_error(
			"data directory: %s: it does not exist: make it with `bazil create`",
			data_dir);
	if (err == -ENOENT || err == -ECONNREFUSED)
		return cli_error(
			"server: not running on %s: start it with `bazil server run`", data_dir);
	if (err == -EACCES || err == -EPERM)
		return cli_error(
			"server: %s: permission denied: it belongs to another user", data_dir);
	return cli_error("server: %s: %s", data_dir, strerror(-err));
}

int cli_connect(struct cli *cli, uint16_t type)
{
	struct stat st;
	int fd, r;

	if (cli->chan)
		return CLI_OK;
	fd = cli_connect_raw(cli->data_dir);
	if ((fd == -ENOENT || fd == -ECONNREFUSED) && ctl_offline(type) &&
		stat(cli->data_dir, &st) == 0)
		fd = spawn_once(cli->data_dir, &cli->once_pid);
	if (fd < 0)
		return cli_explain_connect(cli->data_dir, fd);
	r = ipc_chan_open(&cli->chan, NULL, fd, &ctl_client_service, cli, NULL);
	if (r < 0) {
		close(fd);
		return cli_error("server: %s: %s", cli->data_dir, strerror(-r));
	}
	return CLI_OK;
}

void cli_disconnect(struct cli *cli)
{
	if (cli->chan)
		ipc_chan_close(cli->chan);
	cli->chan = NULL;
	/* It holds the lock of the data directory until it ends: the next command may be `server
	 * run`. */
	if (cli->once_pid)
		waitpid(cli->once_pid, NULL, 0);
	cli->once_pid = 0;
}

/* The server tells its own clients, among them us, that peers changed; nothing here depends on it.
 */
void on_ctl_peers_changed(struct ctl_client *self, const struct ctl_peers_changed *msg)
{
}
