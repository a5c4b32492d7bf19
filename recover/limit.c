/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The child keeps nothing open: a caller that reads our output to its end would otherwise wait for one that is stuck. It is
 * killed and left behind then, for whoever reaps orphans; it ends when what it waits for does.
 */
#include "recover/limit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int outcome_set(struct outcome *outcome, int code, const char *format, ...)
{
	va_list arguments;

	outcome->code = code;
	va_start(arguments, format);
	vsnprintf(outcome->text, sizeof(outcome->text), format, arguments);
	va_end(arguments);
	for (char *at = outcome->text; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = '?';
	return code;
}

__attribute__((noreturn)) static void child_run(limit_work *work, const void *argument, struct outcome *outcome)
{
	syscall(SYS_close_range, 0u, ~0u, 0);
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (open("/dev/null", O_RDWR) != fd)
			_exit(1);
	work(argument, outcome);
	_exit(0);
}

/* 0, -ETIMEDOUT, or -ECHILD: it died. */
static int child_wait(pid_t child, int64_t limit_ms)
{
	struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN};
	int status, n;

	if (end.fd < 0)
		return -errno;
	n = poll(&end, 1, (int)limit_ms);
	close(end.fd);
	if (n == 0)
		return -ETIMEDOUT;
	return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
}

int limit_run(limit_work *work, const void *argument, int64_t limit_ms, struct outcome *outcome)
{
	struct outcome *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child;
	int err;

	if (shared == MAP_FAILED)
		return -errno;
	child = fork();
	if (child == 0)
		child_run(work, argument, shared);
	err = child < 0 ? -errno : child_wait(child, limit_ms);
	if (err && child > 0)
		kill(child, SIGKILL);
	if (!err)
		*outcome = *shared;
	munmap(shared, sizeof(*shared));
	return err;
}
