/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* call_witnessed(): what it makes, and what the step and the registers of a thread that dies in it say. */
#include "test/unit/check.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recover/call.h"
#include "recover/journal.h"
#include "recover/witness.h"

static void a_result_is_stored_as_the_kernel_returns_it(void)
{
	struct step step = {.result = 1};
	long close_nothing[7] = {SYS_close, -1};
	long get_pid[7] = {SYS_getpid};

	call_witnessed(&step, close_nothing);
	CHECK_EQUAL(step.state, STEP_DONE);
	CHECK_EQUAL(step.result, -EBADF);
	call_witnessed(&step, get_pid);
	CHECK_EQUAL(step.state, STEP_DONE);
	CHECK_EQUAL(step.result, getpid());
}

/* mmap(2) takes six arguments, and each of them shows in what comes of it. */
static void all_six_arguments_arrive(void)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char text[4] = "";
	int fd = (int)syscall(SYS_memfd_create, "unit", 0);
	struct step step = {0};
	char *place, *at;

	REQUIRE(fd >= 0);
	REQUIRE(ftruncate(fd, (off_t)(3 * page)) == 0);
	REQUIRE(pwrite(fd, "two", 3, (off_t)(2 * page)) == 3);
	place = mmap(NULL, 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(place != MAP_FAILED);

	long arguments[7] = {SYS_mmap, (long)(place + page), (long)page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			     fd,       (long)(2 * page)};

	call_witnessed(&step, arguments);
	at = (char *)(uintptr_t)step.result;
	REQUIRE(at == place + page);
	CHECK(memcmp(at, "two", 3) == 0);
	at[0] = 'T';
	CHECK_EQUAL(pread(fd, text, 3, (off_t)(2 * page)), 3);
	CHECK(memcmp(text, "Two", 3) == 0);
	munmap(place, 2 * page);
	close(fd);
}

static void it_keeps_the_registers_of_its_caller(void)
{
	struct step step = {0};
	long arguments[7] = {SYS_getppid};
	volatile long sum = 0;

	/* enough values at once that some live in registers that a function has to keep */
	for (long i = 0; i < 1000; i++) {
		long a = i, b = i * 3, c = i ^ 5, d = i + 7, e = i * i, f = i - 1;

		call_witnessed(&step, arguments);
		sum += a + b - c + d - e + f - (i + i * 3 - (i ^ 5) + i + 7 - i * i + i - 1);
	}
	CHECK_EQUAL(sum, 0);
	CHECK_EQUAL(step.result, getppid());
}

/* --- deaths ------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#define PROGRAM_COUNTER(regs) ((regs).rip)
#define RESULT(regs) ((long)(regs).rax)
#elif defined(__aarch64__)
#define PROGRAM_COUNTER(regs) ((regs).pc)
#define RESULT(regs) ((long)(regs).regs[0])
#endif

static struct step *shared_step;
static char parent[200], directory[256];

static void registers(pid_t child, struct user_regs_struct *regs)
{
	struct iovec iov = {regs, sizeof(*regs)};

	ptrace(PTRACE_GETREGSET, child, (void *)NT_PRSTATUS, &iov);
}

/* Steps a child that makes the directory until it stands at `where`, kills it there; its result register, or -1. */
static long die_at(const char *where)
{
	struct user_regs_struct regs;
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		long arguments[7] = {SYS_mkdirat, AT_FDCWD, (long)directory, 0700};

		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		call_witnessed(shared_step, arguments);
		_exit(0);
	}
	waitpid(child, &status, WUNTRACED);
	for (long steps = 0; WIFSTOPPED(status) && steps < 2000000; steps++) {
		registers(child, &regs);
		if (PROGRAM_COUNTER(regs) == (uintptr_t)where) {
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			return RESULT(regs);
		}
		if (ptrace(PTRACE_SINGLESTEP, child, 0, 0))
			break;
		waitpid(child, &status, 0);
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	CHECK(!"the child never comes there");
	return -1;
}

