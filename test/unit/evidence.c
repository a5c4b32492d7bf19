/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Evidence: of each system call that must not be made twice, taken before it and judged twice, when it was not made
 * and when it was.
 */
#include "test/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recover/evidence.h"
#include "recover/journal.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif
#ifndef RWF_APPEND
#define RWF_APPEND 0x10
#endif

static char directory[200];
static int top; /* its descriptor */
static int file;

static char text[] = "hello";
static struct iovec data = {text, 5};

/* The directory of each case: a and b are files, l a second name of a, d a directory; a has the attribute user.a. */
static bool make_tree(void)
{
	if (system("rm -rf tree && mkdir tree tree/d && echo a >tree/a && echo b >tree/b && ln tree/a tree/l"))
		return false;
	top = open("tree", O_PATH | O_DIRECTORY);
	file = open("tree/a", O_RDWR);
	return top >= 0 && file >= 0;
}

#define A(...)              \
	{                   \
		__VA_ARGS__ \
	}
#define HERE -2 /* stands for top */
#define FILE_A -3

struct call {
	const char *what;
	long number, arguments[6];
};

static const struct call calls[] = {
	{"mkdir", SYS_mkdirat, A(HERE, 0, 0700)},
	{"mknod", SYS_mknodat, A(HERE, 0, S_IFREG | 0600)},
	{"symlink", SYS_symlinkat, A(1, HERE, 0)},
	{"link", SYS_linkat, A(HERE, 2, HERE, 0)},
	{"link of a descriptor", SYS_linkat, A(FILE_A, 3, HERE, 0, AT_EMPTY_PATH)},
	{"create", SYS_openat, A(HERE, 0, O_CREAT | O_EXCL | O_RDWR, 0600)},
	{"unlink", SYS_unlinkat, A(HERE, 2)},
	{"rmdir", SYS_unlinkat, A(HERE, 5, AT_REMOVEDIR)},
	{"rename", SYS_renameat2, A(HERE, 2, HERE, 0)},
	{"rename over another", SYS_renameat2, A(HERE, 2, HERE, 4)},
	{"rename without replacing", SYS_renameat2, A(HERE, 2, HERE, 0, RENAME_NOREPLACE)},
	{"exchange", SYS_renameat2, A(HERE, 2, HERE, 4, RENAME_EXCHANGE)},
	{"append", SYS_pwritev2, A(FILE_A, 6, 1, -1, -1, RWF_APPEND)},
};

/* Numbers of texts in the table above, which cannot hold addresses. */
static const char *const texts[] = {"new", "target", "a", "", "b", "d"};

static void arguments_of(const struct call *call, long a[6])
{
	static const struct {
		long number;
		unsigned names; /* which arguments are numbers of texts */
	} kinds[] = {{SYS_mkdirat, 1 << 1},	      {SYS_mknodat, 1 << 1}, {SYS_symlinkat, 1 << 0 | 1 << 2},
		     {SYS_linkat, 1 << 1 | 1 << 3},   {SYS_openat, 1 << 1},  {SYS_unlinkat, 1 << 1},
		     {SYS_renameat2, 1 << 1 | 1 << 3}};

	memcpy(a, call->arguments, sizeof(call->arguments));
	for (int i = 0; i < 6; i++)
		a[i] = a[i] == HERE ? top : a[i] == FILE_A ? file : a[i];
	for (size_t k = 0; k < COUNT(kinds); k++)
		for (int i = 0; kinds[k].number == call->number && i < 6; i++)
			if (kinds[k].names & 1u << i)
				a[i] = (long)texts[a[i]];
	if (call->number == SYS_pwritev2)
		a[1] = (long)&data;
}

static void each_call_is_judged_rightly(void)
{
	for (size_t i = 0; i < COUNT(calls); i++) {
		struct evidence evidence = {0};
		long a[6], made, result = 77;
		bool good;

		REQUIRE(make_tree());
		arguments_of(&calls[i], a);
		evidence_take(&evidence, calls[i].number, a);
		good = CHECK(evidence.taken) && CHECK(!evidence_settle(&evidence, calls[i].number, a, &result));
		made = syscall(calls[i].number, a[0], a[1], a[2], a[3], a[4], a[5]);
		good = CHECK(made >= 0) && good;
		good = CHECK(evidence_settle(&evidence, calls[i].number, a, &result)) && good;
		if (calls[i].number == SYS_openat) {
			struct stat one, other;

			good = CHECK(fstat((int)made, &one) == 0 && fstat((int)result, &other) == 0 &&
				     one.st_ino == other.st_ino) &&
			       good;
			close((int)made);
			close((int)result);
		} else {
			good = CHECK_EQUAL(result, made) && good;
		}
		if (!good)
			printf("# %s\n", calls[i].what);
		close(top);
		close(file);
	}
}

