/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The actors: long-lived processes that have really become another user, so that the kernel and the file
 * system see what they see in life. An actor is told the number of a step, makes the operation, carries it
 * out on side A and then on side B, and leaves both outcomes in the shared mapping.
 */
#include "difftest.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct shared *shared;
unsigned actor_signals;
unsigned char *actor_data;

static struct side side[SIDE_N];
static int actor_number;

static void signal_count(int sig)
{
	(void)sig;
	actor_signals++;
}

static void signals_init(void)
{
	struct sigaction count = {.sa_handler = signal_count};

	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGXFSZ, &count, NULL);
}

int identity_switch(int number)
{
	static const uid_t uids[ACTOR_N] = {0, USER1, USER2};
	const gid_t shared_group = SHARED_GROUP;
	uid_t id = uids[number];

	if (id && (setgroups(1, &shared_group) || setresgid(id, id, id) || setresuid(id, id, id)))
		return -errno;
	if (!id && setgroups(0, NULL))
		return -errno;
	/* else /proc/self/fd is not ours any more */
	prctl(PR_SET_DUMPABLE, 1);
	return 0;
}

static void side_init(struct side *s, int which, int base)
{
	s->root = config.path[which];
	s->base = s->cwd = base;
	for (int i = 0; i < SLOT_N; i++)
		s->fd[i] = -1;
}

/* What the open file looks like after an operation on it. */
static void slots_report(const struct side *s, const struct op *op, struct outcome *o)
{
	struct stat st;

	if (op->def->flags & OP_READS)
		return;
	for (const char *c = op->def->spec; *c; c++)
		if ((*c == 's' || *c == 't') && !fstat(s->fd[op->slot[*c == 't']], &st)) {
			outcome_add(o, " fd%d:", op->slot[*c == 't']);
			outcome_add_stat(o, &st);
		}
}

static void side_run(struct side *s, const struct op *op, struct outcome *o)
{
	outcome_reset(o);
	errno = 0;
	if (fchdir(op->at_cwd ? s->cwd : s->base)) {
		outcome_set(o, -1);
		outcome_add(o, " (entering the directory)");
		return;
	}
	op->def->run(s, op, o);
	slots_report(s, op, o);
}

static void cwd_publish(void)
{
	for (int i = 0; i < SIDE_N; i++)
		shared->actor_cwd[actor_number][i] = side[i].cwd == side[i].base ? -1 : side[i].cwd;
}

static void __attribute__((noreturn)) actor_loop(int channel)
{
	static struct op op;
	unsigned step;
	char done = 0;

	while (read(channel, &step, sizeof(step)) == sizeof(step)) {
		op_generate(&op, shared->seed, step);
		for (int i = 0; i < SIDE_N; i++)
			side_run(&side[i], &op, &shared->outcome[i]);
		cwd_publish();
		if (write(channel, &done, 1) != 1)
			break;
	}
	_exit(0);
}

static void __attribute__((noreturn)) actor_main(int number, int channel, const int base[SIDE_N])
{
	actor_number = number;
	for (int i = 0; i < SIDE_N; i++)
		side_init(&side[i], i, base[i]);
	actor_data = mmap(NULL, DATA_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (actor_data == MAP_FAILED || identity_switch(number))
		_exit(EXIT_ENVIRONMENT);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signals_init();
	umask(022);
	actor_loop(channel);
}

int actor_start(struct actor *a, int number, const int base[SIDE_N])
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	for (int i = 0; i < SIDE_N; i++)
		shared->actor_cwd[number][i] = -1;
	a->pid = fork();
	if (a->pid < 0)
		return -errno;
	if (!a->pid) {
		close(pair[0]);
		actor_main(number, pair[1], base);
	}
	close(pair[1]);
	a->channel = pair[0];
	shared->actor_pid[number] = a->pid;
	return 0;
}

/* Has the actor carry out a step; -EPIPE when it is no more. The watchdog ends a wait that is too long. */
int actor_step(struct actor *a, unsigned step)
{
	char done;

	if (write(a->channel, &step, sizeof(step)) != sizeof(step) || read(a->channel, &done, 1) != 1)
		return -EPIPE;
	return 0;
}

/* Its files close one after the other at its end; only when it has been waited for is all of it gone. */
void actor_stop(struct actor *a)
{
	if (a->pid <= 0)
		return;
	close(a->channel);
	kill(a->pid, SIGKILL);
	while (waitpid(a->pid, NULL, 0) < 0 && errno == EINTR)
		;
	a->pid = 0;
}
