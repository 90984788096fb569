/* A process that serves one role of a channel: only that role's handlers are needed to link it. */
#include "ipc/chan.h"
#include "ipc/test.gen.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct test_client {
	struct ipc_chan *chan;
};

struct test_server {
	struct ipc_chan *chan;
	int err;
};

void on_test_shout(struct test_client *self, const struct test_shout *msg)
{
}

void on_test_odd(struct test_server *self, struct ipc_call *call, const struct test_odd *req)
{
	test_odd_reply(call, &(struct test_odd_reply){ .data = req->data });
}

void on_test_told(struct test_server *self, const struct test_told *msg)
{
}

static void closed(void *self, struct ipc_chan *chan, int err)
{
	((struct test_server *)self)->err = err;
}

static void service__of_a_role_closes_on_requests_of_others(void **state)
{
	struct test_client client = { 0 };
	struct test_odd_reply odd;
	struct test_gamma_reply gamma;
	int fds[2], status;
	pid_t pid;

	assert_int_equal(ipc_pair(fds), 0);
	pid = fork();
	if (pid == 0) {
		struct test_server server = { 0 };
		close(fds[0]);
		ipc_chan_open(
			&server.chan, NULL, fds[1], &test_server_beta_service, &server, closed);
		while (ipc_chan_pump(server.chan, -1) >= 0)
			;
		_exit(server.err == -EBADMSG ? 0 : 1);
	}
	close(fds[1]);
	ipc_chan_open(&client.chan, NULL, fds[0], &test_client_service, &client, NULL);
	assert_int_equal(test_odd_wait(client.chan, &(struct test_odd){ 0 }, 5000, &odd), 0);
	test_odd_reply_release(&odd);
	assert_int_equal(test_gamma_wait(client.chan, NULL, 5000, &gamma), -ECONNRESET);
	ipc_chan_close(client.chan);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(service__of_a_role_closes_on_requests_of_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