/* A call that fails is not taken for one that happened because things are as it would have left them. */
static void what_was_there_before_is_no_proof(void)
{
	static const struct call failing[] = {
		{"mkdir of what is there", SYS_mkdirat, A(HERE, 5, 0700)},
		{"link over what is there", SYS_linkat, A(HERE, 2, HERE, 4)},
		{"create of what is there", SYS_openat, A(HERE, 2, O_CREAT | O_EXCL, 0600)},
		{"unlink of nothing", SYS_unlinkat, A(HERE, 0)},
		{"rename of nothing", SYS_renameat2, A(HERE, 0, HERE, 2)},
	};

	for (size_t i = 0; i < COUNT(failing); i++) {
		struct evidence evidence = {0};
		long a[6], result;

		REQUIRE(make_tree());
		arguments_of(&failing[i], a);
		evidence_take(&evidence, failing[i].number, a);
		CHECK(syscall(failing[i].number, a[0], a[1], a[2], a[3], a[4], a[5]) < 0);
		if (!CHECK(!evidence_settle(&evidence, failing[i].number, a, &result)))
			printf("# %s\n", failing[i].what);
		/* nor because somebody makes later what was not there */
		close(open("tree/new", O_CREAT | O_WRONLY, 0600));
		if (!CHECK(!evidence_settle(&evidence, failing[i].number, a, &result)))
			printf("# %s, and later something\n", failing[i].what);
		close(top);
		close(file);
	}
}

static void what_may_be_made_twice_leaves_none(void)
{
	struct evidence evidence = {.taken = 1, .number = 1};
	long a[6] = {AT_FDCWD, (long)"tree", 0600}, result;

	evidence_take(&evidence, SYS_fchmodat, a);
	CHECK(!evidence.taken);
	CHECK(!evidence_settle(&evidence, SYS_fchmodat, a, &result));
	a[2] = O_RDONLY;
	evidence_take(&evidence, SYS_openat, a);
	CHECK(!evidence.taken);
}

/* The whole way: a step that a death left STARTED is settled by what stands there. */
static void a_started_step_is_settled(void)
{
	struct step step = {0};
	const char *name = "tree/new";
	long a[6] = {AT_FDCWD, (long)name, 0700};

	REQUIRE(make_tree());
	/* died after it */
	step.number = SYS_mkdirat;
	evidence_take(&step.evidence, SYS_mkdirat, a);
	step.state = STEP_STARTED;
	REQUIRE(mkdir(name, 0700) == 0);
	CHECK_EQUAL(journal_call(&step, true, SYS_mkdirat, AT_FDCWD, (long)name, 0700, 0, 0, 0), 0);
	CHECK_EQUAL(step.state, STEP_DONE);
	/* died before it */
	rmdir(name);
	memset(&step, 0, sizeof(step));
	step.number = SYS_mkdirat;
	evidence_take(&step.evidence, SYS_mkdirat, a);
	step.state = STEP_STARTED;
	CHECK_EQUAL(journal_call(&step, true, SYS_mkdirat, AT_FDCWD, (long)name, 0700, 0, 0, 0), 0);
	CHECK_EQUAL(access(name, F_OK), 0);
	/* it was there before */
	memset(&step, 0, sizeof(step));
	step.number = SYS_mkdirat;
	evidence_take(&step.evidence, SYS_mkdirat, a);
	step.state = STEP_STARTED;
	CHECK_EQUAL(journal_call(&step, true, SYS_mkdirat, AT_FDCWD, (long)name, 0700, 0, 0, 0), -EEXIST);
	close(top);
	close(file);
}

int main(void)
{
	static const struct check checks[] = {
		{"each call is judged rightly", each_call_is_judged_rightly},
		{"what was there before is no proof", what_was_there_before_is_no_proof},
		{"what may be made twice leaves none", what_may_be_made_twice_leaves_none},
		{"a started step is settled", a_started_step_is_settled},
	};
	int result;

	check_directory(directory, sizeof(directory));
	if (chdir(directory))
		return 1;
	result = check_run(checks, COUNT(checks));
	if (system("rm -rf tree") || chdir("/") || rmdir(directory))
		return 1;
	return result;
}
