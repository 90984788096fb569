#include "rig.h"

#include "stored/damage.h"

#include "stored/gc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct entry entry;
static struct page page;

static void engine__a_created_file_is_found_by_every_read(void **state)
{
	struct rig rig = { 0 };
	struct tree_record rec;
	uint64_t oid, lid;
	uint8_t tag[TREE_TAG_SIZE];

	rig_new(&rig);
	oid = rig_file(&rig, TREE_ROOT, "hello", &lid);
	tag_of("hello", tag);
	assert_int_equal(engine_lookup(rig.engine, rig.vol, TREE_ROOT, tag, page_init(&page)), 0);
	assert_int_equal(page_count(&page), 3);
	assert_true(page_find(&page, TREE_LINK, lid, &rec));
	assert_true(rec.e.target == oid && rec.e.stamp.replica == rig.replica);
	assert_int_equal(page.page.num_nodes, 1);
	assert_int_equal(page.nodes[0].nlink, 1);
	tag_of("other", tag);
	assert_int_equal(
		engine_lookup(rig.engine, rig.vol, TREE_ROOT, tag, page_init(&page)), -ENOENT);
	assert_int_equal(engine_inode(rig.engine, rig.vol, oid, page_init(&page)), 0);
	assert_int_equal(page_count(&page), 3);
	assert_true(page_find(&page, TREE_BODY, oid, &rec));
	assert_int_equal(engine_inode(rig.engine, rig.vol, oid + 99, page_init(&page)), -ENOENT);
	assert_int_equal(engine_dir(rig.engine, rig.vol, TREE_ROOT, 0, 0, page_init(&page)), 0);
	assert_int_equal(page_count(&page), 3);
	assert_true(page.page.end);
	rig_free(&rig);
}

static void engine__large_inline_bodies_come_back_whole(void **state)
{
	struct rig rig = { 0 };
	struct tree_record rec;
	uint64_t oid;

	rig_new(&rig);
	oid = rig_file(&rig, TREE_ROOT, "big", NULL);
	for (size_t len = 1000; len < 16000; len += 777) {
		entry_start(&entry, 0);
		put_body(&entry, oid, len, len);
		assert_int_equal(rig_apply(&rig, &entry), 0);
		assert_int_equal(engine_inode(rig.engine, rig.vol, oid, page_init(&page)), 0);
		assert_true(page_find(&page, TREE_BODY, oid, &rec));
		assert_int_equal(rec.sealed_len, len);
		for (size_t i = 0; i < len; i++)
			assert_int_equal(rec.sealed[i], (uint8_t)(len * 31 + i * 7));
	}
	rig_free(&rig);
}

static void engine__directories_page_in_ascending_order(void **state)
{
	struct rig rig = { 0 };
	struct tree_record rec;
	uint64_t dir, after = 0, last = 0;
	size_t seen = 0, pages = 0;
	char name[16];

	rig_new(&rig);
	dir = rig_dir(&rig, TREE_ROOT, "d");
	for (int i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		rig_file(&rig, dir, name, NULL);
	}
	do {
		assert_int_equal(
			engine_dir(rig.engine, rig.vol, dir, after, 0, page_init(&page)), 0);
		for (size_t pos = 0; pos < page.page.len; pos += tree_record_size(&rec)) {
			size_t len = TREE_RECORD_HEAD + (size_t)page.records[pos + 3] * 32 +
				     page.records[pos + 4] + 256u * page.records[pos + 5];

			assert_int_equal(tree_record_parse(page.records + pos, len, &rec), 0);
			if (rec.e.key.kind != TREE_LINK)
				continue;
			assert_true(rec.e.key.id > last);
			last = after = rec.e.key.id;
			seen++;
		}
		pages++;
	} while (!page.page.end);
	assert_int_equal(seen, 1500);
	assert_true(pages > 2);
	assert_int_equal(engine_dir(rig.engine, rig.vol, dir, 0, 10, page_init(&page)), 0);
	assert_int_equal(page.page.num_nodes, 10);
	assert_false(page.page.end);
	assert_int_equal(engine_inode(rig.engine, rig.vol, dir, page_init(&page)), 0);
	assert_int_equal(page.nodes[0].entries, 1500);
	rig_free(&rig);
}