static bool prepare(void)
{
	if (!shared_step)
		shared_step = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(shared_step, 0, sizeof(*shared_step));
	shared_step->result = 12345;
	rmdir(directory);
	return shared_step != MAP_FAILED;
}

static void death_before_the_call(void)
{
	REQUIRE(prepare());
	die_at(call_before);
	CHECK_EQUAL(shared_step->state, STEP_STARTED);
	CHECK_EQUAL(shared_step->result, 12345);
	CHECK(access(directory, F_OK) != 0);
}

static void death_after_the_call(void)
{
	REQUIRE(prepare());
	CHECK_EQUAL(die_at(call_after), 0);
	CHECK_EQUAL(shared_step->state, STEP_STARTED);
	CHECK_EQUAL(shared_step->result, 12345);
	CHECK_EQUAL(access(directory, F_OK), 0);

	/* the register is what the kernel returned */
	shared_step->state = STEP_NONE;
	CHECK_EQUAL(die_at(call_after), -EEXIST);
	rmdir(directory);
}

/* No other instruction lies between the call and the register that tells: one step leads from the one to the other. */
static void nothing_lies_in_between(void)
{
	CHECK((uintptr_t)call_after - (uintptr_t)call_before <= 4);
	REQUIRE(prepare());

	/* after the first of the two stores the result is there; after the second the step is done */
	pid_t child = fork();
	int status = 0, steps = 0;

	if (child == 0) {
		long arguments[7] = {SYS_mkdirat, AT_FDCWD, (long)directory, 0700};

		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		call_witnessed(shared_step, arguments);
		_exit(0);
	}
	waitpid(child, &status, WUNTRACED);
	while (WIFSTOPPED(status) && shared_step->state != STEP_DONE && steps++ < 2000000) {
		CHECK(shared_step->state == STEP_NONE || shared_step->state == STEP_STARTED);
		CHECK(shared_step->result == 12345 || access(directory, F_OK) == 0);
		ptrace(PTRACE_SINGLESTEP, child, 0, 0);
		waitpid(child, &status, 0);
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	CHECK_EQUAL(shared_step->state, STEP_DONE);
	CHECK_EQUAL(shared_step->result, 0);
	rmdir(directory);
}

/* What a thread of the OOM killer's choice returns is no answer: the source would have had the memory. */
static void errors_of_the_dying_are_no_results(void)
{
	static const long dying[] = {-EINTR, -512, -530, -ENOMEM, -EFAULT, -ENOENT},
			  told[] = {0, 5, -ENOSPC, -EIO, -511, -531};

	for (size_t i = 0; i < COUNT(dying); i++) {
		struct record record = {.nsteps = 1, .steps = {{.state = STEP_STARTED, .result = 12345}}};

		CHECK(witness_testify(&record, (uintptr_t)call_after, dying[i]));
		CHECK_EQUAL(record.steps[0].state, STEP_NONE);
	}
	for (size_t i = 0; i < COUNT(told); i++) {
		struct record record = {.nsteps = 1, .steps = {{.state = STEP_STARTED, .result = 12345}}};

		CHECK(witness_testify(&record, (uintptr_t)call_after, told[i]));
		CHECK_EQUAL(record.steps[0].state, STEP_DONE);
		CHECK_EQUAL(record.steps[0].result, told[i]);
	}
}

int main(void)
{
	static const struct check checks[] = {
		{"a result is stored as the kernel returns it", a_result_is_stored_as_the_kernel_returns_it},
		{"all six arguments arrive", all_six_arguments_arrive},
		{"it keeps the registers of its caller", it_keeps_the_registers_of_its_caller},
		{"death before the call: started, and nothing was made", death_before_the_call},
		{"death after the call: started, and the register is the result", death_after_the_call},
		{"done is stored after the result", nothing_lies_in_between},
		{"an error that says that the thread is dying is no result", errors_of_the_dying_are_no_results},
	};
	int result;

	check_directory(parent, sizeof(parent));
	snprintf(directory, sizeof(directory), "%s/made", parent);
	result = check_run(checks, COUNT(checks));
	rmdir(directory);
	rmdir(parent);
	return result;
}
