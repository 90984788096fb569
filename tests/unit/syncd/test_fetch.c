/* Far objects: storages in order, whole or absent, checked, and bounded however slow the other side
 * is. */
#include "ipc/chan.h"
#include "net.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct net net;
static struct node *a, *b, *c;

static int setup(void **unused)
{
	net_init(&net);
	a = net_node(&net, "alice");
	b = net_node(&net, "bob");
	c = net_node(&net, "carol");
	node_knows(a, b, b->port);
	node_knows(a, c, c->port);
	node_knows(b, a, 0);
	node_knows(c, a, 0);
	a->storages[a->num_storages++] = b;
	a->storages[a->num_storages++] = c;
	node_changed(a);
	return 0;
}

static int teardown(void **unused)
{
	net_release(&net);
	return 0;
}

static void fetch__asks_storages_in_order(void **unused)
{
	static struct outcome out;
	uint8_t ids[4][32];

	node_store(b, 100, ids[0]);
	node_store(c, 70000, ids[1]);
	node_store(b, 300000, ids[2]);
	memset(ids[3], 7, 32);
	node_fetch(a, ids, 4, 3000, &out);
	assert_int_equal(out.err, 0);
	assert_int_equal(out.num_lens, 4);
	assert_int_equal(out.lens[0], 100);
	assert_int_equal(out.lens[1], 70000);
	assert_int_equal(out.lens[2], 300000);
	assert_int_equal(out.lens[3], 0);
	for (int i = 0; i < 3; i++)
		assert_true(node_got(a, ids[i]));
	assert_int_equal(a->num_arrived, 3);
}

static void fetch__says_why_there_is_nothing(void **unused)
{
	static struct outcome out;
	uint8_t id[1][32] = { { 1 } };

	node_fetch(a, id, 1, 3000, &out);
	assert_int_equal(out.err, -ENODATA);
	/* Storage is not allowed: an answer as well. */
	node_store(b, 100, id[0]);
	node_known(b, a)->may_store = false;
	node_fetch(a, id, 1, 3000, &out);
	assert_int_equal(out.err, -ENODATA);
	/* Nobody can be reached. */
	node_knows(a, b, 1);
	node_knows(a, c, 1);
	node_forgets(b, a);
	node_forgets(c, a);
	net_run(&net, 0.1);
	node_fetch(a, id, 1, 3000, &out);
	assert_int_equal(out.err, -EHOSTUNREACH);
	a->num_storages = 0;
	node_changed(a);
	node_fetch(a, id, 1, 3000, &out);
	assert_int_equal(out.err, -EHOSTUNREACH);
}

static void fetch__one_away_is_no_matter(void **unused)
{
	static struct outcome out;
	uint8_t id[1][32];

	node_knows(a, b, 1);
	node_store(c, 1000, id[0]);
	node_fetch(a, id, 1, 3000, &out);
	assert_int_equal(out.err, 0);
	assert_int_equal(out.lens[0], 1000);
}

static void fetch__wrong_bytes_are_refused(void **unused)
{
	static struct outcome out;
	uint8_t id[1][32];

	node_store(b, 1000, id[0]);
	b->sends_wrong_objects = true;
	node_fetch(a, id, 1, 3000, &out);
	assert_int_equal(out.err, -ENODATA);
	assert_int_equal(a->num_arrived, 0);
	assert_int_equal(a->d.counters[SYNCD_OBJECTS_WRONG], 1);
	/* Another one has it right. */
	memcpy(c->objects, b->objects, sizeof(c->objects[0]));
	c->num_objects = 1;
	node_fetch(a, id, 1, 3000, &out);
	assert_int_equal(out.err, 0);
	assert_int_equal(out.lens[0], 1000);
	c->num_objects = 0;
}

static void fetch__ends_at_its_deadline(void **unused)
{
	static struct outcome out;
	uint8_t id[1][32];
	ev_tstamp began = ev_now(net.loop);

	node_store(b, 1000, id[0]);
	b->is_silent = true;
	node_fetch(a, id, 1, 400, &out);
	assert_int_equal(out.err, -ETIMEDOUT);
	assert_true(ev_now(net.loop) - began < 1.5);
	/* What comes afterwards hurts nobody. */
	b->is_silent = false;
	node_kill_stored(b);
	node_start_stored(b);
	net_run(&net, 0.1);
	node_fetch(a, id, 1, 2000, &out);
	assert_int_equal(out.err, 0);
}

static void fetch__many_at_once_share_what_comes(void **unused)
{
	static struct outcome out[20];
	uint8_t ids[30][32];

	/* More than a window and than the ring. */
	for (int i = 0; i < 30; i++)
		node_store(b, 150000 + net_random(&net) % 150000, ids[i]);
	for (int i = 0; i < 20; i++)
		node_fetch_begin(a, ids + i, 10, 10000, &out[i]);
	for (int i = 0; i < 20; i++) {
		assert_true(net_wait(&net, &out[i].is_done, 10));
		assert_int_equal(out[i].err, 0);
		for (int k = 0; k < 10; k++)
			assert_int_equal(out[i].lens[k], b->objects[i + k].len);
	}
	for (int i = 0; i < 29; i++)
		assert_true(node_got(a, ids[i]));
}

