/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opening, closing and duplicating files; flags of open files.
 *
 * A slot keeps its file across steps, while it is renamed, unlinked or overwritten. Everything that could
 * be a FIFO is opened with O_NONBLOCK: an actor must never wait.
 */
#include "difftest.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <linux/fs.h>
#include <unistd.h>

static long flags_make(struct rng *r)
{
	long flags = RNG_PICK(r, O_RDONLY, O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, O_RDWR);

	if (rng_one_in(r, 100))
		flags = 3;
	if (rng_one_in(r, 20))
		return O_TMPFILE | (rng_one_in(r, 8) ? O_RDONLY : O_RDWR) | (rng_one_in(r, 4) ? O_EXCL : 0);
	if (rng_one_in(r, 15))
		return O_PATH | RNG_PICK(r, 0, O_NOFOLLOW, O_DIRECTORY, O_NOFOLLOW | O_DIRECTORY, O_CREAT);
	if (rng_one_in(r, 12))
		return O_DIRECTORY |
		       RNG_PICK(r, O_RDONLY, O_RDONLY, O_NOFOLLOW, O_RDWR, O_CREAT, O_CREAT | O_EXCL, O_TRUNC);
	if (rng_below(r, 10) < 6)
		flags |= O_CREAT;
	if (rng_one_in(r, flags & O_CREAT ? 4 : 30))
		flags |= O_EXCL;
	if (rng_one_in(r, 8))
		flags |= O_TRUNC;
	if (rng_one_in(r, 8))
		flags |= O_APPEND;
	else if (rng_one_in(r, 16))
		flags |= O_DIRECT;
	if (rng_one_in(r, 20))
		flags |= O_NOFOLLOW;
	if (rng_one_in(r, 20))
		flags |= O_NOATIME;
	if (rng_one_in(r, 200))
		flags |= rng_one_in(r, 2) ? O_SYNC : O_DSYNC;
	return flags | O_NONBLOCK;
}

static void make_open(struct op *op, struct rng *r)
{
	op->arg[0] = flags_make(r);
	op->arg[1] = rng_mode(r, 0666);
	path_make(op->path[0], r, op->arg[0] & O_DIRECTORY ? WANT_DIR : WANT_FILE);
}

static void slot_put(struct side *s, int slot, int fd, int flags)
{
	s->fd[slot] = fd;
	s->fd_flags[slot] = flags;
}

static void slot_close(struct side *s, int slot, struct outcome *o)
{
	if (s->fd[slot] >= 0)
		outcome_add_call(o, "close", close(s->fd[slot]));
	slot_put(s, slot, -1, 0);
}

static void run_open(struct side *s, const struct op *op, struct outcome *o)
{
	int slot = op->slot[0], fd;
	struct stat st;

	slot_close(s, slot, o);
	fd = open(op->path[0], op->arg[0] | O_CLOEXEC, (mode_t)op->arg[1]);
	outcome_set(o, fd < 0 ? -1 : 0);
	if (fd < 0)
		return;
	slot_put(s, slot, fd, op->arg[0]);
	outcome_add_call(o, "F_GETFL", fcntl(fd, F_GETFL));
	outcome_add_call(o, "lseek", lseek(fd, 0, SEEK_CUR));
	if (!lstat(op->path[0], &st))
		outcome_add_stat(o, &st);
}

static void make_creat(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_FILE);
	op->arg[0] = O_CREAT | O_WRONLY | O_NONBLOCK | RNG_PICK(r, 0, O_TRUNC, O_EXCL);
	op->arg[1] = rng_mode(r, 0666);
	op->arg[2] = rng_size(r);
}

/* What most programs do with a file: create, write, close. */
static void run_creat(struct side *s, const struct op *op, struct outcome *o)
{
	int fd = open(op->path[0], op->arg[0] | O_CLOEXEC, (mode_t)op->arg[1]);
	struct stat st;

	(void)s;
	outcome_set(o, fd < 0 ? -1 : 0);
	if (fd < 0)
		return;
	data_fill(actor_data, op->arg[2], op->seed);
	outcome_add_call(o, "write", write(fd, actor_data, op->arg[2]));
	if (!fstat(fd, &st))
		outcome_add_stat(o, &st);
	outcome_add_call(o, "close", close(fd));
}

static void make_slurp(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_FILE);
}