static void engine__hard_links_rename_and_counts(void **state)
{
	struct rig rig = { 0 };
	uint64_t a, b, file, lid, lid2, sub;

	rig_new(&rig);
	a = rig_dir(&rig, TREE_ROOT, "a");
	b = rig_dir(&rig, TREE_ROOT, "b");
	sub = rig_dir(&rig, a, "sub");
	file = rig_file(&rig, a, "f", &lid);
	lid2 = rig_id(&rig);
	entry_start(&entry, 0);
	put_link(&entry, lid2, b, "g", file, false);
	assert_int_equal(rig_apply(&rig, &entry), 0);
	assert_int_equal(engine_inode(rig.engine, rig.vol, file, page_init(&page)), 0);
	assert_int_equal(page.nodes[0].nlink, 2);
	assert_int_equal(page_count(&page), 4);
	/* The directory moves, the file's first link is renamed over nothing. */
	entry_start(&entry, 0);
	put_link(&entry, sub, b, "sub2", sub, true);
	put_link(&entry, lid, b, "f2", file, false);
	assert_int_equal(rig_apply(&rig, &entry), 0);
	assert_int_equal(engine_inode(rig.engine, rig.vol, a, page_init(&page)), 0);
	assert_int_equal(page.nodes[0].entries, 0);
	assert_int_equal(page.nodes[0].subdirs, 0);
	assert_int_equal(engine_inode(rig.engine, rig.vol, b, page_init(&page)), 0);
	assert_int_equal(page.nodes[0].entries, 3);
	assert_int_equal(page.nodes[0].subdirs, 1);
	rig_unlink(&rig, lid, file, false);
	assert_int_equal(engine_inode(rig.engine, rig.vol, file, page_init(&page)), 0);
	assert_int_equal(page.nodes[0].nlink, 1);
	rig_free(&rig);
}

static void engine__an_unlinked_open_file_is_set_aside_until_dropped(void **state)
{
	struct rig rig = { 0 };
	uint64_t oid, lid, oids[8];
	struct tree_record rec;
	struct volume_info info;
	uint8_t tag[TREE_TAG_SIZE];
	size_t num;
	bool end;

	rig_new(&rig);
	oid = rig_file(&rig, TREE_ROOT, "f", &lid);
	rig_unlink(&rig, lid, oid, false);
	tag_of("f", tag);
	assert_int_equal(
		engine_lookup(rig.engine, rig.vol, TREE_ROOT, tag, page_init(&page)), -ENOENT);
	assert_int_equal(engine_inode(rig.engine, rig.vol, oid, page_init(&page)), 0);
	assert_int_equal(page.nodes[0].nlink, 0);
	assert_int_equal(engine_orphans(rig.engine, rig.vol, 0, oids, 8, &num, &end), 0);
	assert_int_equal(num, 1);
	assert_true(oids[0] == oid && end);
	/* Writing to it still works, and does not bring it back. */
	entry_start(&entry, 0);
	put_body(&entry, oid, 4242, 50);
	assert_int_equal(rig_apply(&rig, &entry), 0);
	assert_int_equal(engine_inode(rig.engine, rig.vol, oid, page_init(&page)), 0);
	assert_true(page_find(&page, TREE_BODY, oid, &rec));
	assert_int_equal(rec.sealed_len, 50);
	volume_info(rig.vol, &info);
	assert_int_equal(info.inodes, 0);
	/* It survives a restart, and goes when mountd says so. */
	rig_close(&rig);
	rig_open(&rig);
	assert_int_equal(engine_orphans(rig.engine, rig.vol, 0, oids, 8, &num, &end), 0);
	assert_int_equal(num, 1);
	entry_start(&entry, 0);
	entry_remove(&entry, TREE_ATTR, oid, NULL);
	assert_int_equal(rig_apply(&rig, &entry), 0);
	assert_int_equal(engine_orphans(rig.engine, rig.vol, 0, oids, 8, &num, &end), 0);
	assert_int_equal(num, 0);
	assert_int_equal(engine_inode(rig.engine, rig.vol, oid, page_init(&page)), -ENOENT);
	rig_free(&rig);
}

