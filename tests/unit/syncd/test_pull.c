/* Pulls between real cores over loopback: they work, and whatever goes wrong they end, clearly and
 * whole. */
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

static int setup(void **unused)
{
	net_init(&net);
	return 0;
}

static int teardown(void **unused)
{
	net_release(&net);
	return 0;
}

/* Two nodes that know each other; a dials b, b cannot dial a. */
static void two(struct node **a, struct node **b)
{
	*a = net_node(&net, "alice");
	*b = net_node(&net, "bob");
	node_knows(*a, *b, (*b)->port);
	node_knows(*b, *a, 0);
}

/* As two(), with a proxy between. */
static struct proxy *two_and_a_proxy(struct node **a, struct node **b)
{
	struct proxy *p;

	two(a, b);
	p = net_proxy(&net, (*b)->port);
	node_knows(*a, *b, p->port);
	return p;
}

#define assert_text(out, word)                                                                     \
	do {                                                                                       \
		if (!strstr((out).text, word))                                                     \
			fail_msg("error %d: \"%s\" lacks \"%s\"", (out).err, (out).text, word);    \
	} while (0)

static void pull__brings_what_is_new(void **unused)
{
	struct node *a, *b;
	static struct outcome out;

	two(&a, &b);
	node_write(b, 20);
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, 0);
	assert_int_equal(out.num_records, 20);
	assert_int_equal(out.num_changed, 20);
	assert_true(node_has_all(a, b));
	net_run(&net, 0.02);
	assert_int_equal(b->num_serves, 0);

	/* By key as well, over the same session, and only what is new. */
	node_write(b, 3);
	node_sync(a, b->hex, &out);
	assert_int_equal(out.err, 0);
	assert_int_equal(out.num_records, 3);
	assert_int_equal(a->d.counters[SYNCD_SESSIONS], 1);
}

static void pull__of_nothing_is_one_round_trip(void **unused)
{
	struct node *a, *b;
	static struct outcome out;
	struct proxy *p = two_and_a_proxy(&a, &b);
	long before;

	node_write(b, 20);
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, 0);

	net_run(&net, 0.02);
	before = p->frames[0];
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, 0);
	assert_int_equal(out.num_changed, 0);
	assert_true(p->frames[0] - before <= 2);
	assert_false(a->is_pulling);
	assert_int_equal(b->num_serves, 0);
}

static void pull__goes_the_other_way_over_the_same_session(void **unused)
{
	struct node *a, *b;
	static struct outcome out;

	two(&a, &b);
	node_write(a, 5);
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, 0);
	/* bob has no address of alice. */
	node_sync(b, "alice", &out);
	assert_int_equal(out.err, 0);
	assert_true(node_has_all(b, a));
}

static void pull__of_many_pages_and_registers(void **unused)
{
	struct node *a, *b;
	static struct outcome out;

	two(&a, &b);
	node_write(b, 3000);
	b->page_size = 60000;
	a->num_needs = 5;
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, 0);
	assert_true(node_has_all(a, b));
	net_run(&net, 0.02);
	assert_int_equal(b->num_serves, 0);
}

static void pull__errors_say_what_to_do(void **unused)
{
	struct node *a, *b, *c;
	static struct outcome out;

	two(&a, &b);
	c = net_node(&net, "carol");
	node_sync(a, "nobody", &out);
	assert_int_equal(out.err, -ENOENT);
	assert_text(out, "bazil peer add");

	node_sync(b, "alice", &out);
	assert_int_equal(out.err, -EDESTADDRREQ);
	assert_text(out, "bazil peer location set alice");

	/* Nobody listens there. */
	node_knows(a, b, 1);
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, -ECONNREFUSED);
	assert_text(out, "127.0.0.1:1");

	/* carol answers there. */
	node_knows(a, b, c->port);
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, -EKEYREJECTED);
	assert_text(out, "another node");

	/* It is alice herself. */
	node_knows(a, b, a->port);
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, -ELOOP);
	assert_text(out, "itself");

	/* carol does not know alice. */
	node_knows(a, c, c->port);
	node_sync(a, "carol", &out);
	assert_true(out.err < 0);
	assert_text(out, "does it know this node");

	/* bob knows her, and does not allow it. */
	node_knows(a, b, b->port);
	node_known(b, a)->may_pull = false;
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, -EACCES);
	assert_text(out, "bazil peer volume allow");
	assert_null(strstr(out.text, "secret"));
	assert_false(a->is_pulling);

	node_known(b, a)->may_pull = true;
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, 0);
}

