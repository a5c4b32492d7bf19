/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages: one line, one write, however long; and bug() aborts. */
#include "test/unit/check.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recover/log.h"

static char got[32768];

/* What a child writes to its standard error while it runs `say`, each write by itself; returns the first. */
static ssize_t line_of(void (*say)(void), int *status)
{
	int pair[2];
	ssize_t bytes;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
		return -1;
	child = fork();
	if (child == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		signal(SIGABRT, SIG_DFL);
		dup2(pair[1], 2);
		say();
		_exit(0);
	}
	close(pair[1]);
	bytes = read(pair[0], got, sizeof(got) - 1);
	got[bytes > 0 ? bytes : 0] = 0;
	waitpid(child, status, 0);
	close(pair[0]);
	return bytes;
}

static void say_error(void)
{
	log_open("unit", false, false);
	log_error("cannot %s: %d", "do it", 5);
	log_error("another");
}

static void say_debug(void)
{
	log_open("unit", false, true);
	log_debug("hidden");
	log_open("unit", true, true);
	log_debug("shown");
}

static void say_info(void)
{
	log_open("unit", true, false);
	log_info("for the foreground only");
	log_open("unit", true, true);
	log_info("ready");
}

static void say_much(void)
{
	static char text[20000];

	memset(text, 'x', sizeof(text) - 1);
	log_open("unit", false, false);
	log_error("%s", text);
}

static void say_exactly(void)
{
	static char text[9216 - 7];

	memset(text, 'x', sizeof(text) - 1);
	log_open("unit", false, false);
	log_error("%s", text);
}

static void say_bug(void)
{
	log_open("unit", false, false);
	bug("number %d", 7);
}

static void a_message_is_one_write(void)
{
	int status;

	CHECK_EQUAL(line_of(say_error, &status), strlen("unit: cannot do it: 5\n"));
	CHECK(strcmp(got, "unit: cannot do it: 5\n") == 0);
}

static void levels_are_asked_for(void)
{
	int status;

	line_of(say_debug, &status);
	CHECK(strcmp(got, "unit: shown\n") == 0);
	line_of(say_info, &status);
	CHECK(strcmp(got, "unit: ready\n") == 0);
}

static void a_long_message_is_cut(void)
{
	int status;
	ssize_t bytes = line_of(say_much, &status);

	CHECK_EQUAL(status, 0);
	CHECK(bytes > 9000 && bytes <= 9216);
	CHECK(strncmp(got, "unit: xxx", 9) == 0);
	CHECK(got[bytes - 1] == '\n' && got[bytes - 2] == 'x');
	bytes = line_of(say_exactly, &status);
	CHECK_EQUAL(status, 0);
	CHECK(got[bytes - 1] == '\n' && got[bytes - 2] == 'x');
}

static void a_bug_aborts(void)
{
	int status;

	line_of(say_bug, &status);
	CHECK(strcmp(got, "unit: number 7\n") == 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
	static const struct check checks[] = {
		{"a message is one write", a_message_is_one_write},
		{"levels are asked for", levels_are_asked_for},
		{"a long message is cut", a_long_message_is_cut},
		{"a bug aborts", a_bug_aborts},
	};

	return check_run(checks, COUNT(checks));
}
