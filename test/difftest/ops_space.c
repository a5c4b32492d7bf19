/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sizes, holes and allocation, and the file size limit.
 */
#include "difftest.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB (1l << 20)

static long length_make(struct rng *r)
{
	if (rng_one_in(r, 80))
		return RNG_PICK(r, -1, LONG_MAX, LONG_MIN, 1l << 45, 1l << 62);
	return rng_offset(r);
}

static void make_truncate(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, rng_one_in(r, 20) ? WANT_DIR : WANT_FILE);
	op->arg[0] = length_make(r);
}

static void run_truncate(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, truncate(op->path[0], op->arg[0]));
}

static void make_ftruncate(struct op *op, struct rng *r)
{
	op->arg[0] = length_make(r);
}

static void run_ftruncate(struct side *s, const struct op *op, struct outcome *o)
{
	outcome_set(o, ftruncate(s->fd[op->slot[0]], op->arg[0]));
}

static void make_fallocate(struct op *op, struct rng *r)
{
	op->arg[0] = RNG_PICK(r, 0, 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
			      FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE);
	if (!except_has(EXCEPT_COLLAPSE) && rng_one_in(r, 4))
		op->arg[0] = RNG_PICK(r, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE);
	op->arg[1] = rng_offset(r);
	op->arg[2] = rng_size(r);
	if (rng_one_in(r, 50))
		op->arg[1 + rng_below(r, 2)] = -1;
}

static void run_fallocate(struct side *s, const struct op *op, struct outcome *o)
{
	outcome_set(o, fallocate(s->fd[op->slot[0]], op->arg[0], op->arg[1], op->arg[2]));
}

static void make_holes(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_FILE);
	op->arg[0] = rng_below(r, 2);
}

static void seek_report(struct outcome *o, int fd, off_t offset)
{
	outcome_add_call(o, "data", lseek(fd, offset, SEEK_DATA));
	outcome_add_call(o, "hole", lseek(fd, offset, SEEK_HOLE));
}

/*
 * A file whose holes are known: data at 0, data at 1 MiB, the end at 3 MiB. Elsewhere what is a hole
 * depends on what was read and written back when.
 */
static void run_holes(struct side *s, const struct op *op, struct outcome *o)
{
	int fd = open(op->path[0], O_RDWR | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC, 0666);
	struct stat st;

	(void)s;
	outcome_set(o, fd < 0 ? -1 : 0);
	if (fd < 0)
		return;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		goto out_close;
	data_fill(actor_data, 8192, op->seed);
	outcome_add_call(o, "pwrite", pwrite(fd, actor_data, 4096, 0));
	outcome_add_call(o, "pwrite", pwrite(fd, actor_data, 8192, MIB));
	outcome_add_call(o, "ftruncate", ftruncate(fd, 3 * MIB));
	if (op->arg[0])
		outcome_add_call(o, "punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, MIB, 4096));
	seek_report(o, fd, 0);
	seek_report(o, fd, 65536);
	seek_report(o, fd, MIB + 5000);
	seek_report(o, fd, 2 * MIB);
	seek_report(o, fd, 3 * MIB);
	seek_report(o, fd, -1);
out_close:
	outcome_add_call(o, "close", close(fd));
}

static void make_limit(struct op *op, struct rng *r)
{
	op->arg[0] = RNG_PICK(r, 0, 100, 4096, 10000);
	op->arg[1] = rng_offset(r);
	op->arg[2] = rng_size(r);
	op->arg[3] = rng_below(r, 3);
}

/* What a refused call does to the times and the set-id bits: see except.c. */
static bool limit_is_ambiguous(const struct op *op, int fd)
{
	struct stat st;

	return except_has(EXCEPT_LIMIT) &&
	       (op->arg[3] == 2 || (fstat(fd, &st) == 0 && st.st_mode & (S_ISUID | S_ISGID)));
}

/* The limit of the process that writes, not of the server, decides: EFBIG and a signal. */
static void run_limit(struct side *s, const struct op *op, struct outcome *o)
{
	int fd = s->fd[op->slot[0]];
	struct rlimit saved, limited;

	if (s->fd_flags[op->slot[0]] & O_DIRECT || limit_is_ambiguous(op, fd))
		return;
	getrlimit(RLIMIT_FSIZE, &saved);
	limited = (struct rlimit){.rlim_cur = op->arg[0], .rlim_max = saved.rlim_max};
	setrlimit(RLIMIT_FSIZE, &limited);
	actor_signals = 0;
	data_fill(actor_data, op->arg[2], op->seed);
	if (op->arg[3] == 0)
		outcome_set(o, pwrite(fd, actor_data, op->arg[2], op->arg[1]));
	else if (op->arg[3] == 1)
		outcome_set(o, ftruncate(fd, op->arg[1]));
	else
		outcome_set(o, fallocate(fd, 0, op->arg[1], op->arg[2]));
	setrlimit(RLIMIT_FSIZE, &saved);
	outcome_add(o, " SIGXFSZ:%u", actor_signals);
}

const struct op_def space_ops[] = {
	{"truncate", "pd", 20, 0, make_truncate, run_truncate},
	{"ftruncate", "sd", 20, 0, make_ftruncate, run_ftruncate},
	{"fallocate", "sxdd", 16, 0, make_fallocate, run_fallocate},
	{"holes", "pd", 3, 0, make_holes, run_holes},
	{"fsize_limit", "sdddd", 5, 0, make_limit, run_limit},
	{0},
};
