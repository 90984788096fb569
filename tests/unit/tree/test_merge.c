/*
 * Sequences with a known outcome: the figures of Cox and Josephson's vector time pairs paper (one
 * file on several replicas), the classic traps of replicated trees, and answers that no honest peer
 * gives.
 */
#include "sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { A, B, C, D };

static struct sim sim;

static int setup(void **state)
{
	sim_init(&sim, 1, &(struct sim_params){ .num_peers = 4 });
	return 0;
}

static int teardown(void **state)
{
	int r = sim.failure[0] != 0;

	if (r)
		print_error("%s\n", sim.failure);
	sim_release(&sim);
	return r;
}

/* A file that all peers have; returns its oid. */
static uint64_t shared_file(uint64_t parent, uint64_t *ret_lid)
{
	uint64_t lid = sim_create(&sim, A, parent, 1, false);
	struct tree_element link;

	for (int p = B; p <= D; p++)
		sim_pull(&sim, p, A);
	assert_int_equal(sim_winner(&sim.peers[A], lid, &link), 0);
	if (ret_lid)
		*ret_lid = lid;
	return link.target;
}

static uint32_t write_body(int p, uint64_t oid)
{
	return sim_write(&sim, p, TREE_BODY, oid, 0, 0, false);
}

static size_t bodies(int p, uint64_t oid)
{
	return sim_count(&sim.peers[p], TREE_BODY, oid);
}

static void both_pull(int p, int q)
{
	sim_pull(&sim, p, q);
	sim_pull(&sim, q, p);
}

/* --- the paper --- */

static void tra__derived_version_replaces_without_conflict(void **state)
{
	uint64_t oid = shared_file(TREE_ROOT, NULL);
	uint32_t first = write_body(B, oid), second;

	sim_pull(&sim, A, B);
	assert_true(sim_has_write(&sim.peers[A], first));
	second = write_body(A, oid);
	sim_pull(&sim, C, A);
	sim_pull(&sim, B, C);
	assert_int_equal(bodies(B, oid), 1);
	assert_true(sim_has_write(&sim.peers[B], second));
	/* B has what A wrote, although they never spoke of it: nothing is left to do. */
	assert_int_equal(sim_pull(&sim, B, A), 0);
}

static void tra__concurrent_versions_conflict_everywhere(void **state)
{
	uint64_t oid = shared_file(TREE_ROOT, NULL);
	uint32_t a = write_body(A, oid), b = write_body(B, oid);

	sim_pull(&sim, C, A);
	sim_pull(&sim, C, B);
	sim_pull(&sim, D, C);
	assert_int_equal(bodies(D, oid), 2);
	assert_true(sim_has_write(&sim.peers[D], a) && sim_has_write(&sim.peers[D], b));
	sim_settle(&sim);
}

static void tra__resolved_conflict_stays_resolved(void **state)
{
	uint64_t oid = shared_file(TREE_ROOT, NULL);
	uint32_t b, merged;

	write_body(A, oid);
	b = write_body(B, oid);
	sim_pull(&sim, A, B);
	merged = write_body(A, oid);
	/* B still holds the rejected version, and so does C by way of B. */
	sim_pull(&sim, C, B);
	sim_pull(&sim, C, A);
	assert_int_equal(bodies(C, oid), 1);
	sim_pull(&sim, A, B);
	assert_int_equal(bodies(A, oid), 1);
	assert_true(sim_has_write(&sim.peers[A], merged) && !sim_has_write(&sim.peers[A], b));
	sim_settle(&sim);
	assert_int_equal(bodies(B, oid), 1);
}

static void tra__new_edit_on_a_rejected_version_conflicts_again(void **state)
{
	uint64_t oid = shared_file(TREE_ROOT, NULL);
	uint32_t merged, edit;

	write_body(A, oid);
	write_body(B, oid);
	sim_pull(&sim, A, B);
	merged = write_body(A, oid);
	edit = write_body(B, oid);
	both_pull(A, B);
	assert_int_equal(bodies(A, oid), 2);
	assert_true(sim_has_write(&sim.peers[B], merged) && sim_has_write(&sim.peers[B], edit));
}

static void tra__deletion_goes_round_and_never_comes_back(void **state)
{
	uint64_t lid, oid = shared_file(TREE_ROOT, &lid);

	sim_unlink(&sim, A, lid);
	sim_pull(&sim, B, A);
	sim_pull(&sim, C, B);
	assert_int_equal(bodies(C, oid), 0);
	/* D has been away and offers its old copy to all. */
	for (int p = A; p <= C; p++)
		sim_pull(&sim, p, D);
	sim_settle(&sim);
	for (int p = A; p <= D; p++)
		assert_int_equal(sim.peers[p].num, 0);
}

