#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/landlock.h"
#include "worker/profiles.h"
#include "worker/root.h"
#include "worker/scope.h"

/* What getaddrinfo() reads; resolv.conf is often a link into /run. */
static const char *const resolver_dirs[] = { "/etc", "/usr", "/lib", "/lib64",
	"/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/run/connman", NULL };

struct entering {
	const struct sandbox_table *table;
	uint32_t without;
	int dir_fd;
	struct sandbox_report *report;
};

const char *sandbox_layer_name(enum sandbox_layer layer)
{
	switch (layer) {
	case SANDBOX_USER_NS:
		return "user namespace";
	case SANDBOX_ROOT:
		return "empty root";
	case SANDBOX_NET_NS:
		return "network namespace";
	case SANDBOX_PID_NS:
		return "pid namespace";
	case SANDBOX_IPC_NS:
		return "ipc namespace";
	case SANDBOX_CAPS:
		return "no capabilities";
	case SANDBOX_NO_NEW_PRIVS:
		return "no_new_privs";
	case SANDBOX_LANDLOCK:
		return "landlock";
	case SANDBOX_SECCOMP:
		return "seccomp";
	case SANDBOX_NOT_DUMPABLE:
		return "not dumpable";
	case SANDBOX_RLIMITS:
		return "limits";
	}
	return "?";
}

uint32_t sandbox_expected(enum sandbox_profile profile)
{
	return sandbox_table(profile)->layers;
}

static bool wanted(const struct entering *e, enum sandbox_layer layer)
{
	return (e->table->layers & layer) && !(e->without & layer);
}

static void missing(struct entering *e, enum sandbox_layer layer, const char *why)
{
	char *text = e->report->missing;
	size_t len = strlen(text), room = sizeof(e->report->missing) - len;

	snprintf(text + len, room, "%s%s: %s", len ? "; " : "", sandbox_layer_name(layer), why);
}

static void done(struct entering *e, enum sandbox_layer layer)
{
	e->report->layers |= layer;
}

/* Their run-time reads /proc, makes processes and traces itself. */
static void leave_out_for_sanitizers(struct entering *e)
{
#ifdef BAZIL_SANITIZED
	static const enum sandbox_layer layers[] = { SANDBOX_ROOT, SANDBOX_PID_NS, SANDBOX_LANDLOCK,
		SANDBOX_SECCOMP, SANDBOX_NOT_DUMPABLE };

	for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++) {
		if (wanted(e, layers[i]))
			missing(e, layers[i], "sanitizers");
		e->without |= layers[i];
	}
#endif
}

static int enter_undumpable(struct entering *e)
{
	if (!wanted(e, SANDBOX_NOT_DUMPABLE))
		return 0;
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
	done(e, SANDBOX_NOT_DUMPABLE);
	return 0;
}

static int enter_limits(struct entering *e)
{
	if (!wanted(e, SANDBOX_RLIMITS))
		return 0;
	for (const struct sandbox_limit *l = e->table->limits; l->resource >= 0; l++) {
		struct rlimit limit;

#ifdef BAZIL_SANITIZED
		if (l->of_memory)
			continue;
#endif
		if (getrlimit(l->resource, &limit) < 0)
			return -errno;
		if (limit.rlim_max > l->value)
			limit.rlim_max = l->value;
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(l->resource, &limit) < 0)
			return -errno;
	}
	done(e, SANDBOX_RLIMITS);
	return 0;
}

static void enter_root(struct entering *e)
{
	const char *step = "";
	char why[160];
	int r;

	if (!wanted(e, SANDBOX_ROOT))
		return;
	if (e->table->files == SANDBOX_RESOLVER)
		r = root_enter_with(&(struct root_plan){ .paths = resolver_dirs }, &step);
	else
		r = root_enter(e->dir_fd, &step);
	if (r == 0) {
		done(e, SANDBOX_ROOT);
		return;
	}
	snprintf(why, sizeof(why), "%s: %s", step, strerror(-r));
	missing(e, SANDBOX_ROOT, why);
}

/* Without CAP_SETPCAP the bounding set stays, and is worth nothing once there is no_new_privs. */
static int drop_bounding_set(void)
{
	for (int cap = 0; cap <= 63; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return errno == EINVAL ? 0 : -errno;
	return 0;
}

static int enter_no_caps(struct entering *e)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };
	int r;

	if (!wanted(e, SANDBOX_CAPS))
		return 0;
	r = drop_bounding_set();
	if (r < 0)
		missing(e, SANDBOX_CAPS, "the bounding set stays");
	/* Root is nobody special any more, locked. Refused to whom is not root: then it never was.
	 */
	prctl(PR_SET_SECUREBITS,
		SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
			SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
			SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
		0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &head, none) < 0)
		return -errno;
	if (r == 0)
		done(e, SANDBOX_CAPS);
	return 0;
}

static int enter_no_new_privs(struct entering *e)
{
	if (!wanted(e, SANDBOX_NO_NEW_PRIVS))
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	done(e, SANDBOX_NO_NEW_PRIVS);
	return 0;
}