static void pull__one_at_a_time_for_a_volume(void **unused)
{
	struct node *a, *b;
	static struct outcome first, second;

	two(&a, &b);
	node_write(b, 500);
	node_sync_begin(a, "bob", &first);
	node_sync_begin(a, "bob", &second);
	assert_true(net_wait(&net, &first.is_done, 5));
	assert_true(net_wait(&net, &second.is_done, 5));
	assert_true((first.err == 0) != (second.err == 0));
	assert_int_equal(first.err == 0 ? second.err : first.err, -EBUSY);
}

static void connect__finds_the_volume(void **unused)
{
	struct node *a, *b;
	static struct outcome out;

	two(&a, &b);
	node_connect(a, "bob", "vol", &out);
	assert_int_equal(out.err, 0);
	assert_memory_equal(out.id, "the-only-volume", 16);
	node_connect(a, "bob", "other", &out);
	assert_int_equal(out.err, -EACCES);
	assert_text(out, "bazil peer volume allow");
	node_connect(a, "nobody", "vol", &out);
	assert_int_equal(out.err, -ENOENT);
	node_connect(b, "alice", "vol", &out);
	assert_int_equal(out.err, 0);
}

/* ---- misfortune ---- */

/* Bytes and frames that a pull takes in each direction. */
static void measure(struct proxy *p, struct node *a, long bytes[2], long frames[2])
{
	static struct outcome out;

	proxy_reset(p);
	a->num_items = 0;
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, 0);
	for (int i = 0; i < 2; i++) {
		bytes[i] = p->bytes[i];
		frames[i] = p->frames[i];
	}
}

/*
 * A pull under mischief: it ends in time, with success or an error that says so; afterwards all is
 * there or nothing, and the next pull, undisturbed, works.
 */
static void disturbed(struct node *a, struct node *b, struct proxy *p, const char *what, long at)
{
	static struct outcome out;

	a->num_items = 0;
	a->num_commits = 0;
	node_sync_begin(a, "bob", &out);
	if (!net_wait(&net, &out.is_done, 8))
		fail_msg("%s %ld: no end", what, at);
	if (out.err == 0 && !node_has_all(a, b))
		fail_msg("%s %ld: success, but something is missing", what, at);
	if (out.err < 0 && a->num_commits == 0 && a->num_items > 0)
		fail_msg("%s %ld: half a pull", what, at);
	if (out.err < 0 && *out.text == 0)
		fail_msg("%s %ld: error %d without words", what, at, out.err);
	if (a->is_pulling)
		fail_msg("%s %ld: the pull is still open at stored", what, at);
	proxy_reset(p);
	node_sync(a, "bob", &out);
	if (out.err < 0)
		fail_msg("%s %ld: the next pull fails: %s", what, at, out.text);
	assert_true(node_has_all(a, b));
	proxy_reset(p);
	for (int i = 0; i < 1000 && b->num_serves > 0; i++)
		net_run(&net, 0.001);
	if (b->num_serves > 0)
		fail_msg("%s %ld: the peer still serves a pull", what, at);
}

static void prepare_mischief(
	struct node **a, struct node **b, struct proxy **p, long bytes[2], long frames[2])
{
	*p = two_and_a_proxy(a, b);
	node_write(*b, 4);
	(*a)->num_needs = 1;
	(*b)->page_size = 1500;
	measure(*p, *a, bytes, frames);
	proxy_reset(*p);
	net_run(&net, 0.01);
}

static long step(void)
{
	const char *runs = getenv("BAZIL_RUNS");

	/* Every byte takes minutes: BAZIL_RUNS=1 does so. */
	return runs ? 1 : 97;
}

static void pull__survives_a_cut_anywhere(void **unused)
{
	struct node *a, *b;
	struct proxy *p;
	long bytes[2], frames[2];

	prepare_mischief(&a, &b, &p, bytes, frames);
	for (int dir = 0; dir < 2; dir++)
		for (long at = net_random(&net) % step(); at < bytes[dir]; at += step()) {
			p->dir[dir].cut_at = at;
			p->once = at % 2;
			disturbed(a, b, p, dir ? "cut in" : "cut out", at);
		}
}

static void pull__a_changed_byte_ends_the_session(void **unused)
{
	struct node *a, *b;
	struct proxy *p;
	long bytes[2], frames[2];

	prepare_mischief(&a, &b, &p, bytes, frames);
	for (int dir = 0; dir < 2; dir++)
		for (long at = net_random(&net) % step(); at < bytes[dir]; at += step()) {
			p->dir[dir].flip_at = at;
			p->once = at % 2;
			disturbed(a, b, p, dir ? "flip in" : "flip out", at);
		}
}

