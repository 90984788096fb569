#include "rig.h"

#include "stored/settings.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define KEY_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define KEY_B "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"

static const uint8_t keyid[8] = "keyid678";

static void settings__names_are_checked(void **state)
{
	static const char *const bad[] = { "", "a b", "../x", ".hidden", "-x", "a/b", "\xc3\xa4",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
	struct rig rig = { 0 };

	rig_new(&rig);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(
			settings_volume_add(rig.engine, bad[i], NULL, "default", keyid), -EINVAL);
		assert_non_null(strstr(engine_error(rig.engine), "use 1 to 64"));
	}
	assert_int_equal(settings_volume_add(rig.engine, "Ok_1.x-y", NULL, "default", keyid), 0);
	assert_int_equal(
		settings_volume_add(rig.engine, "Ok_1.x-y", NULL, "default", keyid), -EEXIST);
	assert_null(settings_volume(rig.engine, "nope"));
	assert_non_null(strstr(engine_error(rig.engine), "bazil volume list"));
	rig_free(&rig);
}

static void settings__survive_a_kill_and_a_rebuild(void **state)
{
	struct settings_storage storages[4];
	struct settings_peer peers[4];
	struct volume_info info, again;
	struct rig rig = { 0 };
	uint8_t id[16];
	size_t num;

	rig_new(&rig);
	volume_info(rig.vol, &info);
	memcpy(id, info.id, 16);
	assert_int_equal(settings_peer_add(rig.engine, KEY_A, "laptop"), 0);
	assert_int_equal(settings_peer_location(rig.engine, "laptop", "host:1234"), 0);
	assert_int_equal(settings_peer_storage(rig.engine, KEY_A, "local", true), 0);
	assert_int_equal(settings_peer_volume(rig.engine, "laptop", "v", true), 0);
	assert_int_equal(settings_storage_add(rig.engine, "v", "laptop", ""), 0);
	rig_kill(&rig);
	rig.options.rebuild = true;
	rig_open(&rig);
	volume_info(rig.vol, &again);
	assert_memory_equal(again.id, id, 16);
	assert_int_equal(again.replica, rig.replica);
	assert_int_equal(settings_peers(rig.engine, peers, 4, &num), 0);
	assert_int_equal(num, 1);
	assert_string_equal(peers[0].nickname, "laptop");
	assert_string_equal(peers[0].address, "host:1234");
	assert_true(peers[0].may_store);
	assert_true(settings_peer_may_pull(rig.engine, peers[0].key, id));
	assert_int_equal(settings_storages(rig.engine, id, storages, 4, &num), 0);
	assert_int_equal(num, 2);
	assert_string_equal(storages[0].storage, "local");
	assert_string_equal(storages[1].storage, "peerkey:" KEY_A);
	rig_free(&rig);
}

