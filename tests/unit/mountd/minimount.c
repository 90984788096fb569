/*
 * A mount without supervisor, stored and keyd, as root: for developing mountd and for its system
 * tests. A child is mountd; the parent holds the kernel's connection and the memory, plays stored
 *and keyd (fake.h), and starts a new child when one is killed.
 *
 *	minimount DIR     mounts at DIR and stays until it is unmounted; prints the child's pid
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/ring.h"
#include "ipc/work.gen.h"
#include "mountd/mount.h"
#include "mountd/mountd.h"
#include "tests/unit/mountd/fake.h"

static struct mountd m;
static int exit_status = -1;

static void gone(struct mountd *self, int r)
{
	exit_status = r == 0 ? 0 : 1;
	ev_break(self->loop, EVBREAK_ALL);
}

static int run_mountd(const struct fake_edges *edges, const struct work_mount *req)
{
	const char *why = "";
	int r = mountd_prepare(&m, ev_loop_new(EVFLAG_AUTO));

	m.gone = gone;
	if (r == 0)
		r = ipc_ring_map(&m.ring, edges->ring_fd, IPC_RING_PRODUCER);
	if (r == 0)
		r = edges_open_store(&m, edges->store_fd);
	if (r == 0)
		r = edges_open_key(&m, edges->key_fd);
	if (r == 0)
		r = mount_begin(&m, req, &why);
	if (r < 0) {
		fprintf(stderr, "minimount: %s: %s\n", why, strerror(-r));
		return 2;
	}
	ev_run(m.loop, 0);
	return exit_status;
}

static int sized_memfd(const char *name, off_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, size) < 0)
		abort();
	return fd;
}

int main(int argc, char **argv)
{
	struct work_mount req = { .keep_owner = true };
	struct fake_edges edges;
	struct fake *fake = fake_start(&edges);
	char options[128];
	int deaths = 0;
	int status;

	if (argc != 2)
		return 2;
	req.fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	req.state = sized_memfd("state", 65536);
	req.dirty = sized_memfd("dirty", 64 << 20);
	snprintf(options, sizeof(options),
		"fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
		req.fuse);
	if (mount("bazil:mini", argv[1], "fuse.bazil", MS_NOSUID | MS_NODEV, options) < 0) {
		perror("mount");
		return 1;
	}
	for (;;) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(run_mountd(&edges, &req));
		printf("pid %d\n", (int)pid);
		fflush(stdout);
		close(edges.store_fd);
		close(edges.key_fd);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (WIFEXITED(status))
			break;
		printf("died of %d\n", WTERMSIG(status));
		if (++deaths > 100000)
			break;
		fake_restart(fake, &edges);
	}
	fake_stop(fake);
	if (!WIFEXITED(status))
		umount2(argv[1], MNT_DETACH);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