static void engine__unlink_and_drop_in_one_batch_leaves_nothing(void **state)
{
	struct rig rig = { 0 };
	uint64_t oid, lid, oids[8];
	size_t num;
	bool end;

	rig_new(&rig);
	oid = rig_file(&rig, TREE_ROOT, "f", &lid);
	entry_start(&entry, 0);
	put_xattr(&entry, oid, "user.x", 5, 10);
	assert_int_equal(rig_apply(&rig, &entry), 0);
	rig_unlink(&rig, lid, oid, true);
	assert_int_equal(engine_inode(rig.engine, rig.vol, oid, page_init(&page)), -ENOENT);
	assert_int_equal(engine_orphans(rig.engine, rig.vol, 0, oids, 8, &num, &end), 0);
	assert_int_equal(num, 0);
	rig_free(&rig);
}

static void engine__rmdir_of_a_directory_with_something_in_it_is_ignored(void **state)
{
	struct rig rig = { 0 };
	uint64_t dir;

	rig_new(&rig);
	dir = rig_dir(&rig, TREE_ROOT, "d");
	rig_file(&rig, dir, "f", NULL);
	rig_unlink(&rig, dir, dir, true);
	assert_true(rig.changes.all);
	assert_int_equal(engine_inode(rig.engine, rig.vol, dir, page_init(&page)), 0);
	assert_int_equal(engine_dir(rig.engine, rig.vol, dir, 0, 0, page_init(&page)), 0);
	assert_int_equal(page.page.num_nodes, 1);
	rig_free(&rig);
}

static void engine__xattrs_page_by_tag(void **state)
{
	struct rig rig = { 0 };
	uint8_t after[TREE_TAG_SIZE] = { 0 };
	struct tree_record rec;
	uint64_t oid;
	size_t seen = 0;
	char name[16];

	rig_new(&rig);
	oid = rig_file(&rig, TREE_ROOT, "f", NULL);
	for (int i = 0; i < 9; i++) {
		snprintf(name, sizeof(name), "user.%d", i);
		entry_start(&entry, 0);
		put_xattr(&entry, oid, name, (uint64_t)i, 50000);
		assert_int_equal(rig_apply(&rig, &entry), 0);
	}
	do {
		assert_int_equal(
			engine_xattrs(rig.engine, rig.vol, oid, after, page_init(&page)), 0);
		for (size_t pos = 0; pos < page.page.len;) {
			size_t len = TREE_RECORD_HEAD + 50000;

			assert_int_equal(tree_record_parse(page.records + pos, len, &rec), 0);
			assert_true(memcmp(rec.e.tag, after, TREE_TAG_SIZE) > 0);
			memcpy(after, rec.e.tag, TREE_TAG_SIZE);
			pos += len;
			seen++;
		}
	} while (!page.page.end);
	assert_int_equal(seen, 9);
	assert_int_equal(engine_inode(rig.engine, rig.vol, oid, page_init(&page)), 0);
	assert_int_equal(page.nodes[0].num_xattrs, 9);
	entry_start(&entry, 0);
	entry_remove(&entry, TREE_XATTR, oid, after);
	assert_int_equal(rig_apply(&rig, &entry), 0);
	assert_int_equal(engine_inode(rig.engine, rig.vol, oid, page_init(&page)), 0);
	assert_int_equal(page.nodes[0].num_xattrs, 8);
	rig_free(&rig);
}

static void engine__objects_are_kept_once_and_read_back(void **state)
{
	struct rig rig = { 0 };
	uint8_t data[5000], buf[5000], tag[32] = { 1 }, id[32], again[32], found[32];
	struct place place, second;

	rig_new(&rig);
	memset(data, 7, sizeof(data));
	assert_int_equal(engine_put_object(rig.engine, tag, data, sizeof(data), id), 0);
	assert_int_equal(engine_put_object(rig.engine, NULL, data, sizeof(data), again), 0);
	assert_memory_equal(id, again, 32);
	assert_int_equal(engine_flush(rig.engine), 0);
	assert_int_equal(engine_locate(rig.engine, id, &place), 0);
	assert_int_equal(place.len, sizeof(data));
	assert_int_equal(engine_read_object(rig.engine, id, place, buf), 0);
	assert_memory_equal(buf, data, sizeof(data));
	assert_int_equal(engine_have(rig.engine, tag, found), 0);
	assert_memory_equal(found, id, 32);
	tag[0] = 2;
	assert_int_equal(engine_have(rig.engine, tag, found), -ENOENT);
	rig_kill(&rig);
	rig_open(&rig);
	assert_int_equal(engine_locate(rig.engine, id, &second), 0);
	assert_true(second.offset == place.offset);
	id[0] ^= 1;
	assert_int_equal(engine_locate(rig.engine, id, &place), -ENOENT);
	assert_int_equal(engine_read_object(rig.engine, id, second, buf), -EBADMSG);
	rig_free(&rig);
}

