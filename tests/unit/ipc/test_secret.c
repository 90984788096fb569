/* What a secret channel leaves of the keys that travel over it: nothing, in no block of the heap,
 * whatever becomes of a message. */
#include "heap.h"

#include "ipc/secret.gen.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define KEY_LEN 32
#define LOOKED	16 /* bytes of a key that must be nowhere: also of one that was cut short */

struct secret_client {
	struct ipc_chan *chan;
	unsigned num_told;
};

struct secret_server {
	struct ipc_chan *chan;
	size_t num_tags; /* in the answer; 257 do not fit */
};

struct answer {
	unsigned num;
	int err;
	bool has_key;
};

/* Bytes 0x81 to 0xa0. */
static uint8_t key[KEY_LEN];
static uint8_t many[257][KEY_LEN];

static int start(void **state)
{
	for (size_t i = 0; i < KEY_LEN; i++)
		key[i] = (uint8_t)(0x81 + i);
	for (size_t i = 0; i < 257; i++)
		memcpy(many[i], key, KEY_LEN);
	heap_watch(key, LOOKED);
	return 0;
}

static void assert_nowhere(void)
{
	assert_int_equal(heap_in_use(), 0);
	assert_int_equal(heap_freed(), 0);
}

void on_secret_key(struct secret_server *self, struct ipc_call *call, const struct secret_key *req)
{
	struct secret_key_reply reply;

	memcpy(reply.key, req->key, sizeof(reply.key));
	secret_key_reply(call, &reply);
}

void on_secret_keys(
	struct secret_server *self, struct ipc_call *call, const struct secret_keys *req)
{
	secret_keys_reply(call, &(struct secret_keys_reply){ .keys = many,
					.num_keys = req->num,
					.tags = many,
					.num_tags = self->num_tags });
}

void on_secret_told(struct secret_client *self, const struct secret_told *msg)
{
	self->num_told++;
	assert_memory_equal(msg->keys[msg->num_keys - 1], key, KEY_LEN);
}

static void closed(void *self, struct ipc_chan *chan, int err)
{
}

static void key_done(void *arg, int err, const struct secret_key_reply *reply)
{
	struct answer *answer = arg;

	answer->num++;
	answer->err = err;
	answer->has_key = reply && memcmp(reply->key, key, KEY_LEN) == 0;
}

static void keys_done(void *arg, int err, const struct secret_keys_reply *reply)
{
	struct answer *answer = arg;

	answer->num++;
	answer->err = err;
	answer->has_key = reply && memcmp(reply->keys[reply->num_keys - 1], key, KEY_LEN) == 0;
	/* That the heap is looked at at all. */
	if (reply)
		assert_true(heap_in_use() > 0);
}

struct pair {
	struct secret_client client;
	struct secret_server server;
};

static void pair_open(struct pair *p)
{
	int fds[2];

	*p = (struct pair){ .server.num_tags = 1 };
	assert_int_equal(ipc_pair(fds), 0);
	assert_int_equal(ipc_chan_open(&p->client.chan, NULL, fds[0], &secret_client_service,
				 &p->client, closed),
		0);
	assert_int_equal(ipc_chan_open(&p->server.chan, NULL, fds[1], &secret_server_service,
				 &p->server, closed),
		0);
}

static void pair_close(struct pair *p)
{
	ipc_chan_close(p->client.chan);
	ipc_chan_close(p->server.chan);
	assert_nowhere();
}

static void pair_turn(struct pair *p)
{
	while (ipc_chan_pump(p->server.chan, 0) + ipc_chan_pump(p->client.chan, 0) > 0)
		;
}