static void tra__independent_creation_does_not_clash_with_a_deletion(void **state)
{
	uint64_t lid, other;

	shared_file(TREE_ROOT, &lid);
	sim_unlink(&sim, A, lid);
	other = sim_create(&sim, B, TREE_ROOT, 1, false);
	sim_settle(&sim);
	assert_int_equal(sim_count(&sim.peers[A], TREE_LINK, other), 1);
	assert_int_equal(sim_count(&sim.peers[B], TREE_LINK, lid), 0);
	assert_int_equal(sim.num_revived, 0);
}

static void tra__edit_beats_deletion(void **state)
{
	uint64_t lid, oid = shared_file(TREE_ROOT, &lid);
	uint32_t edit = write_body(B, oid);

	sim_unlink(&sim, A, lid);
	sim_pull(&sim, A, B); /* the side that deleted has to ask for the rest */
	assert_true(sim.num_needs > 0);
	sim_settle(&sim);
	assert_true(sim_has_write(&sim.peers[D], edit));
	assert_int_equal(sim_count(&sim.peers[D], TREE_LINK, lid), 1);
}

static void tra__deletion_after_the_edit_was_seen_wins(void **state)
{
	uint64_t lid, oid = shared_file(TREE_ROOT, &lid);

	write_body(B, oid);
	sim_pull(&sim, A, B);
	sim_unlink(&sim, A, lid);
	sim_settle(&sim);
	assert_int_equal(bodies(B, oid), 0);
	assert_int_equal(sim.num_revived, 0);
}

/* --- the log of deletions --- */

static void log__cut_log_still_deletes(void **state)
{
	uint64_t lid, oid = shared_file(TREE_ROOT, &lid);

	sim_unlink(&sim, A, lid);
	sim_create(&sim, A, TREE_ROOT, 2, false);
	for (int i = 0; i < 20; i++)
		sim_cut_log(&sim, A);
	assert_int_equal(sim.peers[A].num_log, 0);
	sim_pull(&sim, B, A);
	assert_int_equal(sim.num_full, 1);
	assert_int_equal(bodies(B, oid), 0);
	/* What B cannot know of, C must not miss: B's horizon rises with A's. */
	sim_pull(&sim, C, B);
	assert_int_equal(sim.num_full, 2);
	assert_int_equal(bodies(C, oid), 0);
}

static void log__label_travels_past_peers_that_never_had_it(void **state)
{
	uint64_t lid = sim_create(&sim, A, TREE_ROOT, 1, false);

	sim_pull(&sim, D, A);
	sim_unlink(&sim, A, lid);
	sim_pull(&sim, B, A);
	sim_pull(&sim, C, B);
	assert_int_equal(sim.peers[C].num, 0);
	sim_pull(&sim, D, C);
	assert_int_equal(sim.peers[D].num, 0);
	assert_int_equal(sim.num_full, 0);
}

static void log__pull_raises_nobodys_epoch(void **state)
{
	uint64_t lid, oid = shared_file(TREE_ROOT, &lid);

	write_body(A, oid);
	sim_unlink(&sim, A, lid);
	sim_pull(&sim, B, A);
	assert_int_equal(
		tree_knowledge_compare(&sim.peers[A].state.known, &sim.peers[B].state.known),
		TREE_EQUAL);
}

/* --- the tree --- */

static void tree__rmdir_against_create_keeps_the_directory(void **state)
{
	uint64_t dir = sim_create(&sim, A, TREE_ROOT, 1, true), sub, file;

	sub = sim_create(&sim, A, dir, 2, true);
	sim_settle(&sim);
	sim_remove_tree(&sim, A, dir);
	file = sim_create(&sim, B, sub, 3, false);
	both_pull(A, B);
	sim_settle(&sim);
	for (int p = A; p <= D; p++) {
		assert_true(sim_is_shown(&sim.peers[p], file, sub));
		assert_true(sim_is_shown(&sim.peers[p], sub, dir));
		assert_true(sim_is_shown(&sim.peers[p], dir, TREE_ROOT));
	}
}

static void tree__crossed_moves_make_no_cycle(void **state)
{
	uint64_t x = sim_create(&sim, A, TREE_ROOT, 1, true);
	uint64_t y = sim_create(&sim, A, TREE_ROOT, 2, true);

	sim_settle(&sim);
	sim_rename(&sim, A, x, y, 1);
	sim_rename(&sim, B, y, x, 2);
	sim_settle(&sim);
	/* The greater link, B's, would close the cycle: y is shown in the root and x below it. */
	for (int p = A; p <= D; p++) {
		assert_true(sim_is_shown(&sim.peers[p], y, TREE_ROOT));
		assert_true(sim_is_shown(&sim.peers[p], x, y));
	}
	sim_rmdir(&sim, C, x);
	sim_rmdir(&sim, C, y);
	sim_settle(&sim);
	assert_int_equal(sim.peers[A].num, 0);
}

