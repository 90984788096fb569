/* Stores as programs of all formats wrote them are opened, become the present one, and are what
 * they were. */
#include "sample.h"

#include "stored/engine_state.h"

#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void unpack(const char *archive, const char *path)
{
	static char tar[] = "tar", into[] = "-C", strip[] = "--strip-components=1", x[] = "-xJf";
	char *const argv[] = { tar, into, (char *)(uintptr_t)path, strip, x,
		(char *)(uintptr_t)archive, NULL };
	int status;
	pid_t pid;

	assert_int_equal(posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void assert_present(struct rig *rig)
{
	char path[96], text[64] = { 0 }, wanted[32];
	int fd;

	rig_path(rig, "format", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	snprintf(wanted, sizeof(wanted), "version %d\n", ENGINE_FORMAT);
	assert_non_null(strstr(text, wanted));
}

static void seal(struct rig *rig)
{
	for (size_t i = 0; i < rig->engine->arenas.num; i++)
		assert_int_equal(engine_tick(rig->engine), 0);
	for (size_t i = 0; i + 1 < rig->engine->arenas.num; i++)
		assert_true(rig->engine->arenas.list[i].is_sealed);
}

/* As it is, opened again and sealed, and with an index made anew. */
static void read_for_ever(struct rig *rig, const struct sample *sample)
{
	for (int round = 0; round < 4; round++) {
		rig->options.rebuild = round == 2;
		rig_open(rig);
		sample_check(rig, sample);
		assert_present(rig);
		if (round == 1)
			seal(rig);
		rig_close(rig);
	}
	rig_free(rig);
}

/* By format. A new one needs data of its own (HACKING.md, Formats), for those that come behind it.
 */
static const struct sample kept[] = {
	[1] = { .now = UINT64_C(0x6742a36bb14eb39a) },
	[2] = { .now = UINT64_C(0xa73c55afdd680e89) },
	[3] = { UINT64_C(0x67bb84ab1a00c6b1), UINT64_C(1796024031322198959),
		UINT64_C(0xc17ed2aa5c9cb804) },
	[4] = { UINT64_C(0x8f8cf1b6ba60eb9c), UINT64_C(1796024032277114019),
		UINT64_C(0x6b6c8770fb7cb614) },
};
_Static_assert(sizeof(kept) == (ENGINE_FORMAT + 1) * sizeof(kept[0]), "data of each format");

static void formats__stores_of_all_are_read_for_ever(void **state)
{
	char archive[sizeof(BAZIL_TEST_DATA) + 40];

	for (int format = 1; format <= ENGINE_FORMAT; format++) {
		struct rig rig = { 0 };

		snprintf(archive, sizeof(archive), BAZIL_TEST_DATA "/store-v%d/store.tar.xz",
			format);
		snprintf(rig.path, sizeof(rig.path), "/tmp/bazil-store-XXXXXX");
		assert_non_null(mkdtemp(rig.path));
		unpack(archive, rig.path);
		rig.dir_fd = open(rig.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rig.options.reserve_size = UINT64_MAX;
		rig.options.map_size = 64u << 20;
		rig.options.arena_size = 128 << 10;
		read_for_ever(&rig, &kept[format]);
	}
}

static void formats__what_make_store_makes_is_read(void **state)
{
	struct rig rig = { 0 };
	struct sample sample;

	sample_make(&rig, &sample);
	read_for_ever(&rig, &sample);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats__stores_of_all_are_read_for_ever),
		cmocka_unit_test(formats__what_make_store_makes_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