static int open_readable(int fds[16])
{
	int n = 0;

	for (size_t i = 0; resolver_dirs[i] && n < 16; i++) {
		int fd = open(resolver_dirs[i], O_PATH | O_CLOEXEC);

		if (fd >= 0)
			fds[n++] = fd;
	}
	return n;
}

static void enter_landlock(struct entering *e)
{
	struct landlock_plan plan = { .dir_fd = e->dir_fd, .may_connect = e->table->may_connect };
	int readable[16], r;

	if (!wanted(e, SANDBOX_LANDLOCK))
		return;
	if (e->table->files == SANDBOX_RESOLVER) {
		plan.num_readable = open_readable(readable);
		plan.readable = readable;
	}
	r = landlock_enter(&plan);
	for (size_t i = 0; i < plan.num_readable; i++)
		close(readable[i]);
	if (r < 0) {
		missing(e, SANDBOX_LANDLOCK, strerror(-r));
		return;
	}
	e->report->landlock_abi = r;
	done(e, SANDBOX_LANDLOCK);
}

static int add_rule(scmp_filter_ctx filter, const struct sandbox_rule *rule)
{
	uint32_t action = rule->answer ? SCMP_ACT_ERRNO(rule->answer) : SCMP_ACT_ALLOW;
	struct scmp_arg_cmp cmp[2];
	unsigned num = 0;

	for (int i = 0; i < 2 && rule->cond[i].arg; i++) {
		const struct sandbox_cond *c = &rule->cond[i];

		cmp[num++] = (struct scmp_arg_cmp){
			.arg = c->arg - 1,
			.op = SCMP_CMP_MASKED_EQ,
			.datum_a = c->mask,
			.datum_b = c->value == SANDBOX_OWN_PID ? (uint64_t)getpid() : c->value,
		};
	}
	return seccomp_rule_add_array(filter, action, rule->call, num, cmp);
}

static int add_rules(scmp_filter_ctx filter, const struct sandbox_table *table)
{
	for (size_t i = 0; i < sizeof(table->rules) / sizeof(table->rules[0]); i++) {
		const struct sandbox_rules *rules = &table->rules[i];

		for (size_t k = 0; k < rules->num; k++) {
			int r = add_rule(filter, &rules->rule[k]);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

#ifdef BAZIL_SECCOMP_TRAP
#include <signal.h>

static void trapped(int sig, siginfo_t *info, void *context)
{
	char line[64];
	int n = snprintf(line, sizeof(line), "forbidden system call %d\n", info->si_syscall);

	if (write(STDERR_FILENO, line, n) < 0) {
		/* Nothing is left to be done: we die in any case. */
	}
	_exit(128 + SIGSYS);
}

static uint32_t forbidden(void)
{
	sigaction(SIGSYS, &(struct sigaction){ .sa_sigaction = trapped, .sa_flags = SA_SIGINFO },
		NULL);
	return SCMP_ACT_TRAP;
}
#else
static uint32_t forbidden(void)
{
	return SCMP_ACT_KILL_PROCESS;
}
#endif

static int load_filter(const struct sandbox_table *table)
{
	scmp_filter_ctx filter = seccomp_init(forbidden());
	int r;

	if (!filter)
		return -ENOMEM;
	r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
	/* A thread that slipped in would be inside too. */
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	/* A binary tree instead of a list: a read(2) costs 4 comparisons, not 60. */
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = add_rules(filter, table);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

static int enter_seccomp(struct entering *e)
{
	int r;

	if (!wanted(e, SANDBOX_SECCOMP))
		return 0;
	r = load_filter(e->table);
	if (r < 0)
		return r;
	done(e, SANDBOX_SECCOMP);
	return 0;
}

/* Other threads would keep their root, their capabilities and their rights to files. In a root
 * without /proc the kernel says it by this refusal, which changes nothing if there are none. */
static bool has_threads(void)
{
	struct stat st;

	if (unshare(CLONE_THREAD) < 0 && errno == EINVAL)
		return true;
	return stat("/proc/self/task", &st) == 0 && st.st_nlink > 3;
}

int sandbox_enter(
	enum sandbox_profile profile, uint32_t without, int dir_fd, struct sandbox_report *ret)
{
	struct entering e = { sandbox_table(profile), without, dir_fd, ret };
	int r;

	memset(ret, 0, sizeof(*ret));
	if (has_threads())
		return -EBUSY;
	if (getpid() == 1)
		ret->layers |= SANDBOX_PID_NS;
	leave_out_for_sanitizers(&e);
	r = enter_undumpable(&e);
	if (r < 0)
		return r;
	r = enter_limits(&e);
	if (r < 0)
		return r;
	enter_root(&e);
	r = enter_no_caps(&e);
	if (r < 0)
		return r;
	r = enter_no_new_privs(&e);
	if (r < 0)
		return r;
	enter_landlock(&e);
	return enter_seccomp(&e);
}