static void fetch__a_question_overtakes_objects(void **unused)
{
	static struct outcome out, asked;
	struct proxy *p = net_proxy(&net, b->port);
	uint8_t ids[30][32];

	/* 3 MB at 1 MB/s; a question in the middle takes a fraction of that. */
	node_knows(a, b, p->port);
	p->dir[1].speed = 10000;
	for (int i = 0; i < 10; i++)
		node_store(b, 300000, ids[i]);
	node_fetch_begin(a, ids, 10, 20000, &out);
	net_run(&net, 0.5);
	node_connect(a, "bob", "vol", &asked);
	assert_int_equal(asked.err, 0);
	assert_false(out.is_done);
	assert_true(net_wait(&net, &out.is_done, 10));
	assert_int_equal(out.err, 0);
}

static void fetch__goes_on_when_the_session_breaks(void **unused)
{
	static struct outcome out;
	struct proxy *p = net_proxy(&net, b->port);
	uint8_t ids[8][32];

	node_knows(a, b, p->port);
	for (int i = 0; i < 8; i++)
		node_store(b, 100000, ids[i]);
	p->dir[1].cut_at = 400000;
	p->once = true;
	node_fetch(a, ids, 8, 5000, &out);
	assert_int_equal(out.err, 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(out.lens[i], 100000);
}

static void fetch__a_peer_that_restarts_is_waited_for(void **unused)
{
	static struct outcome out;
	struct proxy *p = net_proxy(&net, b->port);
	uint8_t ids[1][32];

	node_knows(a, b, p->port);
	a->num_storages = 1;
	node_changed(a);
	node_store(b, 100000, ids[0]);
	b->is_silent = true;
	node_fetch_begin(a, ids, 1, 5000, &out);
	net_run(&net, 0.1);
	/* Its connections break, and new ones do as well, until it is back. */
	proxy_reset(p);
	p->dir[0].cut_at = 0;
	p->once = false;
	net_run(&net, 0.5);
	assert_false(out.is_done);
	b->is_silent = false;
	proxy_reset(p);
	assert_true(net_wait(&net, &out.is_done, 5));
	assert_int_equal(out.err, 0);
	/* One that stays away is away after a while. */
	proxy_reset(p);
	p->dir[0].cut_at = 0;
	net_run(&net, 0.05);
	memset(ids[0], 1, 32);
	node_fetch(a, ids, 1, 5000, &out);
	assert_int_equal(out.err, -EHOSTUNREACH);
}

static void fetch__stored_dies_on_either_side(void **unused)
{
	static struct outcome out;
	uint8_t ids[8][32];

	for (int i = 0; i < 8; i++)
		node_store(b, 100000, ids[i]);
	/* The peer's: asked again. */
	b->is_silent = true;
	node_fetch_begin(a, ids, 8, 5000, &out);
	net_run(&net, 0.2);
	b->is_silent = false;
	node_kill_stored(b);
	net_run(&net, 0.1);
	node_start_stored(b);
	assert_true(net_wait(&net, &out.is_done, 5));
	assert_int_equal(out.err, 0);
	/* Ours: the call is gone with it, nothing else is. */
	b->is_silent = true;
	node_fetch_begin(a, ids, 8, 5000, &out);
	net_run(&net, 0.2);
	node_kill_stored(a);
	assert_true(out.is_done);
	node_start_stored(a);
	net_run(&net, 0.1);
	assert_null(a->d.fetches);
	b->is_silent = false;
	node_kill_stored(b);
	node_start_stored(b);
	a->num_arrived = 0;
	node_fetch(a, ids, 8, 5000, &out);
	assert_int_equal(out.err, 0);
	for (int i = 0; i < 8; i++)
		assert_true(node_got(a, ids[i]));
}

static void fetch__a_peer_that_takes_nothing_is_dropped(void **unused)
{
	static struct outcome out;
	struct proxy *p = net_proxy(&net, b->port);
	uint8_t ids[30][32];
	size_t most = 0;

	node_knows(a, b, p->port);
	for (int i = 0; i < 30; i++)
		node_store(b, 300000, ids[i]);
	p->dir[1].freeze_at = 100000;
	p->once = true;
	node_fetch_begin(a, ids, 30, 20000, &out);
	for (int i = 0; i < 100 && !out.is_done; i++) {
		net_run(&net, 0.05);
		if (b->d.serve.bytes > most)
			most = b->d.serve.bytes;
	}
	/* The second session is not disturbed. */
	assert_true(out.is_done);
	assert_int_equal(out.err, 0);
	assert_true(p->num_connections >= 2);
	assert_true(most <= 2 * 30 * 300000);
	net_run(&net, 0.5);
	assert_int_equal(b->d.serve.bytes, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(fetch__asks_storages_in_order),
		T(fetch__says_why_there_is_nothing),
		T(fetch__one_away_is_no_matter),
		T(fetch__wrong_bytes_are_refused),
		T(fetch__ends_at_its_deadline),
		T(fetch__many_at_once_share_what_comes),
		T(fetch__a_question_overtakes_objects),
		T(fetch__goes_on_when_the_session_breaks),
		T(fetch__a_peer_that_restarts_is_waited_for),
		T(fetch__stored_dies_on_either_side),
		T(fetch__a_peer_that_takes_nothing_is_dropped),
	};
	const char *seed = getenv("BAZIL_SEED");

	printf("BAZIL_SEED=%s\n", seed ? seed : "1");
	cmocka_set_test_filter(getenv("BAZIL_TEST"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