static void secret__an_answer_leaves_nothing(void **state)
{
	struct answer one = { 0 }, all = { 0 };
	struct secret_key req;
	struct pair p;

	pair_open(&p);
	memcpy(req.key, key, KEY_LEN);
	assert_int_equal(secret_key(p.client.chan, &req, key_done, &one), 0);
	assert_int_equal(
		secret_keys(p.client.chan, &(struct secret_keys){ .num = 256 }, keys_done, &all),
		0);
	pair_turn(&p);
	assert_true(one.num == 1 && one.has_key);
	assert_true(all.num == 1 && all.has_key);
	assert_nowhere();
	pair_close(&p);
}

static void secret__nor_does_one_that_does_not_fit(void **state)
{
	struct answer all = { 0 };
	struct pair p;

	pair_open(&p);
	p.server.num_tags = 257;
	secret_keys(p.client.chan, &(struct secret_keys){ .num = 256 }, keys_done, &all);
	pair_turn(&p);
	assert_true(all.num == 1 && all.err == -EMSGSIZE);
	assert_int_equal(
		secret_told(p.server.chan, &(struct secret_told){ .keys = many, .num_keys = 257 }),
		-EMSGSIZE);
	assert_nowhere();
	pair_close(&p);
}

/* Nobody reads: what the socket does not take waits, and goes with the channel. */
static void secret__nor_what_nobody_reads(void **state)
{
	struct secret_told told = { .keys = many, .num_keys = 256 };
	struct pair p;

	pair_open(&p);
	pair_turn(&p);
	while (ipc_chan_queued(p.server.chan) < 100000)
		assert_int_equal(secret_told(p.server.chan, &told), 0);
	assert_true(heap_in_use() > 0);
	ipc_chan_close(p.server.chan);
	p.server.chan = NULL;
	assert_nowhere();
	ipc_chan_pump(p.client.chan, 0);
	assert_true(p.client.num_told > 0);
	pair_close(&p);
}

static void secret__nor_what_waited_to_be_sent(void **state)
{
	struct secret_told told = { .keys = many, .num_keys = 256 };
	struct pair p;
	unsigned num = 0;

	pair_open(&p);
	for (; ipc_chan_queued(p.server.chan) < 100000; num++)
		assert_int_equal(secret_told(p.server.chan, &told), 0);
	while (p.client.num_told < num)
		pair_turn(&p);
	assert_nowhere();
	pair_close(&p);
}

/* ---- the other side is the test */

struct wire {
	struct secret_client client;
	int fd;
	uint8_t msg[IPC_MSG_MAX + IPC_HEADER_LEN];
	struct ipc_writer w;
};

static void wire_send(struct wire *wire, enum ipc_kind kind, uint16_t type, uint64_t serial)
{
	ipc_frame_head(wire->msg, kind, type, serial, wire->w.len, 0);
	assert_int_equal(
		ipc_frame_send(wire->fd, wire->msg, IPC_HEADER_LEN + wire->w.len, NULL, 0), 0);
	ipc_writer_init(&wire->w, wire->msg + IPC_HEADER_LEN, IPC_MSG_MAX - IPC_HEADER_LEN);
}

static void wire_open(struct wire *wire)
{
	int fds[2];

	memset(wire, 0, sizeof(*wire));
	assert_int_equal(ipc_pair(fds), 0);
	assert_int_equal(ipc_chan_open(&wire->client.chan, NULL, fds[0], &secret_client_service,
				 &wire->client, closed),
		0);
	wire->fd = fds[1];
	ipc_writer_init(&wire->w, wire->msg + IPC_HEADER_LEN, IPC_MSG_MAX - IPC_HEADER_LEN);
	ipc_write_array(&wire->w, 3);
	ipc_write_text(&wire->w, "secret", 64);
	ipc_write_uint(&wire->w, SECRET_VERSION);
	ipc_write_fixed(&wire->w, secret_digest, 32);
	wire_send(wire, IPC_HELLO, 0, 0);
}

static void wire_close(struct wire *wire)
{
	ipc_chan_close(wire->client.chan);
	close(wire->fd);
	assert_nowhere();
}

