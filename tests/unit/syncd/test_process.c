/*
 * The real bazil-syncd in its real sandbox, with this test in the supervisor's place: it pulls,
 * serves, is killed in the middle and started again.
 */
#include "ipc/chan.h"
#include "ipc/work.gen.h"
#include "net.h"
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct work_client {
	struct ipc_chan *chan;
	pid_t pid;
	bool is_ready;
	uint32_t layers;
	char missing[400];
};

static struct net net;
static struct work_client work;
static struct node *a, *b;

void on_work_ready(struct work_client *self, const struct work_ready *msg)
{
	assert_string_equal(msg->role, "syncd");
	self->layers = msg->layers;
	snprintf(self->missing, sizeof(self->missing), "%s", msg->missing);
	self->is_ready = true;
}

void on_work_log(struct work_client *self, const struct work_log *msg)
{
	print_message("syncd: %s\n", msg->text);
}

void on_work_unmounted(struct work_client *self, const struct work_unmounted *msg)
{
}

static void closed(void *self, struct ipc_chan *chan, int err)
{
}

static void exec_syncd(int fd)
{
	int null = open("/dev/null", O_RDONLY), high = fcntl(fd, F_DUPFD, 100);

	dup2(null, 0);
	dup2(high, 3);
	close_range(4, ~0U, 0);
	/* The leak checker traces its own process, which the sandbox forbids. */
	setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
	execl(BAZIL_SYNCD, "bazil-syncd", NULL);
	_exit(127);
}

static void process_start(struct work_client *w)
{
	int fds[2];

	assert_int_equal(ipc_pair(fds), 0);
	*w = (struct work_client){ .pid = fork() };
	if (w->pid == 0)
		exec_syncd(fds[1]);
	close(fds[1]);
	assert_int_equal(
		ipc_chan_open(&w->chan, net.loop, fds[0], &work_client_service, w, closed), 0);
	assert_true(net_wait(&net, &w->is_ready, 5));
}

static void process_kill(struct work_client *w)
{
	kill(w->pid, SIGKILL);
	assert_int_equal(waitpid(w->pid, NULL, 0), w->pid);
	ipc_chan_close(w->chan);
}

static void given(void *arg, int err, const struct work_edge_reply *reply)
{
	*(bool *)arg = true;
	assert_int_equal(err, 0);
}

static void give(struct node *n, const char *kind, int fd, int ring_in, int ring_out)
{
	struct work_client *w = n->process;
	struct work_edge req = { .kind = kind, .fd = fd, .ring_in = ring_in, .ring_out = ring_out };
	bool is_done = false;

	assert_int_equal(work_edge(w->chan, &req, given, &is_done), 0);
	assert_true(net_wait(&net, &is_done, 5));
	close(fd);
	if (ring_in >= 0) {
		close(ring_in);
		close(ring_out);
	}
}

static void listening(void *arg, int err, const struct work_listener_reply *reply)
{
	*(bool *)arg = true;
	assert_int_equal(err, 0);
}

static void give_listener(struct node *n)
{
	bool is_done = false;
	int fd = listen_anywhere(&n->port);
	struct work_listener req = { .fd = fd, .port = (uint32_t)n->port };

	assert_int_equal(work_listener(work.chan, &req, listening, &is_done), 0);
	assert_true(net_wait(&net, &is_done, 5));
	close(fd);
}

static int setup(void **unused)
{
	net_init(&net);
	process_start(&work);
	a = net_node_without_syncd(&net, "alice");
	a->give = give;
	a->process = &work;
	node_start(a);
	give_listener(a);
	b = net_node(&net, "bob");
	node_knows(a, b, b->port);
	node_knows(b, a, a->port);
	a->storages[a->num_storages++] = b;
	node_changed(a);
	/* The process has its own, patient times; bob's are the test's. */
	net.limits.session = session_default_limits;
	return 0;
}

static int teardown(void **unused)
{
	process_kill(&work);
	net_release(&net);
	return 0;
}

static void counted(void *arg, int err, const struct work_status_reply *reply)
{
	bool *is_done = arg;

	assert_int_equal(err, 0);
	*is_done = false;
	for (size_t i = 0; i < reply->num_counters; i++)
		if (strcmp(reply->counters[i].name, "sessions") == 0)
			*is_done = reply->counters[i].value == 1;
}

static void process__works_behind_its_walls(void **unused)
{
	static struct outcome out;
	uint8_t ids[3][32];
	bool is_counted = false;

	assert_true(work.layers & SANDBOX_NO_NEW_PRIVS);
#ifndef BAZIL_SANITIZED
	assert_true(work.layers & SANDBOX_SECCOMP);
#endif
	node_write(b, 300);
	node_sync(a, "bob", &out);
	assert_string_equal(out.text, "");
	assert_int_equal(out.err, 0);
	assert_true(node_has_all(a, b));
	/* It serves as well, over the same session. */
	node_write(a, 10);
	node_sync(b, "alice", &out);
	assert_int_equal(out.err, 0);
	assert_true(node_has_all(b, a));
	node_store(b, 200000, ids[0]);
	node_store(b, 300, ids[1]);
	memset(ids[2], 1, 32);
	node_fetch(a, ids, 3, 5000, &out);
	assert_int_equal(out.err, 0);
	assert_int_equal(out.lens[0], 200000);
	assert_int_equal(out.lens[2], 0);
	assert_true(node_got(a, ids[0]) && node_got(a, ids[1]));
	assert_int_equal(
		work_status(work.chan, &(struct work_status){ 0 }, counted, &is_counted), 0);
	assert_true(net_wait(&net, &is_counted, 5));
}

static void process__is_killed_and_replaced(void **unused)
{
	static struct outcome out;

	for (int run = 0; run < 10; run++) {
		node_write(b, 20);
		node_sync_begin(a, "bob", &out);
		net_run(&net, (net_random(&net) % 200) / 10000.0);
		process_kill(&work);
		/* stored drops what syncd had open, as its edge ends. */
		node_kill_stored(a);
		process_start(&work);
		node_start(a);
		give_listener(a);
		node_knows(b, a, a->port);
		node_sync(a, "bob", &out);
		assert_string_equal(out.text, "");
		assert_int_equal(out.err, 0);
		assert_true(node_has_all(a, b));
		net_run(&net, 0.03);
		assert_int_equal(b->num_serves, 0);
	}
}

static void stopped(void *arg, int err, const struct work_stop_reply *reply)
{
	*(bool *)arg = true;
	assert_int_equal(err, 0);
}

static void process__stops_when_told(void **unused)
{
	bool is_done = false;
	int status;

	assert_int_equal(work_stop(work.chan, &(struct work_stop){ 0 }, stopped, &is_done), 0);
	assert_true(net_wait(&net, &is_done, 5));
	for (int i = 0; i < 500 && waitpid(work.pid, &status, WNOHANG) == 0; i++)
		usleep(10000);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	ipc_chan_close(work.chan);
	process_start(&work);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(process__works_behind_its_walls),
		T(process__is_killed_and_replaced),
		T(process__stops_when_told),
	};
	const char *seed = getenv("BAZIL_SEED");

	printf("BAZIL_SEED=%s\n", seed ? seed : "1");
	cmocka_set_test_filter(getenv("BAZIL_TEST"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