static void settings__what_is_removed_is_gone_with_its_rights(void **state)
{
	struct settings_peer peer;
	struct volume_info info;
	struct rig rig = { 0 };
	uint8_t id[16], key[32];
	size_t num;

	rig_new(&rig);
	volume_info(rig.vol, &info);
	memcpy(id, info.id, 16);
	memset(key, 0xbb, 32);
	assert_int_equal(settings_peer_add(rig.engine, KEY_B, "b"), 0);
	assert_int_equal(settings_peer_add(rig.engine, KEY_B, "c"), -EEXIST);
	assert_int_equal(settings_peer_add(rig.engine, KEY_A, "b"), -EEXIST);
	assert_int_equal(settings_peer_add(rig.engine, KEY_A, ""), 0);
	assert_int_equal(settings_peer_add(rig.engine, "zz", ""), -EINVAL);
	assert_false(settings_peer_may_pull(rig.engine, key, id));
	assert_int_equal(settings_peer_volume(rig.engine, "b", "v", true), 0);
	assert_true(settings_peer_may_pull(rig.engine, key, id));
	assert_int_equal(settings_peer_volume(rig.engine, "b", "v", false), 0);
	assert_false(settings_peer_may_pull(rig.engine, key, id));
	assert_int_equal(settings_peer_volume(rig.engine, "b", "v", true), 0);
	assert_int_equal(settings_peer_remove(rig.engine, "b"), 0);
	assert_int_equal(settings_peer_get(rig.engine, key, &peer), -ENOENT);
	assert_int_equal(settings_peer_add(rig.engine, KEY_B, "b"), 0);
	assert_false(settings_peer_may_pull(rig.engine, key, id));
	assert_int_equal(settings_peer_volume(rig.engine, "b", "v", true), 0);
	/* The volume with its files, its storages and the rights to it. */
	rig_file(&rig, TREE_ROOT, "f", NULL);
	assert_int_equal(settings_volume_remove(rig.engine, "v"), 0);
	assert_false(settings_peer_may_pull(rig.engine, key, id));
	assert_int_equal(settings_volume_add(rig.engine, "v", id, "default", keyid), 0);
	rig.vol = settings_volume(rig.engine, "v");
	volume_info(rig.vol, &info);
	assert_int_equal(info.links, 0);
	struct settings_storage storages[4];
	assert_int_equal(settings_storages(rig.engine, id, storages, 4, &num), 0);
	assert_int_equal(num, 1);
	assert_int_equal(settings_storage_remove(rig.engine, "v", "local"), 0);
	assert_int_equal(settings_storage_remove(rig.engine, "v", "local"), -ENOENT);
	assert_int_equal(settings_storage_add(rig.engine, "v", "nobody", ""), -EINVAL);
	rig_kill(&rig);
	rig_open(&rig);
	assert_int_equal(settings_storages(rig.engine, id, storages, 4, &num), 0);
	assert_int_equal(num, 0);
	rig_free(&rig);
}

static void settings__a_location_is_one_that_can_be_dialed(void **state)
{
	static const char *const good[] = { "host", "host:1", "host:65535", "192.0.2.1:34211",
		"2001:db8::1", "[2001:db8::1]", "[::1]:34211" };
	static const char *const bad[] = { ":34211", "host:", "host:0", "host:65536",
		"host:99999999999", "host:12x", "a host:1", "[]:1", "[::1", "[::1]x", "[::1]:0",
		"host:1\n" };
	struct settings_peer peer;
	struct rig rig = { 0 };
	uint8_t key[32];

	rig_new(&rig);
	memset(key, 0xaa, 32);
	assert_int_equal(settings_peer_add(rig.engine, KEY_A, "a"), 0);
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_int_equal(settings_peer_location(rig.engine, "a", good[i]), 0);
		assert_int_equal(settings_peer_get(rig.engine, key, &peer), 0);
		assert_string_equal(peer.address, good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(settings_peer_location(rig.engine, "a", bad[i]), -EINVAL);
	assert_int_equal(settings_peer_get(rig.engine, key, &peer), 0);
	assert_string_equal(peer.address, good[6]);
	assert_int_equal(settings_peer_location(rig.engine, "a", ""), 0);
	rig_free(&rig);
}

static void settings__a_stranger_is_no_storage(void **state)
{
	struct rig rig = { 0 };

	rig_new(&rig);
	assert_int_equal(settings_storage_add(rig.engine, "v", "peerkey:" KEY_A, ""), -EINVAL);
	assert_int_equal(settings_peer_add(rig.engine, KEY_A, ""), 0);
	assert_int_equal(settings_storage_add(rig.engine, "v", "peerkey:" KEY_A, ""), 0);
	assert_int_equal(settings_peer_remove(rig.engine, KEY_A), 0);
	assert_int_equal(settings_storage_remove(rig.engine, "v", "peerkey:" KEY_A), 0);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(settings__names_are_checked),
		cmocka_unit_test(settings__survive_a_kill_and_a_rebuild),
		cmocka_unit_test(settings__what_is_removed_is_gone_with_its_rights),
		cmocka_unit_test(settings__a_location_is_one_that_can_be_dialed),
		cmocka_unit_test(settings__a_stranger_is_no_storage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