static void pull__frames_repeated_lost_or_swapped(void **unused)
{
	struct node *a, *b;
	struct proxy *p;
	long bytes[2], frames[2];

	prepare_mischief(&a, &b, &p, bytes, frames);
	for (int dir = 0; dir < 2; dir++)
		for (long at = 0; at < frames[dir]; at++) {
			p->once = at % 2;
			p->dir[dir].repeat_frame = at;
			disturbed(a, b, p, "repeat", at);
			p->dir[dir].drop_frame = at;
			disturbed(a, b, p, "drop", at);
			p->dir[dir].swap_frame = at;
			disturbed(a, b, p, "swap", at);
		}
}

static void pull__a_frozen_peer_is_noticed(void **unused)
{
	struct node *a, *b;
	struct proxy *p;
	long bytes[2], frames[2];

	prepare_mischief(&a, &b, &p, bytes, frames);
	for (int dir = 0; dir < 2; dir++)
		for (long at = 0; at < bytes[dir]; at += bytes[dir] / 4) {
			p->once = false;
			p->dir[dir].freeze_at = at;
			disturbed(a, b, p, "freeze", at);
		}
}

static void pull__a_slow_line_is_no_error(void **unused)
{
	struct node *a, *b;
	static struct outcome out;
	struct proxy *p = two_and_a_proxy(&a, &b);

	/* 60 kB/s; the pull takes longer than a stage may take without progress. */
	node_write(b, 100);
	b->page_size = 60000;
	p->dir[1].speed = 600;
	net.limits.stage = 0.8;
	node_sync(a, "bob", &out);
	assert_string_equal(out.text, "");
	assert_int_equal(out.err, 0);
	assert_true(node_has_all(a, b));
}

static void pull__a_peer_whose_store_is_silent_times_out(void **unused)
{
	struct node *a, *b;
	static struct outcome out;

	two(&a, &b);
	node_write(b, 4);
	b->is_silent = true;
	/* Its pings go on. */
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, -ETIMEDOUT);
	assert_text(out, "nothing was changed");
	assert_false(a->is_pulling);
	b->is_silent = false;
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, 0);
}

static void pull__begins_again_when_stored_dies(void **unused)
{
	struct node *a, *b;
	static struct outcome out;

	two(&a, &b);
	node_write(b, 200);
	a->is_silent = true;
	node_sync_begin(a, "bob", &out);
	net_run(&net, 0.2);
	assert_true(a->is_pulling);
	node_kill_stored(a);
	net_run(&net, 0.1);
	assert_false(out.is_done);
	a->is_silent = false;
	node_start_stored(a);
	assert_true(net_wait(&net, &out.is_done, 5));
	assert_int_equal(out.err, 0);
	assert_true(node_has_all(a, b));
	assert_int_equal(a->num_commits, 1);
}

static void pull__ends_when_stored_stays_away(void **unused)
{
	struct node *a, *b;
	static struct outcome out;

	two(&a, &b);
	node_kill_stored(a);
	net_run(&net, 0.05);
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, -ETIMEDOUT);
	assert_text(out, "bazil server status");
	node_start_stored(a);
}

static void pull__begins_again_when_the_peers_stored_dies(void **unused)
{
	struct node *a, *b;
	static struct outcome out;

	two(&a, &b);
	node_write(b, 200);
	b->is_silent = true;
	node_sync_begin(a, "bob", &out);
	net_run(&net, 0.2);
	node_kill_stored(b);
	b->is_silent = false;
	node_start_stored(b);
	assert_true(net_wait(&net, &out.is_done, 5));
	assert_string_equal(out.text, "");
	assert_int_equal(out.err, 0);
	assert_true(node_has_all(a, b));
}

static void pull__an_open_pull_ends_with_the_session(void **unused)
{
	struct node *a, *b;
	static struct outcome out;

	two(&a, &b);
	node_write(b, 200);
	a->is_silent = true;
	node_sync_begin(a, "bob", &out);
	net_run(&net, 0.2);
	assert_int_equal(b->num_serves, 1);
	node_forgets(b, a);
	net_run(&net, 0.05);
	assert_int_equal(b->num_serves, 0);
	assert_int_equal(peers_num_sessions(&b->d.peers), 0);
	assert_int_equal(peers_num_sessions(&a->d.peers), 0);
	node_kill_stored(a);
	node_start_stored(a);
	assert_true(net_wait(&net, &out.is_done, 5));
	/* bob does not know her any more. */
	assert_true(out.err < 0);
}

