/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Running programs that lie in the trees: a copy of this very program, started under EXEC_NAME, says who
 * it is. That shows whether set-id bits, file capabilities and execute permission work.
 */
#include "difftest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <linux/capability.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCRIPT "#!x0\n"

int exec_child_main(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	uid_t r, e, s;

	syscall(SYS_capget, &header, data);
	getresuid(&r, &e, &s);
	printf(" uid:%u,%u,%u gid:%u,%u cap:%x/%x", r, e, s, getgid(), getegid(), data[0].effective, data[0].permitted);
	return 7;
}

static void make_install(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_FILE);
	if (rng_one_in(r, 2))
		strcpy(op->path[0], "x0");
	op->arg[0] = RNG_PICK(r, 0755, 0755, 04755, 02755, 06755, 04711, 0744);
	op->arg[1] = RNG_PICK(r, 0, USER1, USER2);
	op->arg[2] = RNG_PICK(r, 0, USER2, SHARED_GROUP);
	op->arg[3] = rng_one_in(r, 4);
}

/* Copies this program, or a script whose interpreter is the copy "x0". */
static void run_install(struct side *s, const struct op *op, struct outcome *o)
{
	int from, to = open(op->path[0], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;

	(void)s;
	outcome_set(o, to < 0 ? -1 : 0);
	if (to < 0)
		return;
	if (op->arg[3]) {
		outcome_add_call(o, "write", write(to, SCRIPT, strlen(SCRIPT)));
	} else {
		from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		fstat(from, &st);
		outcome_add_call(o, "sendfile", sendfile(to, from, NULL, st.st_size));
		close(from);
	}
	outcome_add_call(o, "fchown", fchown(to, op->arg[1], op->arg[2]));
	outcome_add_call(o, "fchmod", fchmod(to, op->arg[0]));
	outcome_add_call(o, "close", close(to));
}

/* Compares a file with what it must be; -1 when it cannot be opened. */
static int file_matches(const char *path, const void *want, size_t size)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), equal;
	struct stat st;
	void *start;

	if (fd < 0)
		return -1;
	equal = !fstat(fd, &st) && S_ISREG(st.st_mode) && (size_t)st.st_size == size;
	if (equal) {
		start = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
		equal = start != MAP_FAILED && !memcmp(start, want, size);
		munmap(start, size);
	}
	close(fd);
	return equal;
}

static int is_this_program(const char *path)
{
	static const void *self;
	static struct stat st;
	int fd;

	if (!self) {
		fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		fstat(fd, &st);
		self = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		close(fd);
	}
	return file_matches(path, self, st.st_size);
}

/* Only what `install` left is ever run: other operations may have written into it, and may again. */
static int is_runnable(const char *path)
{
	int ret = is_this_program(path);

	if (ret)
		return ret;
	return file_matches(path, SCRIPT, strlen(SCRIPT)) == 1 && is_this_program("x0") == 1;
}

static void make_exec(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_FILE);
	if (rng_below(r, 10) < 7)
		strcpy(op->path[0], "x0");
	op->arg[0] = rng_below(r, ACTOR_N);
}

static void exec_child(const struct op *op, int out)
{
	char *argv[] = {EXEC_NAME, NULL}, *envp[] = {NULL};

	dup2(out, STDOUT_FILENO);
	if (identity_switch(op->arg[0]))
		_exit(EXIT_ENVIRONMENT);
	execve(op->path[0], argv, envp);
	_exit(errno);
}

/* Root looks whether the file may be run, then a child becomes the user and runs it. */
static void run_exec(struct side *s, const struct op *op, struct outcome *o)
{
	int out[2], status = 0, ret;
	ssize_t n;
	pid_t pid;

	(void)s;
	ret = is_runnable(op->path[0]);
	outcome_set(o, ret);
	if (ret <= 0 || pipe2(out, O_CLOEXEC))
		return;
	pid = fork();
	if (!pid)
		exec_child(op, out[1]);
	close(out[1]);
	n = read(out[0], actor_data, 1000);
	close(out[0]);
	waitpid(pid, &status, 0);
	outcome_add(o, " status:%x%.*s", status, n > 0 ? (int)n : 0, actor_data);
}

const struct op_def exec_ops[] = {
	{"install", "poddd", 1, OP_ROOT, make_install, run_install},
	{"exec", "pd", 2, OP_READS | OP_ROOT, make_exec, run_exec},
	{0},
};