static void write_keys(struct wire *wire)
{
	const struct secret_keys_reply reply = {
		.keys = many, .num_keys = 256, .tags = many, .num_tags = 256
	};

	assert_int_equal(secret_keys_reply_encode(&reply, &wire->w), 0);
}

static struct wire wire;

/* A notice comes first, and is kept while one waits for the answer. */
static void secret__nor_what_was_waited_for(void **state)
{
	const struct secret_told told = { .keys = many, .num_keys = 256 };
	struct secret_keys_reply keys;
	struct secret_key_reply one;

	wire_open(&wire);
	assert_int_equal(secret_told_encode(&told, &wire.w), 0);
	wire_send(&wire, IPC_NOTICE, SECRET_TOLD, 0);
	write_keys(&wire);
	wire_send(&wire, IPC_REPLY, SECRET_KEYS, 1);
	assert_int_equal(secret_keys_wait(wire.client.chan, &(struct secret_keys){ .num = 256 },
				 1000, &keys),
		0);
	assert_memory_equal(keys.tags[255], key, KEY_LEN);
	assert_true(heap_in_use() > 0);
	secret_keys_reply_release(&keys);
	assert_int_equal(wire.client.num_told, 0);
	assert_int_equal(ipc_chan_pump(wire.client.chan, 0), 1);
	assert_int_equal(wire.client.num_told, 1);
	assert_nowhere();
	ipc_write_array(&wire.w, 1);
	ipc_write_fixed(&wire.w, key, KEY_LEN);
	wire_send(&wire, IPC_REPLY, SECRET_KEY, 2);
	assert_int_equal(
		secret_key_wait(wire.client.chan, &(struct secret_key){ .key = { 0 } }, 1000, &one),
		0);
	assert_memory_equal(one.key, key, KEY_LEN);
	assert_nowhere();
	wire_close(&wire);
}

static void ask_and_write(struct answer *answer)
{
	wire_open(&wire);
	assert_int_equal(ipc_chan_pump(wire.client.chan, 0), 1);
	*answer = (struct answer){ 0 };
	assert_int_equal(secret_keys(wire.client.chan, &(struct secret_keys){ .num = 256 },
				 keys_done, answer),
		0);
	write_keys(&wire);
}

static void assert_malformed(const struct answer *answer)
{
	assert_int_equal(ipc_chan_pump(wire.client.chan, 0), -ECONNRESET);
	assert_true(answer->num == 1 && !answer->has_key);
	assert_nowhere();
	wire_close(&wire);
}

static void secret__nor_what_cannot_be_read(void **state)
{
	struct answer answer;

	/* A byte too much, behind all keys. */
	ask_and_write(&answer);
	ipc_write_uint(&wire.w, 1);
	wire_send(&wire, IPC_REPLY, SECRET_KEYS, 1);
	assert_malformed(&answer);
	/* Cut within the last key. */
	ask_and_write(&answer);
	wire.w.len -= 8;
	wire_send(&wire, IPC_REPLY, SECRET_KEYS, 1);
	assert_malformed(&answer);
	/* An answer to another question. */
	ask_and_write(&answer);
	wire_send(&wire, IPC_REPLY, SECRET_KEY, 1);
	assert_malformed(&answer);
	/* A datagram longer than any may be: the kernel cuts it. */
	ask_and_write(&answer);
	wire.w.len = IPC_MSG_MAX;
	wire_send(&wire, IPC_REPLY, SECRET_KEYS, 1);
	assert_malformed(&answer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(secret__an_answer_leaves_nothing),
		cmocka_unit_test(secret__nor_does_one_that_does_not_fit),
		cmocka_unit_test(secret__nor_what_nobody_reads),
		cmocka_unit_test(secret__nor_what_waited_to_be_sent),
		cmocka_unit_test(secret__nor_what_was_waited_for),
		cmocka_unit_test(secret__nor_what_cannot_be_read),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