static void put_plain(struct rig *rig, uint8_t byte, uint8_t ret_id[32])
{
	uint8_t data[3000];

	memset(data, byte, sizeof(data));
	assert_int_equal(engine_put_object(rig->engine, NULL, data, sizeof(data), ret_id), 0);
}

static void assert_has(struct rig *rig, const uint8_t tag[32], const uint8_t id[32])
{
	uint8_t found[32];

	assert_int_equal(engine_have(rig->engine, tag, found), 0);
	assert_memory_equal(found, id, 32);
}

static void engine__a_tag_is_learned_later(void **state)
{
	uint8_t one[32], two[32], tag[32] = { 1 }, none[32] = { 0 }, data[3000];
	struct rig rig = { 0 };

	rig_new(&rig);
	put_plain(&rig, 1, one);
	put_plain(&rig, 2, two);
	assert_int_equal(engine_have(rig.engine, tag, none), -ENOENT);
	assert_int_equal(engine_learn_tag(rig.engine, tag, one), 0);
	assert_has(&rig, tag, one);
	/* Not again, and not of what is not here. */
	assert_int_equal(engine_learn_tag(rig.engine, tag, two), 0);
	assert_has(&rig, tag, one);
	assert_int_equal(engine_learn_tag(rig.engine, tag, none), -ENOENT);
	assert_int_equal(engine_learn_tag(rig.engine, none, two), 0);
	assert_int_equal(engine_have(rig.engine, none, data), -ENOENT);
	rig_close(&rig);
	rig_open(&rig);
	assert_has(&rig, tag, one);
	/* No log has it. Who puts the object again brings it back. */
	rig_close(&rig);
	rig.options.rebuild = true;
	rig_open(&rig);
	assert_int_equal(engine_have(rig.engine, tag, none), -ENOENT);
	memset(data, 1, sizeof(data));
	assert_int_equal(engine_put_object(rig.engine, tag, data, sizeof(data), one), 0);
	assert_has(&rig, tag, one);
	rig_free(&rig);
}

/* An object goes before its tags. */
static void engine__a_tag_of_what_has_gone_is_learned_anew(void **state)
{
	uint8_t one[32], two[32], tag[32] = { 1 };
	struct rig rig = { 0 };
	struct place place;

	rig_new(&rig);
	put_plain(&rig, 1, one);
	put_plain(&rig, 2, two);
	assert_int_equal(engine_learn_tag(rig.engine, tag, one), 0);
	assert_int_equal(engine_locate(rig.engine, one, &place), 0);
	assert_int_equal(damage_note(rig.engine, one, place), 0);
	assert_int_equal(engine_have(rig.engine, tag, one), -ENOENT);
	assert_int_equal(engine_learn_tag(rig.engine, tag, two), 0);
	assert_has(&rig, tag, two);
	rig_free(&rig);
}

/* A chunk's writer would be given it. */
static void engine__a_manifest_has_no_tag(void **state)
{
	uint8_t id[32], tag[32] = { 1 }, manifest[16 + 32 + 24 + 256 + 16] = "BZO1\2\1\2";
	struct rig rig = { 0 };

	rig_new(&rig);
	manifest[8] = manifest[16] = 1;
	assert_int_equal(engine_put_object(rig.engine, tag, manifest, sizeof(manifest), id), 0);
	assert_int_equal(engine_learn_tag(rig.engine, tag, id), -ENOENT);
	assert_int_equal(engine_have(rig.engine, tag, id), -ENOENT);
	rig_free(&rig);
}

