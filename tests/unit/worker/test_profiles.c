/* The tables of what each role may do: what must never be in one. */
#include "worker/profiles.h"

#include <seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

typedef bool rule_fn(const struct sandbox_rule *rule);

static unsigned count(enum sandbox_profile profile, rule_fn *fn)
{
	const struct sandbox_table *t = sandbox_table(profile);
	unsigned n = 0;

	for (size_t i = 0; i < sizeof(t->rules) / sizeof(t->rules[0]); i++)
		for (size_t k = 0; k < t->rules[i].num; k++)
			n += fn(&t->rules[i].rule[k]);
	return n;
}

static bool allows(const struct sandbox_rule *r, int call)
{
	return r->call == call && r->answer == 0;
}

static bool is_fatal_call(const struct sandbox_rule *r)
{
	static const int never[] = { SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
		SCMP_SYS(process_vm_writev), SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp), SCMP_SYS(bpf),
		SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup),
		SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(mount), SCMP_SYS(umount2),
		SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(unshare), SCMP_SYS(setns),
		SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(fork), SCMP_SYS(vfork),
		SCMP_SYS(personality), SCMP_SYS(mknod), SCMP_SYS(mknodat), SCMP_SYS(symlink),
		SCMP_SYS(symlinkat), SCMP_SYS(setuid), SCMP_SYS(setresuid), SCMP_SYS(capset),
		SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(socketpair), SCMP_SYS(memfd_create),
		SCMP_SYS(splice), SCMP_SYS(vmsplice) };

	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (r->call == never[i])
			return true;
	return false;
}

static bool is_code(const struct sandbox_rule *r)
{
	return (allows(r, SCMP_SYS(mmap)) || allows(r, SCMP_SYS(mprotect))) &&
	       !(r->cond[0].arg == 3 && (r->cond[0].mask & PROT_EXEC) &&
		       !(r->cond[0].value & PROT_EXEC));
}

static bool is_socket(const struct sandbox_rule *r)
{
	return allows(r, SCMP_SYS(socket)) || allows(r, SCMP_SYS(connect));
}

static bool is_open(const struct sandbox_rule *r)
{
	return allows(r, SCMP_SYS(open)) || allows(r, SCMP_SYS(openat));
}

static bool is_write_open(const struct sandbox_rule *r)
{
	return is_open(r) && r->cond[0].arg == 0;
}

static bool is_clone(const struct sandbox_rule *r)
{
	return allows(r, SCMP_SYS(clone)) && r->cond[0].arg == 0;
}

static void profiles__never_allow_what_breaks_out(void **state)
{
	for (int p = 0; p < SANDBOX_MOUNTER; p++) {
		assert_int_equal(count(p, is_fatal_call), 0);
		assert_int_equal(count(p, is_code), 0);
		assert_int_equal(count(p, is_clone), 0);
	}
}

static void profiles__give_sockets_to_the_dialer_alone(void **state)
{
	for (int p = 0; p < SANDBOX_MOUNTER; p++)
		assert_int_equal(count(p, is_socket) > 0, p == SANDBOX_DIALER);
}

static void profiles__give_files_to_their_owners_alone(void **state)
{
	for (int p = 0; p < SANDBOX_MOUNTER; p++) {
		const bool owner = p == SANDBOX_KEYD || p == SANDBOX_STORED;

		assert_int_equal(count(p, is_write_open) > 0, owner);
		assert_int_equal(sandbox_table(p)->files == SANDBOX_OWN_DIR, owner);
		if (!owner && p != SANDBOX_DIALER)
			assert_int_equal(count(p, is_open), 0);
	}
}

static void profiles__leave_no_core(void **state)
{
	for (int p = 0; p < SANDBOX_NUM_PROFILES; p++) {
		bool found = false;

		for (const struct sandbox_limit *l = sandbox_table(p)->limits; l->resource >= 0;
			l++)
			found |= l->resource == RLIMIT_CORE && l->value == 0;
		assert_true(found);
	}
}

static void profiles__want_every_layer(void **state)
{
	for (int p = 0; p < SANDBOX_MOUNTER; p++)
		assert_int_equal(sandbox_expected(p),
			p == SANDBOX_DIALER ? SANDBOX_ALL & ~SANDBOX_NET_NS : SANDBOX_ALL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(profiles__never_allow_what_breaks_out),
		cmocka_unit_test(profiles__give_sockets_to_the_dialer_alone),
		cmocka_unit_test(profiles__give_files_to_their_owners_alone),
		cmocka_unit_test(profiles__leave_no_core),
		cmocka_unit_test(profiles__want_every_layer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