static void run_slurp(struct side *s, const struct op *op, struct outcome *o)
{
	int fd = open(op->path[0], O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	(void)s;
	outcome_set(o, fd < 0 ? -1 : 0);
	if (fd < 0)
		return;
	outcome_set(o, read(fd, actor_data, DATA_MAX));
	if (o->ret > 0)
		outcome_add_data(o, actor_data, o->ret);
	outcome_add_call(o, "close", close(fd));
}

static void run_close(struct side *s, const struct op *op, struct outcome *o)
{
	slot_close(s, op->slot[0], o);
}

static void run_dup(struct side *s, const struct op *op, struct outcome *o)
{
	int from = s->fd[op->slot[0]], fd;

	if (op->slot[0] == op->slot[1])
		return;
	slot_close(s, op->slot[1], o);
	fd = fcntl(from, F_DUPFD_CLOEXEC, 0);
	outcome_set(o, fd < 0 ? -1 : 0);
	slot_put(s, op->slot[1], fd, s->fd_flags[op->slot[0]]);
}

/* Opens the file of a descriptor again, by its magic link: another access mode, without any name. */
static void make_reopen(struct op *op, struct rng *r)
{
	op->arg[0] = RNG_PICK(r, O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_APPEND, O_WRONLY | O_TRUNC, O_PATH,
			      O_RDONLY | O_DIRECTORY) |
		     O_NONBLOCK;
}

static void run_reopen(struct side *s, const struct op *op, struct outcome *o)
{
	char proc[40];
	int fd;

	if (op->slot[0] == op->slot[1])
		return;
	slot_close(s, op->slot[1], o);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", s->fd[op->slot[0]]);
	fd = open(proc, op->arg[0] | O_CLOEXEC);
	outcome_set(o, fd < 0 ? -1 : 0);
	slot_put(s, op->slot[1], fd, op->arg[0]);
}

static void make_setfl(struct op *op, struct rng *r)
{
	op->arg[0] = RNG_PICK(r, 0, O_APPEND, O_NOATIME, O_APPEND | O_NOATIME);
}

static void run_setfl(struct side *s, const struct op *op, struct outcome *o)
{
	int fd = s->fd[op->slot[0]], opened = s->fd_flags[op->slot[0]];
	int kept = opened & (O_DIRECT | (except_has(EXCEPT_APPEND_CLEARED) ? O_APPEND : 0));

	outcome_set(o, fcntl(fd, F_SETFL, (opened & O_DIRECT ? 0 : op->arg[0]) | O_NONBLOCK | kept));
	outcome_add_call(o, "F_GETFL", fcntl(fd, F_GETFL));
}

static void run_poll(struct side *s, const struct op *op, struct outcome *o)
{
	struct pollfd p = {.fd = s->fd[op->slot[0]], .events = POLLIN | POLLOUT | POLLPRI};
	struct epoll_event event = {.events = EPOLLIN};
	int fd;

	outcome_set(o, poll(&p, 1, 0));
	outcome_add(o, " revents:%x", p.revents);
	if (except_has(EXCEPT_EPOLL))
		return;
	fd = epoll_create1(EPOLL_CLOEXEC);
	outcome_add_call(o, "epoll_ctl", epoll_ctl(fd, EPOLL_CTL_ADD, p.fd, &event));
	close(fd);
}

static void run_getflags(struct side *s, const struct op *op, struct outcome *o)
{
	int flags = 0;

	outcome_set(o, ioctl(s->fd[op->slot[0]], FS_IOC_GETFLAGS, &flags));
	outcome_add(o, " flags:%x", flags);
}

const struct op_def open_ops[] = {
	{"open", "spfo", 90, 0, make_open, run_open},
	{"creat", "pfod", 40, 0, make_creat, run_creat},
	{"slurp", "p", 30, OP_READS, make_slurp, run_slurp},
	{"close", "s", 16, 0, NULL, run_close},
	{"dup", "st", 6, 0, NULL, run_dup},
	{"reopen", "stf", 8, 0, make_reopen, run_reopen},
	{"setfl", "sf", 5, 0, make_setfl, run_setfl},
	{"poll", "s", 4, OP_READS, NULL, run_poll},
	{"getflags", "s", 3, OP_READS, NULL, run_getflags},
	{0},
};