static void pull__is_given_up_with_its_asker(void **unused)
{
	struct node *a, *b;
	static struct outcome out;

	two(&a, &b);
	node_write(b, 200);
	b->is_silent = true;
	node_sync_begin(a, "bob", &out);
	net_run(&net, 0.2);
	assert_true(a->is_pulling);
	ipc_chan_close(a->ctl_chan);
	a->ctl_chan = NULL;
	net_run(&net, 0.1);
	assert_false(a->is_pulling);
	assert_null(a->d.pulls);
	b->is_silent = false;
}

static void handshake__waits_for_keyd(void **unused)
{
	struct node *a, *b;
	static struct outcome out;

	two(&a, &b);
	net.limits.handshake = 2;
	node_kill_keyd(a);
	node_kill_keyd(b);

	node_sync_begin(a, "bob", &out);
	net_run(&net, 0.2);
	assert_false(out.is_done);
	node_start_keyd(b);
	net_run(&net, 0.1);
	node_start_keyd(a);
	assert_true(net_wait(&net, &out.is_done, 5));
	assert_int_equal(out.err, 0);
}

static void sessions__when_both_dial_one_stays(void **unused)
{
	struct node *a, *b;
	static struct outcome x, y;

	two(&a, &b);
	node_knows(b, a, a->port);
	node_write(a, 300);
	node_write(b, 300);
	node_sync_begin(a, "bob", &x);
	node_sync_begin(b, "alice", &y);
	assert_true(net_wait(&net, &x.is_done, 5));
	assert_true(net_wait(&net, &y.is_done, 5));
	assert_int_equal(x.err, 0);
	assert_int_equal(y.err, 0);
	assert_true(node_has_all(a, b));
	assert_true(node_has_all(b, a));
	net_run(&net, 11);
	assert_int_equal(peers_num_sessions(&a->d.peers), 1);
	assert_int_equal(peers_num_sessions(&b->d.peers), 1);
}

static void sessions__idle_ones_live_and_rekey(void **unused)
{
	struct node *a, *b;
	static struct outcome out;

	two(&a, &b);
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, 0);
	/* Pings keep it, and 16 messages are a key. */
	net.limits.session.rekey_after = 0.3;
	net_run(&net, 3);
	node_write(b, 100);
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, 0);
	assert_int_equal(a->d.counters[SYNCD_SESSIONS], 1);
}

static void sessions__three_nodes_gossip(void **unused)
{
	struct node *n[3];
	static struct outcome out;

	for (int i = 0; i < 3; i++)
		n[i] = net_node(&net, (const char *[]){ "alice", "bob", "carol" }[i]);
	for (int i = 0; i < 3; i++)
		for (int k = 0; k < 3; k++)
			if (i != k)
				node_knows(n[i], n[k], n[k]->port);
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 3; i++)
			node_write(n[i], net_random(&net) % 20);
		for (int i = 0; i < 6; i++) {
			int to = (int)(net_random(&net) % 3),
			    from = (to + 1 + (int)(net_random(&net) % 2)) % 3;
			node_sync(n[to], n[from]->nickname, &out);
			assert_int_equal(out.err, 0);
			assert_true(node_has_all(n[to], n[from]));
		}
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const char *only = getenv("BAZIL_TEST");
	const struct CMUnitTest tests[] = {
		T(pull__brings_what_is_new),
		T(pull__of_nothing_is_one_round_trip),
		T(pull__goes_the_other_way_over_the_same_session),
		T(pull__of_many_pages_and_registers),
		T(pull__errors_say_what_to_do),
		T(pull__one_at_a_time_for_a_volume),
		T(connect__finds_the_volume),
		T(pull__survives_a_cut_anywhere),
		T(pull__a_changed_byte_ends_the_session),
		T(pull__frames_repeated_lost_or_swapped),
		T(pull__a_frozen_peer_is_noticed),
		T(pull__a_slow_line_is_no_error),
		T(pull__a_peer_whose_store_is_silent_times_out),
		T(pull__begins_again_when_stored_dies),
		T(pull__ends_when_stored_stays_away),
		T(pull__begins_again_when_the_peers_stored_dies),
		T(pull__an_open_pull_ends_with_the_session),
		T(pull__is_given_up_with_its_asker),
		T(handshake__waits_for_keyd),
		T(sessions__when_both_dial_one_stays),
		T(sessions__idle_ones_live_and_rekey),
		T(sessions__three_nodes_gossip),
	};
	const char *seed = getenv("BAZIL_SEED");

	printf("BAZIL_SEED=%s\n", seed ? seed : "1");
	cmocka_set_test_filter(only);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
