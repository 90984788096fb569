/* The keyring's files: torn, swapped, on a full disk, and killed at every step of a write. */
#include "keyd/keyfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct node {
	char path[64];
	int dir;
	struct keyring *ring;
	struct keyfile file;
};

static void empty_dir(int dir)
{
	DIR *d = fdopendir(dup(dir));
	struct dirent *e;

	assert_non_null(d);
	rewinddir(d);
	while ((e = readdir(d))) {
		if (e->d_name[0] != '.')
			assert_int_equal(unlinkat(dir, e->d_name, 0), 0);
	}
	closedir(d);
}

static void node_dir(struct node *n)
{
	snprintf(n->path, sizeof(n->path), "/tmp/bazil-keyfile-XXXXXX");
	assert_non_null(mkdtemp(n->path));
	n->dir = open(n->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(n->dir >= 0);
	n->ring = NULL;
}

static void node_create(struct node *n)
{
	node_dir(n);
	assert_int_equal(keyring_new(&n->ring), 0);
	assert_int_equal(keyring_generate(n->ring), 0);
	assert_int_equal(keyfile_create(&n->file, n->dir, n->ring), 0);
}

static void node_remove(struct node *n)
{
	keyring_free(n->ring);
	empty_dir(n->dir);
	close(n->dir);
	assert_int_equal(rmdir(n->path), 0);
}

static int add(struct node *n, const char *name)
{
	uint8_t key[32], id[8];

	randombytes_buf(key, sizeof(key));
	assert_int_equal(keyring_add(n->ring, name, key, id), 0);
	return keyfile_replace(&n->file, n->ring);
}

static int reopen(struct node *n, bool *ret_is_old)
{
	keyring_free(n->ring);
	assert_int_equal(keyring_new(&n->ring), 0);
	return keyfile_open(&n->file, n->dir, n->ring, ret_is_old);
}

static bool has(const struct node *n, const char *name)
{
	for (size_t i = 0; i < keyring_num_sharing(n->ring); i++) {
		if (strcmp(keyring_sharing_name(n->ring, i), name) == 0)
			return true;
	}
	return false;
}

static off_t size_of(struct node *n, const char *name)
{
	struct stat st;

	return fstatat(n->dir, name, &st, 0) < 0 ? -1 : st.st_size;
}

static void put(struct node *n, const char *name, const void *data, size_t len)
{
	int fd = openat(n->dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

static void get(struct node *n, const char *name, void *data, size_t len)
{
	int fd = openat(n->dir, name, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, data, len), len);
	close(fd);
}

static void keyfile__keeps_what_it_was_given(void **state)
{
	uint8_t identity[32];
	struct stat st;
	struct node n;
	bool is_old;

	node_create(&n);
	memcpy(identity, keyring_identity(n.ring), 32);
	assert_int_equal(n.file.generation, 1);
	assert_int_equal(add(&n, "friends"), 0);
	assert_int_equal(reopen(&n, &is_old), 0);
	assert_false(is_old);
	assert_int_equal(n.file.generation, 2);
	assert_memory_equal(identity, keyring_identity(n.ring), 32);
	assert_true(has(&n, "default"));
	assert_true(has(&n, "friends"));
	/* What was opened can be written again, and opened again. */
	assert_int_equal(add(&n, "more"), 0);
	assert_int_equal(reopen(&n, &is_old), 0);
	assert_true(has(&n, "more"));
	for (int i = 0; i < 3; i++) {
		const char *names[] = { "keyring", "keyring.old", "unlock" };

		assert_int_equal(fstatat(n.dir, names[i], &st, 0), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
	}
	assert_int_equal(size_of(&n, "keyring.tmp"), -1);
	assert_int_equal(size_of(&n, "keyring.old.tmp"), -1);
	node_remove(&n);
}

static void keyfile__creates_over_nothing(void **state)
{
	uint8_t before[SEALED_SIZE], after[SEALED_SIZE];
	struct keyfile file;
	struct node n;
	bool is_old;

	node_create(&n);
	get(&n, "keyring", before, sizeof(before));
	assert_int_equal(keyfile_create(&file, n.dir, n.ring), -EEXIST);
	get(&n, "keyring", after, sizeof(after));
	assert_memory_equal(before, after, sizeof(before));
	/* keyring.old alone is a keyring too. */
	assert_int_equal(renameat(n.dir, "keyring", n.dir, "keyring.old"), 0);
	assert_int_equal(keyfile_create(&file, n.dir, n.ring), -EEXIST);
	empty_dir(n.dir);
	assert_int_equal(reopen(&n, &is_old), -ENOENT);
	/* Cut short after the unlock key. */
	put(&n, "unlock", "BZU1", 4);
	put(&n, "keyring.tmp", "half", 4);
	assert_int_equal(keyring_generate(n.ring), 0);
	assert_int_equal(keyfile_create(&n.file, n.dir, n.ring), 0);
	assert_int_equal(reopen(&n, &is_old), 0);
	node_remove(&n);
}

static void keyfile__falls_back_when_torn(void **state)
{
	uint8_t data[SEALED_SIZE];
	struct node n;
	bool is_old;

	node_create(&n);
	assert_int_equal(add(&n, "one"), 0);
	assert_int_equal(add(&n, "two"), 0);
	get(&n, "keyring", data, sizeof(data));
	/* Torn at sectors and at odd places, and rotten anywhere. */
	for (size_t len = 0; len < sizeof(data); len += len % 512 ? 1 : 511) {
		put(&n, "keyring", data, len);
		assert_int_equal(reopen(&n, &is_old), 0);
		assert_true(is_old);
		assert_true(has(&n, "one"));
		assert_false(has(&n, "two"));
		if (len % 512)
			len += 510;
	}
	/* test_sealed.c does it for each byte. */
	for (size_t i = 0; i < sizeof(data); i += 97) {
		data[i] ^= 1;
		put(&n, "keyring", data, sizeof(data));
		assert_int_equal(reopen(&n, &is_old), 0);
		assert_true(is_old);
		data[i] ^= 1;
	}
	put(&n, "keyring", data, sizeof(data));
	assert_int_equal(reopen(&n, &is_old), 0);
	assert_false(is_old);
	assert_true(has(&n, "two"));
	assert_int_equal(unlinkat(n.dir, "keyring", 0), 0);
	assert_int_equal(reopen(&n, &is_old), 0);
	assert_true(is_old);
	node_remove(&n);
}

static void keyfile__heals_without_losing_the_good_one(void **state)
{
	uint8_t old[SEALED_SIZE], data[SEALED_SIZE];
	struct node n;
	bool is_old;

	node_create(&n);
	assert_int_equal(add(&n, "one"), 0);
	assert_int_equal(add(&n, "two"), 0);
	get(&n, "keyring.old", old, sizeof(old));
	put(&n, "keyring", "rubbish", 7);
	assert_int_equal(reopen(&n, &is_old), 0);
	assert_int_equal(add(&n, "three"), 0);
	get(&n, "keyring.old", data, sizeof(data));
	assert_memory_equal(old, data, sizeof(old));
	assert_int_equal(size_of(&n, "keyring.damaged"), 7);
	assert_int_equal(reopen(&n, &is_old), 0);
	assert_false(is_old);
	assert_true(has(&n, "one") && has(&n, "three") && !has(&n, "two"));
	/* Both bad. */
	put(&n, "keyring", "rubbish", 7);
	put(&n, "keyring.old", "rubbish", 7);
	assert_int_equal(reopen(&n, &is_old), -EBADMSG);
	node_remove(&n);
}

static void keyfile__does_not_fall_back_when_it_will_not_open(void **state)
{
	uint8_t data[SEALED_SIZE], unlock[40];
	struct node n;
	bool is_old;

	node_create(&n);
	assert_int_equal(add(&n, "one"), 0);
	get(&n, "unlock", unlock, sizeof(unlock));
	get(&n, "keyring", data, sizeof(data));
	for (size_t i = 0; i < sizeof(unlock); i++) {
		unlock[i] ^= 1;
		put(&n, "unlock", unlock, sizeof(unlock));
		assert_int_equal(reopen(&n, &is_old), i < 4   ? -ENOKEY
						      : i < 8 ? -EPROTONOSUPPORT
							      : -EKEYREJECTED);
		unlock[i] ^= 1;
	}
	put(&n, "unlock", unlock, 39);
	assert_int_equal(reopen(&n, &is_old), -ENOKEY);
	assert_int_equal(unlinkat(n.dir, "unlock", 0), 0);
	assert_int_equal(reopen(&n, &is_old), -ENOKEY);
	put(&n, "unlock", unlock, sizeof(unlock));
	assert_int_equal(fchmodat(n.dir, "unlock", 0640, 0), 0);
	assert_int_equal(reopen(&n, &is_old), -EPERM);
	assert_int_equal(fchmodat(n.dir, "unlock", 0600, 0), 0);
	/* Altered, with a right checksum; and of a later version. */
	data[3000] ^= 1;
	crypto_generichash(data + SEALED_SIZE - 32, 32, data, SEALED_SIZE - 32, NULL, 0);
	put(&n, "keyring", data, sizeof(data));
	assert_int_equal(reopen(&n, &is_old), -EILSEQ);
	data[4] = 2;
	crypto_generichash(data + SEALED_SIZE - 32, 32, data, SEALED_SIZE - 32, NULL, 0);
	put(&n, "keyring", data, sizeof(data));
	assert_int_equal(reopen(&n, &is_old), -EPROTONOSUPPORT);
	node_remove(&n);
}

static void keyfile__is_not_led_astray(void **state)
{
	struct node n;
	bool is_old;

	node_create(&n);
	assert_int_equal(unlinkat(n.dir, "keyring", 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", n.dir, "keyring"), 0);
	assert_int_equal(reopen(&n, &is_old), -EBADMSG);
	assert_int_equal(unlinkat(n.dir, "keyring", 0), 0);
	assert_int_equal(mkfifoat(n.dir, "keyring", 0600), 0);
	assert_int_equal(reopen(&n, &is_old), -EBADMSG);
	assert_int_equal(unlinkat(n.dir, "keyring", 0), 0);
	node_remove(&n);
}

static void assert_unchanged(struct node *n, const uint8_t before[SEALED_SIZE])
{
	uint8_t after[SEALED_SIZE];
	bool is_old;

	get(n, "keyring", after, sizeof(after));
	assert_memory_equal(before, after, sizeof(after));
	assert_int_equal(size_of(n, "keyring.tmp"), -1);
	assert_int_equal(reopen(n, &is_old), 0);
	assert_false(is_old);
	assert_true(has(n, "one"));
	assert_false(has(n, "two"));
}

static void keyfile__survives_a_file_that_cannot_grow(void **state)
{
	struct rlimit limit, small;
	uint8_t before[SEALED_SIZE];
	struct node n;

	signal(SIGXFSZ, SIG_IGN);
	node_create(&n);
	assert_int_equal(add(&n, "one"), 0);
	get(&n, "keyring", before, sizeof(before));
	getrlimit(RLIMIT_FSIZE, &limit);
	small = limit;
	small.rlim_cur = 5000;
	setrlimit(RLIMIT_FSIZE, &small);
	int r = add(&n, "two");
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(r, -EFBIG);
	assert_unchanged(&n, before);
	assert_int_equal(add(&n, "two"), 0);
	node_remove(&n);
}

/* In a mount namespace of its own; skipped where that is not granted. */
static void full_disk(void)
{
	uint8_t before[SEALED_SIZE], block[1024] = { 1 };
	struct node n;
	int fd;

	node_dir(&n);
	if (mount("tmpfs", n.path, "tmpfs", 0, "size=64k") < 0)
		_exit(77);
	close(n.dir);
	n.dir = open(n.path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(keyring_new(&n.ring), 0);
	assert_int_equal(keyring_generate(n.ring), 0);
	assert_int_equal(keyfile_create(&n.file, n.dir, n.ring), 0);
	assert_int_equal(add(&n, "one"), 0);
	get(&n, "keyring", before, sizeof(before));
	fd = openat(n.dir, "filler", O_WRONLY | O_CREAT, 0600);
	while (write(fd, block, sizeof(block)) > 0)
		;
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(add(&n, "two"), -ENOSPC);
	assert_unchanged(&n, before);
	assert_int_equal(unlinkat(n.dir, "filler", 0), 0);
	close(fd);
	assert_int_equal(add(&n, "two"), 0);
	empty_dir(n.dir);
	close(n.dir);
	umount2(n.path, MNT_DETACH);
	rmdir(n.path);
}

static bool write_proc(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool is_written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return is_written;
}

/* An ordinary user needs a user namespace for it, in which he is still himself. */
static void enter_mount_ns(void)
{
	/* Asked before: inside, unmapped ids are all 65534. */
	unsigned uid = geteuid(), gid = getegid();
	char map[64];

	if (unshare(CLONE_NEWNS) == 0)
		return;
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || !write_proc("/proc/self/uid_map", map) ||
		!write_proc("/proc/self/setgroups", "deny"))
		_exit(77);
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	write_proc("/proc/self/gid_map", map);
}

static void keyfile__survives_a_full_disk(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		enter_mount_ns();
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
		full_disk();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Runs a replace in a child and kills it at its n-th system call. True: it ended before. */
static bool killed_at(struct node *n, unsigned long call)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		/* Somebody else traces this test. */
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(77);
		raise(SIGSTOP);
		_exit(keyfile_replace(&n->file, n->ring) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	for (unsigned long i = 0; WIFSTOPPED(status); i++) {
		if (i == call) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return false;
		}
		assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	return true;
}

static void keyfile__survives_a_kill_at_every_step(void **state)
{
	bool is_old, is_done = false, was_written = false;
	unsigned long call;
	uint8_t key[32] = { 3 }, id[8];
	struct node n;

	node_create(&n);
	assert_int_equal(add(&n, "one"), 0);
	for (call = 0; !is_done; call++) {
		/* A name for each round, so that old and new generations can be told apart. */
		char name[32];

		snprintf(name, sizeof(name), "round-%lu", call);
		randombytes_buf(key, sizeof(key));
		assert_int_equal(keyring_add(n.ring, name, key, id), 0);
		is_done = killed_at(&n, call);
		assert_int_equal(reopen(&n, &is_old), 0);
		assert_false(is_old);
		assert_true(has(&n, "one"));
		assert_int_equal(size_of(&n, "keyring.tmp"), -1);
		assert_int_equal(size_of(&n, "keyring.old"), SEALED_SIZE);
		was_written = was_written || has(&n, name);
		if (has(&n, name))
			assert_int_equal(keyring_remove(n.ring, name), 0);
		assert_int_equal(keyfile_replace(&n.file, n.ring), 0);
		assert_true(call < 300);
	}
	assert_true(was_written);
	assert_true(call > 20);
	node_remove(&n);
}

static void keyfile__of_a_read_only_directory_opens(void **state)
{
	struct node n;
	bool is_old;

	if (geteuid() == 0)
		skip();
	node_create(&n);
	assert_int_equal(fchmod(n.dir, 0500), 0);
	assert_int_equal(reopen(&n, &is_old), 0);
	assert_int_equal(add(&n, "one"), -EACCES);
	assert_int_equal(fchmod(n.dir, 0700), 0);
	node_remove(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keyfile__keeps_what_it_was_given),
		cmocka_unit_test(keyfile__creates_over_nothing),
		cmocka_unit_test(keyfile__falls_back_when_torn),
		cmocka_unit_test(keyfile__heals_without_losing_the_good_one),
		cmocka_unit_test(keyfile__does_not_fall_back_when_it_will_not_open),
		cmocka_unit_test(keyfile__is_not_led_astray),
		cmocka_unit_test(keyfile__survives_a_file_that_cannot_grow),
		cmocka_unit_test(keyfile__survives_a_full_disk),
		cmocka_unit_test(keyfile__survives_a_kill_at_every_step),
		cmocka_unit_test(keyfile__of_a_read_only_directory_opens),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
