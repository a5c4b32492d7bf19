/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ptrace(2), in the monitor. A thread of the server stops as it exits, also of SIGKILL (PTRACE_O_TRACEEXIT), with the
 * registers it had in user space: at the system call instruction it was not made, after it the result register is
 * what it returned. Some errors only say that the thread is dying, and nothing happened: -EINTR, -512 to -530, which
 * never reach user space (linux/errno.h), -ENOMEM of whom the OOM killer chose (mm/memcontrol.c, try_charge_memcg()),
 * -EFAULT of whom a page is no longer brought in for, and -ENOENT of /proc/self/fd/N where the process's first thread is gone
 * already, and with it what that directory shows. A live server that gets one of these stores it itself; where the call did
 * fail so it changed nothing, and fails again.
 */
#include "recover/witness.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/call.h"
#include "recover/journal.h"
#include "recover/log.h"
#include "recover/state.h"

#define OPTIONS (PTRACE_O_TRACEEXIT | PTRACE_O_TRACECLONE)

const char *witness_name(enum witness witness)
{
	static const char *const names[WITNESS_N] = {
		[WITNESS_AUTO] = "none", [WITNESS_REGISTERS] = "registers", [WITNESS_EVIDENCE] = "evidence"};

	return names[witness < WITNESS_N ? witness : WITNESS_AUTO];
}

int witness_probe(void)
{
	pid_t child = fork();
	int err = 0, status;

	if (child < 0)
		return -errno;
	if (child == 0) {
		pause();
		_exit(0);
	}
	if (ptrace(PTRACE_SEIZE, child, NULL, OPTIONS))
		err = -errno;
	kill(child, SIGKILL);
	while (waitpid(child, &status, __WALL) == child && WIFSTOPPED(status))
		ptrace(PTRACE_CONT, child, NULL, 0L);
	return err;
}

/* Traces the threads listed in `path`; how many were not traced yet. Threads that those start are traced as it is. */
static int seize_threads(const char *path)
{
	DIR *tasks = opendir(path);
	struct dirent *entry;
	int seized = 0;

	if (!tasks)
		return -errno;
	while ((entry = readdir(tasks)) != NULL) {
		pid_t tid = (pid_t)atoi(entry->d_name);

		if (tid > 0 && ptrace(PTRACE_SEIZE, tid, NULL, OPTIONS) == 0)
			seized++;
	}
	closedir(tasks);
	return seized;
}

int witness_seize(pid_t pid)
{
	char path[40];
	int seized, total = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	do {
		seized = seize_threads(path);
		if (seized < 0)
			return seized;
		total += seized;
	} while (seized);
	return total ? 0 : -EPERM;
}

/* Instruction pointer and result register. */
static bool registers_read(pid_t tid, uintptr_t *ip, long *result)
{
	struct user_regs_struct registers;
	struct iovec iov = {&registers, sizeof(registers)};

	if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov))
		return false;
#if defined(__x86_64__)
	*ip = registers.rip;
	*result = (long)registers.rax;
#elif defined(__aarch64__)
	*ip = registers.pc;
	*result = (long)registers.regs[0];
#endif
	return true;
}

static bool never_happened(uintptr_t ip, long result)
{
	return ip < (uintptr_t)call_after || result == -EINTR || result == -ENOMEM || result == -EFAULT ||
	       result == -ENOENT || (result <= -512 && result >= -530);
}

bool witness_testify(struct record *record, uintptr_t ip, long result)
{
	bool told = true;

	for (unsigned i = 0; i < record->nsteps && i < JOURNAL_STEPS; i++) {
		struct step *step = &record->steps[i];

		if (step->state != STEP_STARTED)
			continue;
		if (ip < (uintptr_t)call_before || ip > (uintptr_t)call_end) {
			told = false;
		} else if (never_happened(ip, result)) {
			store_release(&step->state, STEP_NONE);
		} else {
			step->result = result;
			store_release(&step->state, STEP_DONE);
		}
	}
	return told;
}

/* The step that the thread was in, if any, gets its result. */
static void thread_testify(struct state *state, pid_t tid)
{
	uintptr_t ip = 0;
	long result = 0;

	for (unsigned i = 0; i < load_acquire(&state->header->records_high); i++) {
		struct record *record = &state->records[i];

		if (record->phase != RECORD_BEGUN || record->tid != tid)
			continue;
		if (!ip && !registers_read(tid, &ip, &result))
			ip = 0;
		if (!witness_testify(record, ip, result))
			log_error("thread %d died in a system call, and its registers do not say where", tid);
	}
}

static bool stops_group(int signal_number)
{
	return signal_number == SIGSTOP || signal_number == SIGTSTP || signal_number == SIGTTIN ||
	       signal_number == SIGTTOU;
}

void witness_stopped(struct state *state, pid_t tid, int status)
{
	int event = status >> 16, signal_number = WSTOPSIG(status);

	if (event == PTRACE_EVENT_EXIT)
		thread_testify(state, tid);
	if (event == PTRACE_EVENT_STOP && stops_group(signal_number))
		ptrace(PTRACE_LISTEN, tid, NULL, 0L); /* stays stopped until SIGCONT, as without us */
	else
		ptrace(PTRACE_CONT, tid, NULL, event ? 0L : (long)signal_number);
}
