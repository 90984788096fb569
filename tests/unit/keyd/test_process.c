/*
 * The real bazil-keyd in its real sandbox, with this test in the supervisor's place: made, used,
 * killed, started again, and left alone.
 */
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "ipc/ident.gen.h"
#include "ipc/key.gen.h"
#include "ipc/work.gen.h"
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const uint8_t volume[16] = "a volume";

/* Our side of the work channel. */
struct work_client {
	struct ipc_chan *chan;
	pid_t pid;
	bool is_ready;
	uint32_t layers;
	char missing[400];
	unsigned num_warnings;
	char last_warning[500];
	char path[64];
	int dir;
};

void on_ctl_peers_changed(struct ctl_client *self, const struct ctl_peers_changed *msg)
{
}

void on_work_ready(struct work_client *self, const struct work_ready *msg)
{
	self->is_ready = true;
	self->layers = msg->layers;
	snprintf(self->missing, sizeof(self->missing), "%s", msg->missing);
	assert_string_equal(msg->role, "keyd");
}

void on_work_log(struct work_client *self, const struct work_log *msg)
{
	if (msg->level > 4)
		return;
	self->num_warnings++;
	snprintf(self->last_warning, sizeof(self->last_warning), "%s", msg->text);
}

void on_work_unmounted(struct work_client *self, const struct work_unmounted *msg)
{
}

static void closed(void *self, struct ipc_chan *chan, int err)
{
}

/* Moves the two descriptors to 3 and 4 and closes all others. */
static void exec_keyd(int work, int dir)
{
	int a = fcntl(work, F_DUPFD, 100), b = fcntl(dir, F_DUPFD, 100);
	int null = open("/dev/null", O_RDONLY);

	dup2(null, 0);
	dup2(a, 3);
	dup2(b, 4);
	close_range(5, ~0U, 0);
	/* In its empty root the leak checker of a sanitizer build finds no /proc. */
	setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
	execl(BAZIL_KEYD, "bazil-keyd", NULL);
	_exit(127);
}

static void keyd_start(struct work_client *w)
{
	int fds[2];

	assert_int_equal(ipc_pair(fds), 0);
	w->is_ready = false;
	w->num_warnings = 0;
	w->pid = fork();
	if (w->pid == 0)
		exec_keyd(fds[1], w->dir);
	close(fds[1]);
	assert_int_equal(ipc_chan_open(&w->chan, NULL, fds[0], &work_client_service, w, closed), 0);
	for (int i = 0; i < 50 && !w->is_ready; i++)
		assert_true(ipc_chan_pump(w->chan, 200) >= 0);
	assert_true(w->is_ready);
}

static void keyd_dir(struct work_client *w)
{
	memset(w, 0, sizeof(*w));
	snprintf(w->path, sizeof(w->path), "/tmp/bazil-keydir-XXXXXX");
	assert_non_null(mkdtemp(w->path));
	w->dir = open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(w->dir >= 0);
}