static void tree__unlinks_of_different_last_links_keep_one(void **state)
{
	uint64_t first, oid = shared_file(TREE_ROOT, &first);
	uint64_t second = sim_link(&sim, A, oid, TREE_ROOT, 2);

	sim_settle(&sim);
	sim_unlink(&sim, A, first);
	sim_unlink(&sim, B, second);
	both_pull(A, B);
	sim_settle(&sim);
	assert_int_equal(bodies(C, oid), 1);
	assert_int_equal(sim_count(&sim.peers[C], TREE_LINK, first) +
				 sim_count(&sim.peers[C], TREE_LINK, second),
		1);
}

static void tree__rename_and_edit_merge(void **state)
{
	uint64_t lid, oid = shared_file(TREE_ROOT, &lid);
	uint64_t dir = sim_create(&sim, A, TREE_ROOT, 3, true);
	uint32_t edit = write_body(B, oid);

	sim_rename(&sim, A, lid, dir, 4);
	sim_settle(&sim);
	assert_true(sim_is_shown(&sim.peers[C], lid, dir));
	assert_true(sim_has_write(&sim.peers[C], edit));
	sim_check_no_conflict(&sim, C);
}

static void tree__inode_comes_back_with_its_xattrs(void **state)
{
	uint64_t lid, oid = shared_file(TREE_ROOT, &lid);

	sim_write(&sim, A, TREE_XATTR, oid, 1, 0, false);
	sim_settle(&sim);
	sim_unlink(&sim, A, lid);
	sim_write(&sim, B, TREE_ATTR, oid, 0, 0, false);
	write_body(B, oid);
	sim_link(&sim, B, oid, TREE_ROOT, 2);
	sim_pull(&sim, A, B);
	assert_int_equal(sim_count(&sim.peers[A], TREE_XATTR, oid), 1);
	sim_settle(&sim);
	assert_int_equal(sim_count(&sim.peers[D], TREE_XATTR, oid), 1);
}

static void tree__write_next_to_an_unseen_version_keeps_it(void **state)
{
	uint64_t oid = shared_file(TREE_ROOT, NULL);
	uint32_t mine, theirs;

	mine = write_body(A, oid);
	theirs = write_body(B, oid);
	sim_pull(&sim, A, B);
	/* Of equal Lamport times B's is the winner; the handle's write follows that one and A's
	 * stays. */
	sim_write(&sim, A, TREE_BODY, oid, 0, 0, true);
	sim_settle(&sim);
	assert_int_equal(bodies(C, oid), 2);
	assert_true(sim_has_write(&sim.peers[C], mine) && !sim_has_write(&sim.peers[C], theirs));
}

static void tree__restored_store_under_its_old_number_is_noticed(void **state)
{
	struct tree_knowledge before = { 0 };
	uint64_t oid = shared_file(TREE_ROOT, NULL);

	assert_int_equal(tree_knowledge_copy(&before, &sim.peers[A].state.known), 0);
	write_body(A, oid);
	sim_pull(&sim, B, A);
	tree_knowledge_release(&sim.peers[A].state.known);
	sim.peers[A].state.known = before;
	assert_int_equal(sim_pull(&sim, A, B), -ENOTUNIQ);
	sim.failure[0] = 0;
}

/* --- peers that lie --- */

static int none_unit(void *ctx, const struct tree_unit *unit, tree_visit_fn *visit, void *arg)
{
	return 0;
}

static int none_oid(void *ctx, uint64_t oid, tree_visit_fn *visit, void *arg)
{
	return 0;
}

static int none(void *ctx, tree_visit_fn *visit, void *arg)
{
	return 0;
}

static const struct tree_local empty = { NULL, none_unit, none_oid, none_oid, none };

struct liar {
	struct tree_state me;
	struct tree_knowledge remote, asked;
	struct tree_pull *pull;
};

static void liar_begin(struct liar *l)
{
	*l = (struct liar){ .me.clock = { .replica = 1, .epoch = 1 } };
	assert_int_equal(tree_knowledge_raise(&l->remote, (struct tree_stamp){ 5, 2 }), 0);
	assert_int_equal(tree_pull_new(&l->pull, &l->asked, &l->remote, &l->asked, false), 0);
}

static void liar_end(struct liar *l)
{
	tree_pull_free(l->pull);
	tree_knowledge_release(&l->remote);
	tree_knowledge_release(&l->asked);
	tree_state_release(&l->me);
}