static void engine__an_entry_is_taken_once(void **state)
{
	struct rig rig = { 0 };
	static struct entry copy;
	uint64_t oid = 0;
	struct volume_info info;

	rig_new(&rig);
	oid = rig_id(&rig);
	entry_start(&entry, 0);
	put_attr(&entry, oid, false, 1);
	put_link(&entry, rig_id(&rig), TREE_ROOT, "x", oid, false);
	copy = entry;
	assert_int_equal(rig_apply(&rig, &entry), 0);
	volume_info(rig.vol, &info);
	assert_int_equal(info.position, rig.position);
	rig_unlink(&rig, oid + 1, oid, true);
	/* The first one again, as after a crash that lost the ring's tail. */
	assert_int_equal(engine_apply(rig.engine, rig.vol, copy.data, copy.len, 7, info.position,
				 &rig.changes),
		0);
	assert_int_equal(engine_inode(rig.engine, rig.vol, oid, page_init(&page)), -ENOENT);
	assert_int_equal(engine_taken(rig.vol, 8), 0);
	rig_free(&rig);
}

/* Every byte flipped and every length: refused or applied, never a crash; the good one passes. */
static void engine__malformed_entries_are_refused(void **state)
{
	struct rig rig = { 0 };
	static struct entry good, bad;
	uint64_t oid, lid, seed = rig_seed();
	size_t refused = 0, i;
	int r;

	rig_new(&rig);
	oid = rig_id(&rig);
	lid = rig_id(&rig);
	entry_start(&good, 0);
	put_attr(&good, oid, false, 1);
	put_body(&good, oid, 1, 30);
	put_link(&good, lid, TREE_ROOT, "x", oid, false);
	for (i = 0; i < good.len; i++) {
		memcpy(bad.data, good.data, good.len);
		r = engine_apply(rig.engine, rig.vol, bad.data, i, 9, 1000 + i, &rig.changes);
		assert_int_equal(r, -EBADMSG);
	}
	for (i = 0; i < 20000; i++) {
		memcpy(bad.data, good.data, good.len);
		for (uint64_t n = 1 + rig_random(&seed) % 3; n > 0; n--)
			bad.data[rig_random(&seed) % (n == 1 ? 64 : good.len)] ^=
				(uint8_t)(1 + rig_random(&seed) % 255);
		r = engine_apply(
			rig.engine, rig.vol, bad.data, good.len, 9, 100000 + i, &rig.changes);
		assert_true(r == 0 || r == -EBADMSG);
		refused += r != 0;
	}
	assert_true(refused > 10000);
	/* Numbers that were never given out. */
	entry_start(&good, 0);
	put_attr(&good, tree_oid(rig.replica, 4000000), false, 1);
	assert_int_equal(rig_apply(&rig, &good), -EBADMSG);
	entry_start(&good, 0);
	put_attr(&good, tree_oid(rig.replica + 1, 2), false, 1);
	assert_int_equal(rig_apply(&rig, &good), -EBADMSG);
	entry_start(&good, 5);
	put_attr(&good, oid, false, 1);
	assert_int_equal(rig_apply(&rig, &good), -EBADMSG);
	/* One register twice. */
	entry_start(&good, 0);
	put_attr(&good, oid, false, 1);
	put_attr(&good, oid, false, 2);
	assert_int_equal(rig_apply(&rig, &good), -EBADMSG);
	rig_file(&rig, TREE_ROOT, "works", NULL);
	rig_free(&rig);
}

/* A disk of a given size and room. */
static uint64_t disk_size, disk_free;

static int fake_statvfs(void *ctx, int fd, struct statvfs *ret)
{
	*ret = (struct statvfs){
		.f_frsize = 4096, .f_blocks = disk_size / 4096, .f_bavail = disk_free / 4096
	};
	return 0;
}

