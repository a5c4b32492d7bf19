/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * execve(2) with the arguments of the mount and --adopt=FD before them, FD being the state's descriptor.
 */
#include "recover/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recover/descriptors.h"
#include "recover/internal.h"
#include "recover/watcher.h"

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

int exec_self_path(char *path, size_t size)
{
	static const char deleted[] = " (deleted)"; /* proc(5): another file has its name, or none */
	ssize_t length = readlink("/proc/self/exe", path, size - 1);

	if (length < 0)
		return -errno;
	path[length] = 0;
	if ((size_t)length > strlen(deleted) && strcmp(path + length - strlen(deleted), deleted) == 0)
		path[(size_t)length - strlen(deleted)] = 0;
	return 0;
}

/*
 * In the child, which begins in our table of open files and takes with it what the question needs: a copy of all of it
 * would hold the locks and the mount for as long as the program takes to answer.
 */
__attribute__((noreturn)) static void check_run(const struct recover *recover, const char *path,
						char *const arguments[])
{
	const int needed[] = {recover->state.fd, recover->buffers_fd};
	sigset_t none;

	if (descriptors_own(needed, 2))
		_exit(126);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(path, arguments, environ);
	_exit(127);
}

pid_t exec_check_start(struct recover *recover, const char *path)
{
	char argument[32];
	pid_t child;

	if (!recover->exec_arguments)
		return -EOPNOTSUPP;
	snprintf(argument, sizeof(argument), "--check-state=%d", recover->state.fd);

	char *const arguments[] = {recover->exec_arguments[0], argument, NULL};

	child = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (child == 0)
		check_run(recover, path, arguments);
	return child < 0 ? -errno : child;
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