static struct tree_record attr_record(uint64_t oid, struct tree_stamp stamp)
{
	return (struct tree_record){
		.e = { .key = { .id = oid, .kind = TREE_ATTR }, .stamp = stamp, .lamport = 1 }
	};
}

static struct tree_record link_record(uint64_t lid, uint64_t oid, uint64_t parent)
{
	return (struct tree_record){ .e = { .key = { .id = lid, .kind = TREE_LINK },
					     .stamp = { 1, 2 },
					     .lamport = 1,
					     .parent = parent,
					     .target = oid } };
}

static void pull__refuses_what_an_honest_peer_does_not_send(void **state)
{
	const struct tree_unit unit = { .id = 77 };
	struct tree_record good = attr_record(77, (struct tree_stamp){ 5, 2 });
	struct tree_record beyond = attr_record(77, (struct tree_stamp){ 6, 2 });
	struct tree_record other = attr_record(78, (struct tree_stamp){ 1, 2 });
	struct tree_record wrong = link_record(77, 77, TREE_ROOT);
	struct liar l;

	liar_begin(&l);
	assert_int_equal(tree_pull_record(l.pull, &good, 0), -EBADMSG); /* no unit yet */
	assert_int_equal(tree_pull_unit(l.pull, &unit), 0);
	assert_int_equal(tree_pull_record(l.pull, &good, 0), 0);
	assert_int_equal(tree_pull_record(l.pull, &beyond, 0), -EBADMSG);
	assert_int_equal(tree_pull_record(l.pull, &other, 0), -EBADMSG);
	assert_int_equal(tree_pull_record(l.pull, &wrong, 0), -EBADMSG);
	/* A stamp alone is for what we once had. */
	assert_int_equal(tree_pull_element(l.pull, &good.e.key, good.e.stamp), -EBADMSG);
	assert_int_equal(tree_pull_dead(l.pull, &unit, (struct tree_stamp){ 6, 2 }), -EBADMSG);
	assert_int_equal(tree_pull_inode(l.pull, 0), -EBADMSG);
	liar_end(&l);
}

static void pull__link_to_nothing_is_asked_for_and_then_given_up(void **state)
{
	struct tree_record link = link_record(80, 81, TREE_ROOT);
	struct liar l;

	liar_begin(&l);
	assert_int_equal(
		tree_pull_unit(l.pull, &(struct tree_unit){ .id = 80, .is_link = true }), 0);
	assert_int_equal(tree_pull_record(l.pull, &link, 0), 0);
	assert_int_equal(tree_pull_step(l.pull, &l.me, &empty), TREE_PULL_NEED);
	assert_int_equal(l.pull->num_needs, 1);
	assert_int_equal(l.pull->needs[0], 81);
	assert_int_equal(tree_pull_inode(l.pull, 81), 0);
	assert_int_equal(tree_pull_step(l.pull, &l.me, &empty), -EAGAIN);
	liar_end(&l);
}

static void pull__older_knowledge_than_asked_with_is_refused(void **state)
{
	struct liar l;

	liar_begin(&l);
	tree_pull_free(l.pull);
	assert_int_equal(tree_pull_new(&l.pull, &l.remote, &l.remote, &l.asked, false), 0);
	assert_int_equal(tree_pull_step(l.pull, &l.me, &empty), -ESTALE);
	liar_end(&l);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(tra__derived_version_replaces_without_conflict),
		CASE(tra__concurrent_versions_conflict_everywhere),
		CASE(tra__resolved_conflict_stays_resolved),
		CASE(tra__new_edit_on_a_rejected_version_conflicts_again),
		CASE(tra__deletion_goes_round_and_never_comes_back),
		CASE(tra__independent_creation_does_not_clash_with_a_deletion),
		CASE(tra__edit_beats_deletion),
		CASE(tra__deletion_after_the_edit_was_seen_wins),
		CASE(log__cut_log_still_deletes),
		CASE(log__label_travels_past_peers_that_never_had_it),
		CASE(log__pull_raises_nobodys_epoch),
		CASE(tree__rmdir_against_create_keeps_the_directory),
		CASE(tree__crossed_moves_make_no_cycle),
		CASE(tree__unlinks_of_different_last_links_keep_one),
		CASE(tree__rename_and_edit_merge),
		CASE(tree__inode_comes_back_with_its_xattrs),
		CASE(tree__write_next_to_an_unseen_version_keeps_it),
		CASE(tree__restored_store_under_its_old_number_is_noticed),
		cmocka_unit_test(pull__refuses_what_an_honest_peer_does_not_send),
		cmocka_unit_test(pull__link_to_nothing_is_asked_for_and_then_given_up),
		cmocka_unit_test(pull__older_knowledge_than_asked_with_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
