/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Locks of the three kinds, never waiting. On each side the actors meet only each other.
 */
#include "difftest.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static void make_flock(struct op *op, struct rng *r)
{
	op->arg[0] = RNG_PICK(r, LOCK_SH, LOCK_SH, LOCK_EX, LOCK_EX, LOCK_UN, 0) | LOCK_NB;
}

static void run_flock(struct side *s, const struct op *op, struct outcome *o)
{
	outcome_set(o, flock(s->fd[op->slot[0]], op->arg[0]));
}

static void make_lock(struct op *op, struct rng *r)
{
	op->arg[0] = RNG_PICK(r, F_SETLK, F_SETLK, F_OFD_SETLK, F_OFD_SETLK, F_GETLK, F_OFD_GETLK);
	op->arg[1] = RNG_PICK(r, F_RDLCK, F_RDLCK, F_WRLCK, F_WRLCK, F_UNLCK);
	op->arg[2] = rng_below(r, 30);
	op->arg[3] = rng_one_in(r, 5) ? 0 : rng_below(r, 20);
	if (rng_one_in(r, 30))
		op->arg[3] = -(long)rng_below(r, 20);
	op->arg[4] = RNG_PICK(r, SEEK_SET, SEEK_SET, SEEK_SET, SEEK_CUR, SEEK_END);
}

static void run_lock(struct side *s, const struct op *op, struct outcome *o)
{
	bool get = op->arg[0] == F_GETLK || op->arg[0] == F_OFD_GETLK;
	struct flock lock = {
		.l_type = op->arg[1],
		.l_start = op->arg[2],
		.l_len = op->arg[3],
		.l_whence = op->arg[4],
	};

	outcome_set(o, fcntl(s->fd[op->slot[0]], op->arg[0], &lock));
	if (!get || o->ret)
		return;
	outcome_add(o, " type:%d start:%ld len:%ld whence:%d", lock.l_type, (long)lock.l_start, (long)lock.l_len,
		    lock.l_whence);
	/* both sides have the same holders, so that even the process id is the same; -1 is an OFD lock */
	if (lock.l_type != F_UNLCK && !except_has(EXCEPT_LOCK_PID))
		outcome_add(o, " pid:%d", lock.l_pid);
}

const struct op_def lock_ops[] = {
	{"flock", "sx", 16, OP_READS, make_flock, run_flock},
	{"lock", "sddddd", 24, OP_READS, make_lock, run_lock},
	{0},
};
