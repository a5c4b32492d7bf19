/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* contain_calls(), contain_capabilities(): what a process may still do, and what becomes of it if it does more. */
#include "test/unit/check.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recover/contain.h"

static const struct contain_call calls[] = {
	CONTAIN_CALL(exit_group),
	CONTAIN_CALL(getpid),
	CONTAIN_CALL_IF(umask, 0, ~0u, 022),
	CONTAIN_CALL_IF(umask, 0, ~0u, 077),
	CONTAIN_CALL_IF(lseek, 2, 4, 4),
	CONTAIN_CALL_IF(dup3, 2, 8, 0),
};
static const struct contain_call more[] = {CONTAIN_CALL(getppid)};
static const struct contain_set set = {.calls = calls, .calls_n = COUNT(calls)};
static const struct contain_set other = {.calls = more, .calls_n = COUNT(more)};

/* How a process ends that makes one call with these sets alone: 0, or the signal. */
static int made_with(const struct contain_set *a, const struct contain_set *b, long number, long x, long y, long z)
{
	const struct contain_set *const sets[] = {a, b};
	pid_t child = fork();
	int status = -1;

	if (child == 0) {
		if (contain_calls(sets, 2))
			_exit(1);
		syscall(number, x, y, z);
		syscall(SYS_exit_group, 0); /* _exit() of a sanitizer makes more calls */
	}
	waitpid(child, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static int made(long number, long x, long y, long z)
{
	return made_with(&set, &other, number, x, y, z);
}

static void a_call_that_is_in_no_table_raises_sigsys(void)
{
	CHECK_EQUAL(made(SYS_getpid, 0, 0, 0), 0);
	CHECK_EQUAL(made(SYS_getppid, 0, 0, 0), 0);
	CHECK_EQUAL(made(SYS_getuid, 0, 0, 0), SIGSYS);
	CHECK_EQUAL(made(-1, 0, 0, 0), SIGSYS);
	CHECK_EQUAL(made_with(&set, NULL, SYS_getpid, 0, 0, 0), 0);
	CHECK_EQUAL(made_with(&set, NULL, SYS_getppid, 0, 0, 0), SIGSYS);
}

static void what_an_argument_must_be_is_looked_at(void)
{
	CHECK_EQUAL(made(SYS_umask, 022, 0, 0), 0);
	CHECK_EQUAL(made(SYS_umask, 077, 0, 0), 0);
	CHECK_EQUAL(made(SYS_umask, 0, 0, 0), SIGSYS);
	CHECK_EQUAL(made(SYS_lseek, -1, 0, 5), 0);
	CHECK_EQUAL(made(SYS_lseek, -1, 0, 3), SIGSYS);
	CHECK_EQUAL(made(SYS_dup3, -1, -1, 7), 0);
	CHECK_EQUAL(made(SYS_dup3, -1, -1, 9), SIGSYS);
}

#if defined(__x86_64__)
/* 20 is getpid there, and writev here. */
static void calls_of_another_architecture_kill(void)
{
	const struct contain_set *const sets[] = {&set};
	pid_t child = fork();
	int status = -1;

	if (child == 0) {
		long number = 20;

		signal(SIGSYS, SIG_IGN);
		if (contain_calls(sets, 1))
			_exit(1);
		__asm__ volatile("int $0x80" : "+a"(number) : : "memory");
		_exit(0);
	}
	waitpid(child, &status, 0);
	CHECK(WIFSIGNALED(status));
}
#endif

static void no_more_calls_than_a_filter_holds(void)
{
	static struct contain_call many[1000];
	const struct contain_set too_many = {.calls = many, .calls_n = COUNT(many)};
	const struct contain_set *const sets[] = {&too_many};

	CHECK_EQUAL(contain_calls(sets, 1), -E2BIG);
}

static void capabilities_are_gone_for_good(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	pid_t child;
	int status = -1;

	REQUIRE(syscall(SYS_capget, &header, data) == 0);
	if (!(data[0].permitted & 1u << CAP_CHOWN && data[0].permitted & 1u << CAP_KILL))
		SKIP("machine lacks the capabilities of root");
	child = fork();
	if (child == 0) {
		uint64_t kept = CONTAIN_CAP(CAP_CHOWN) | CONTAIN_CAP(40);

		if (contain_capabilities(kept) || syscall(SYS_capget, &header, data))
			_exit(1);
		if (data[0].permitted != 1u << CAP_CHOWN || data[0].effective != 1u << CAP_CHOWN)
			_exit(2);
		if (prctl(PR_CAPBSET_READ, CAP_KILL, 0, 0, 0) != 0 || prctl(PR_CAPBSET_READ, CAP_CHOWN, 0, 0, 0) != 1)
			_exit(3);
		_exit(0);
	}
	waitpid(child, &status, 0);
	CHECK_EQUAL(status, 0);
}

static const struct check checks[] = {
	{"a call that is in no table raises SIGSYS", a_call_that_is_in_no_table_raises_sigsys},
	{"what an argument must be is looked at", what_an_argument_must_be_is_looked_at},
#if defined(__x86_64__)
	{"calls of another architecture kill", calls_of_another_architecture_kill},
#endif
	{"no more calls than a filter holds", no_more_calls_than_a_filter_holds},
	{"capabilities are gone for good", capabilities_are_gone_for_good},
};

int main(void)
{
	return check_run(checks, COUNT(checks));
}