static void reserve__is_for_nobody_who_writes(void **state)
{
	struct store_io io = store_io_file;
	struct engine_stat stat_now;
	struct rig rig = { 0 };

	io.fstatvfs = fake_statvfs;
	disk_size = UINT64_C(1) << 30;
	disk_free = disk_size / 2;
	rig.options.io = &io;
	rig.options.reserve_size = 4 << 20;
	rig_new(&rig);
	assert_int_equal(engine_stat(rig.engine, &stat_now), 0);
	assert_int_equal(stat_now.reserve, 4 << 20);
	/* 2 % of it. */
	disk_free = 22 << 20;
	assert_int_equal(engine_room(rig.engine), 0);
	disk_free = 20 << 20;
	assert_int_equal(engine_room(rig.engine), ENOSPC);
	/* What it gives is no room. */
	assert_int_equal(engine_use_reserve(rig.engine), 0);
	assert_int_equal(engine_use_reserve(rig.engine), -ENOSPC);
	disk_free = 24 << 20;
	assert_int_equal(engine_room(rig.engine), ENOSPC);
	assert_int_equal(engine_stat(rig.engine, &stat_now), 0);
	assert_int_equal(stat_now.reserve, 0);
	/* Room is where it fits in again. */
	disk_free = 48 << 20;
	assert_int_equal(engine_room(rig.engine), 0);
	assert_int_equal(engine_stat(rig.engine, &stat_now), 0);
	assert_int_equal(stat_now.reserve, 4 << 20);
	rig_free(&rig);
	/* A small disk is not all reserve. */
	disk_size = 16 << 20;
	disk_free = 15 << 20;
	rig = (struct rig){ .options = { .io = &io, .reserve_size = 4 << 20 } };
	rig_new(&rig);
	assert_int_equal(engine_room(rig.engine), 0);
	rig_free(&rig);
}

/* A disk without a byte to spare, until the reserve is given up: no arena can be begun. */
static bool is_full;

static ssize_t full_pwrite(void *ctx, int fd, const void *data, size_t len, uint64_t offset)
{
	return is_full && offset == 0 ? -ENOSPC : store_io_file.pwrite(ctx, fd, data, len, offset);
}

static int full_ftruncate(void *ctx, int fd, uint64_t size)
{
	is_full = is_full && size > 0;
	return store_io_file.ftruncate(ctx, fd, size);
}

static void reserve__begins_the_next_arena(void **state)
{
	struct gc_options options = { .is_final = true, .roll = 1 };
	struct store_io io = store_io_file;
	struct volume_info info;
	struct rig rig = { 0 };

	io.fstatvfs = fake_statvfs;
	io.pwrite = full_pwrite;
	io.ftruncate = full_ftruncate;
	disk_size = UINT64_C(1) << 30;
	disk_free = disk_size / 2;
	rig.options.io = &io;
	rig.options.reserve_size = 4 << 20;
	rig_new(&rig);
	rig_file(&rig, TREE_ROOT, "a", NULL);
	is_full = true;
	assert_int_equal(gc_begin(rig.engine, &options), 0);
	gc_end(rig.engine);
	assert_false(is_full);
	rig_file(&rig, TREE_ROOT, "b", NULL);
	/* A second time there is nothing to give: refused, and what was ended is begun later. */
	is_full = true;
	assert_int_equal(gc_begin(rig.engine, &options), -ENOSPC);
	is_full = false;
	rig_file(&rig, TREE_ROOT, "c", NULL);
	assert_int_equal(engine_sync(rig.engine), 0);
	rig_kill(&rig);
	rig_open(&rig);
	volume_info(rig.vol, &info);
	assert_int_equal(info.links, 3);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(engine__a_created_file_is_found_by_every_read),
		cmocka_unit_test(engine__large_inline_bodies_come_back_whole),
		cmocka_unit_test(engine__directories_page_in_ascending_order),
		cmocka_unit_test(engine__hard_links_rename_and_counts),
		cmocka_unit_test(engine__an_unlinked_open_file_is_set_aside_until_dropped),
		cmocka_unit_test(engine__unlink_and_drop_in_one_batch_leaves_nothing),
		cmocka_unit_test(engine__rmdir_of_a_directory_with_something_in_it_is_ignored),
		cmocka_unit_test(engine__xattrs_page_by_tag),
		cmocka_unit_test(engine__objects_are_kept_once_and_read_back),
		cmocka_unit_test(engine__a_tag_is_learned_later),
		cmocka_unit_test(engine__a_tag_of_what_has_gone_is_learned_anew),
		cmocka_unit_test(engine__a_manifest_has_no_tag),
		cmocka_unit_test(engine__an_entry_is_taken_once),
		cmocka_unit_test(engine__malformed_entries_are_refused),
		cmocka_unit_test(reserve__is_for_nobody_who_writes),
		cmocka_unit_test(reserve__begins_the_next_arena),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