static void keyd_remove(struct work_client *w)
{
	/* The temporary ones: of a write that a kill cut short. */
	static const char *const names[] = { "keyring", "keyring.old", "keyring.damaged", "unlock",
		"keyring.tmp", "keyring.old.tmp" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlinkat(w->dir, names[i], 0);
	close(w->dir);
	assert_int_equal(rmdir(w->path), 0);
}

static int begin(struct work_client *w, bool create)
{
	struct work_begin_reply reply;
	int r = work_begin_wait(w->chan, &(struct work_begin){ .create = create }, 5000, &reply);

	if (r == 0)
		work_begin_reply_release(&reply);
	return r;
}

static struct ipc_chan *edge(struct work_client *w, const char *kind, const char *role, uint64_t id,
	const uint8_t *vol, const char *sharing, const struct ipc_service *service)
{
	struct work_edge req = { .kind = kind,
		.role = role,
		.id = id,
		.sharing = sharing,
		.ring_in = -1,
		.ring_out = -1 };
	struct work_edge_reply reply;
	struct ipc_chan *chan;
	int fds[2];

	if (vol)
		memcpy(req.volume, vol, 16);
	assert_int_equal(ipc_pair(fds), 0);
	req.fd = fds[1];
	assert_int_equal(work_edge_wait(w->chan, &req, 5000, &reply), 0);
	work_edge_reply_release(&reply);
	close(fds[1]);
	assert_int_equal(ipc_chan_open(&chan, NULL, fds[0], service, NULL, closed), 0);
	return chan;
}

static uint64_t counter(struct work_client *w, const char *name)
{
	struct work_status_reply reply;
	uint64_t value = UINT64_MAX;

	assert_int_equal(work_status_wait(w->chan, &(struct work_status){ 0 }, 5000, &reply), 0);
	for (size_t i = 0; i < reply.num_counters; i++) {
		if (strcmp(reply.counters[i].name, name) == 0)
			value = reply.counters[i].value;
	}
	work_status_reply_release(&reply);
	return value;
}

static int wait_exit(struct work_client *w)
{
	int status;

	for (int i = 0; i < 500; i++) {
		if (waitpid(w->pid, &status, WNOHANG) == w->pid)
			return status;
		usleep(10000);
	}
	kill(w->pid, SIGKILL);
	fail_msg("keyd did not exit");
	return -1;
}

static void keyd_stop(struct work_client *w)
{
	struct work_stop_reply reply;
	int status;

	assert_int_equal(work_stop_wait(w->chan, &(struct work_stop){ 0 }, 5000, &reply), 0);
	work_stop_reply_release(&reply);
	status = wait_exit(w);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	ipc_chan_close(w->chan);
}

static int sharing_add(struct ipc_chan *ctl, const char *name, uint8_t first, bool by_pipe)
{
	struct ctl_sharing_add_reply reply;
	uint8_t secret[32] = { first };
	int fds[2], r;

	if (by_pipe) {
		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		assert_int_equal(write(fds[1], secret, 32), 32);
		close(fds[1]);
	} else {
		fds[0] = memfd_create("secret", MFD_CLOEXEC);
		assert_int_equal(write(fds[0], secret, 32), 32);
		lseek(fds[0], 0, SEEK_SET);
	}
	r = ctl_sharing_add_wait(
		ctl, &(struct ctl_sharing_add){ .name = name, .secret = fds[0] }, 5000, &reply);
	if (r == 0)
		ctl_sharing_add_reply_release(&reply);
	close(fds[0]);
	return r;
}

static size_t num_sharing(struct ipc_chan *ctl)
{
	struct ctl_sharing_list_reply reply;
	size_t num;

	assert_int_equal(
		ctl_sharing_list_wait(ctl, &(struct ctl_sharing_list){ 0 }, 5000, &reply), 0);
	num = reply.num_keys;
	ctl_sharing_list_reply_release(&reply);
	return num;
}

static struct ipc_chan *ctl_edge(struct work_client *w)
{
	return edge(w, "ctl", "supervisor", 0, NULL, "", &ctl_client_service);
}

/* Every operation, so that a system call missing from the sandbox's list is found here. */
static void process__does_all_of_its_work_in_its_sandbox(void **state)
{
	struct key_volume_reply keys;
	struct ident_public_reply public;
	struct ident_dh_reply dh;
	struct ctl_sharing_remove_reply removed;
	struct ipc_chan *ctl, *key, *ident;
	struct work_client w;

	keyd_dir(&w);
	keyd_start(&w);
	assert_true(w.layers & SANDBOX_NO_NEW_PRIVS);
#ifndef BAZIL_SANITIZED
	assert_true(w.layers & SANDBOX_SECCOMP);
#endif
	if (w.missing[0])
		print_message("missing: %s\n", w.missing);
	assert_int_equal(begin(&w, false), -ENOENT);
	assert_non_null(strstr(ipc_chan_error(w.chan), "bazil create"));
	assert_int_equal(begin(&w, true), 0);
	ctl = ctl_edge(&w);
	assert_int_equal(sharing_add(ctl, "by-file", 1, false), 0);
	assert_int_equal(sharing_add(ctl, "by-pipe", 2, true), 0);
	assert_int_equal(sharing_add(ctl, "by-pipe", 3, true), -EEXIST);
	assert_int_equal(num_sharing(ctl), 3);
	key = edge(&w, "key", "mountd", 1, volume, "by-pipe", &key_client_service);
	assert_int_equal(key_volume_wait(key, &(struct key_volume){ 0 }, 5000, &keys), 0);
	key_volume_reply_release(&keys);
	ident = edge(&w, "ident", "syncd", 0, NULL, "", &ident_client_service);
	assert_int_equal(ident_public_wait(ident, &(struct ident_public){ 0 }, 5000, &public), 0);
	assert_int_equal(ident_dh_wait(ident, &(struct ident_dh){ .peer = { 9 } }, 5000, &dh), 0);
	assert_memory_equal(dh.shared, public.noise_static, 32);
	ident_dh_reply_release(&dh);
	ident_public_reply_release(&public);
	assert_int_equal(
		ident_dh_wait(ident, &(struct ident_dh){ .peer = { 0 } }, 5000, &dh), -EBADMSG);
	assert_int_equal(counter(&w, "handshakes"), 1);
	assert_int_equal(counter(&w, "key.1.volume_keys"), 1);
	ipc_chan_close(key);
	ipc_chan_close(ident);
	assert_int_equal(ctl_sharing_remove_wait(ctl,
				 &(struct ctl_sharing_remove){ .name = "by-file" }, 5000, &removed),
		0);
	ctl_sharing_remove_reply_release(&removed);
	ipc_chan_close(ctl);
	keyd_stop(&w);
	keyd_start(&w);
	assert_int_equal(begin(&w, true), -EEXIST);
	assert_int_equal(begin(&w, false), 0);
	ctl = ctl_edge(&w);
	assert_int_equal(num_sharing(ctl), 2);
	ipc_chan_close(ctl);
	keyd_stop(&w);
	keyd_remove(&w);
}

static void process__killed_at_any_time_keeps_what_it_acknowledged(void **state)
{
	struct work_client w;
	unsigned num_added = 0;

	keyd_dir(&w);
	keyd_start(&w);
	assert_int_equal(begin(&w, true), 0);
	keyd_stop(&w);
	for (unsigned round = 0; round < 20; round++) {
		struct ipc_chan *ctl;
		pid_t killer;
		size_t num;

		keyd_start(&w);
		assert_int_equal(begin(&w, false), 0);
		ctl = ctl_edge(&w);
		/* What was under way at the kill may be there or not. */
		num = num_sharing(ctl);
		assert_true(num == num_added + 1 || num == num_added + 2);
		num_added = (unsigned)num - 1;
		killer = fork();
		if (killer == 0) {
			usleep(500 * (round + 1));
			kill(w.pid, SIGKILL);
			_exit(0);
		}
		while (num_added < 60) {
			char name[32];

			snprintf(name, sizeof(name), "k%u", num_added + 1);
			if (sharing_add(ctl, name, (uint8_t)(num_added + 1), round & 1) < 0)
				break;
			num_added++;
		}
		waitpid(killer, NULL, 0);
		assert_true(WIFSIGNALED(wait_exit(&w)));
		ipc_chan_close(ctl);
		ipc_chan_close(w.chan);
	}
	assert_true(num_added > 0);
	keyd_remove(&w);
}

static void process__says_so_when_it_takes_the_old_keyring(void **state)
{
	struct work_client w;
	struct ipc_chan *ctl;
	int fd;

	keyd_dir(&w);
	keyd_start(&w);
	assert_int_equal(begin(&w, true), 0);
	ctl = ctl_edge(&w);
	assert_int_equal(sharing_add(ctl, "one", 1, false), 0);
	ipc_chan_close(ctl);
	keyd_stop(&w);
	fd = openat(w.dir, "keyring", O_WRONLY | O_TRUNC);
	assert_true(fd >= 0);
	close(fd);
	keyd_start(&w);
	assert_int_equal(begin(&w, false), 0);
	ipc_chan_pump(w.chan, 200);
	assert_non_null(strstr(w.last_warning, "keyring.old"));
	keyd_stop(&w);
	/* Healed: the next start has nothing to say. */
	keyd_start(&w);
	assert_int_equal(begin(&w, false), 0);
	ipc_chan_pump(w.chan, 50);
	assert_null(strstr(w.num_warnings ? w.last_warning : "", "keyring.old"));
	keyd_stop(&w);
	keyd_remove(&w);
}

static void process__ends_with_its_supervisor(void **state)
{
	struct work_client w;
	int status;

	keyd_dir(&w);
	keyd_start(&w);
	assert_int_equal(begin(&w, true), 0);
	kill(w.pid, SIGTERM);
	assert_int_not_equal(counter(&w, "refused"), UINT64_MAX);
	ipc_chan_close(w.chan);
	status = wait_exit(&w);
	assert_true(WIFEXITED(status));
	keyd_remove(&w);
}

/* Of the same user, and as root where the sandbox took root's rights away. */
static void process__is_not_to_be_looked_into(void **state)
{
	struct work_client w;
	char path[64], line[256];
	unsigned long locked = 0;
	FILE *f;

	keyd_dir(&w);
	keyd_start(&w);
	assert_int_equal(begin(&w, true), 0);
	snprintf(path, sizeof(path), "/proc/%d/status", w.pid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "VmLck: %lu", &locked);
#ifndef BAZIL_SANITIZED
		if (strncmp(line, "Seccomp:", 8) == 0)
			assert_non_null(strchr(line, '2'));
#endif
		if (strncmp(line, "CapEff:", 7) == 0)
			assert_non_null(strstr(line, "0000000000000000"));
	}
	fclose(f);
#ifdef BAZIL_SANITIZED
	/* AddressSanitizer makes mlock do nothing. */
	(void)locked;
#else
	assert_true(locked > 0);
#endif
	keyd_stop(&w);
	keyd_remove(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(process__does_all_of_its_work_in_its_sandbox),
		cmocka_unit_test(process__killed_at_any_time_keeps_what_it_acknowledged),
		cmocka_unit_test(process__says_so_when_it_takes_the_old_keyring),
		cmocka_unit_test(process__ends_with_its_supervisor),
		cmocka_unit_test(process__is_not_to_be_looked_into),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
