/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * execve(2) with the arguments of the mount and --adopt=FD before them, FD being the state's descriptor.
 */
#include "recover/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recover/internal.h"
#include "recover/watcher.h"

#define CHECK_MS 5000

extern char **environ;

int exec_prepare(struct recover *recover, char **arguments)
{
	size_t n = 0, kept = 0;
	char **copy;

	if (!arguments)
		return 0;
	while (arguments[n])
		n++;
	copy = calloc(n + 2, sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	copy[kept++] = arguments[0];
	copy[kept++] = recover->adopt_argument;
	for (size_t i = 1; i < n; i++)
		if (strncmp(arguments[i], "--adopt=", 8) != 0)
			copy[kept++] = arguments[i];
	snprintf(recover->adopt_argument, sizeof(recover->adopt_argument), "--adopt=%d", recover->state.fd);
	recover->exec_arguments = copy;
	return 0;
}

int exec_open_self(void)
{
	int fd = open("/proc/self/exe", O_PATH);

	return fd < 0 ? -errno : fd;
}

/* In the child. */
__attribute__((noreturn)) static void check_run(struct recover *recover, const char *path)
{
	char argument[32];
	char *arguments[] = {recover->exec_arguments[0], argument, NULL};
	sigset_t none;

	snprintf(argument, sizeof(argument), "--check-state=%d", recover->state.fd);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* a child that inherits the device and hangs would keep the mount alive for ever */
	for (unsigned i = 0; i < recover->workers_n; i++)
		close(recover->state.header->device[i]);
	execve(path, arguments, environ);
	_exit(127);
}

int exec_check(struct recover *recover, const char *path)
{
	struct pollfd ended = {.events = POLLIN};
	pid_t child = recover->exec_arguments ? fork() : -1;
	int status = 0, err = -ENOEXEC;

	if (!recover->exec_arguments)
		return -EOPNOTSUPP;
	if (child < 0)
		return -errno;
	if (child == 0)
		check_run(recover, path);
	ended.fd = (int)syscall(SYS_pidfd_open, child, 0);
	if (ended.fd < 0 || poll(&ended, 1, CHECK_MS) != 1) {
		kill(child, SIGKILL);
		err = -ETIME;
	}
	if (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		err = 0;
	if (ended.fd >= 0)
		close(ended.fd);
	return err;
}

int exec_become(struct recover *recover, int program)
{
	sigset_t all;

	if (!recover->exec_arguments)
		return -EOPNOTSUPP;
	watcher_stop(recover);
	/* what comes meanwhile waits for the new program */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_PDEATHSIG, 0);
	syscall(SYS_execveat, program, "", recover->exec_arguments, environ, AT_EMPTY_PATH);
	return -errno;
}
