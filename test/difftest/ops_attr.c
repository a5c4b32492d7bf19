/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Attributes: modes, owners, times; asking for them in all the ways there are.
 */
#include "difftest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

static void make_chmod(struct op *op, struct rng *r)
{
	enum want want = rng_one_in(r, 3) ? WANT_DIR : WANT_FILE;

	path_make(op->path[0], r, want);
	op->arg[0] = rng_mode(r, want == WANT_DIR ? 0777 : 0666);
}

static void run_chmod(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, chmod(op->path[0], op->arg[0]));
}

static void make_fchmod(struct op *op, struct rng *r)
{
	op->arg[0] = rng_mode(r, 0666);
}

static void run_fchmod(struct side *s, const struct op *op, struct outcome *o)
{
	outcome_set(o, fchmod(s->fd[op->slot[0]], op->arg[0]));
}

/* Users mostly try what can work: their own file, to the group they share. */
static void owner_make(struct op *op, struct rng *r)
{
	if (op->actor == ACTOR_ROOT)
		op->arg[0] = RNG_PICK(r, -1, 0, USER1, USER1, USER2, 12345);
	else
		op->arg[0] = RNG_PICK(r, -1, -1, -1, USER1, USER2, 0);
	op->arg[1] = RNG_PICK(r, -1, 0, USER1, USER2, SHARED_GROUP, SHARED_GROUP, SHARED_GROUP, 54321);
}

static void make_chown(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_ANY);
	owner_make(op, r);
	op->arg[2] = rng_one_in(r, 3) ? AT_SYMLINK_NOFOLLOW : 0;
}

static void run_chown(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, fchownat(AT_FDCWD, op->path[0], op->arg[0], op->arg[1], op->arg[2]));
}

static void make_fchown(struct op *op, struct rng *r)
{
	owner_make(op, r);
}

static void run_fchown(struct side *s, const struct op *op, struct outcome *o)
{
	outcome_set(o, fchown(s->fd[op->slot[0]], op->arg[0], op->arg[1]));
}

/* Explicit times are far from now, so that the comparison of trees tells them from implicit ones. */
static long nsec_make(struct rng *r)
{
	if (rng_one_in(r, 40))
		return RNG_PICK(r, 1000000000, -1);
	return RNG_PICK(r, UTIME_NOW, UTIME_OMIT, 0, 1, 999999999, 123456789, 123456789);
}

static long sec_make(struct rng *r)
{
	if (rng_one_in(r, 8))
		return RNG_PICK(r, -1, -100000, 0x7fffffff, 0x80000000, 0x100000000, 0x200000000, 0x380000000);
	return RNG_PICK(r, 0, 1, 1000000000, 1234567890, 1111111111);
}

static void times_make(struct op *op, struct rng *r)
{
	for (int i = 0; i < 4; i += 2) {
		op->arg[i] = sec_make(r);
		op->arg[i + 1] = nsec_make(r);
	}
	if (rng_one_in(r, 12))
		op->arg[1] = op->arg[3] = UTIME_NOW;
}

static bool nsec_explicit(long nsec)
{
	return nsec != UTIME_NOW && nsec != UTIME_OMIT;
}

static void times_report(struct outcome *o, const struct op *op, const struct stat *st)
{
	if (nsec_explicit(op->arg[1]))
		outcome_add(o, " atime:%ld.%09ld", st->st_atim.tv_sec, st->st_atim.tv_nsec);
	if (nsec_explicit(op->arg[3]))
		outcome_add(o, " mtime:%ld.%09ld", st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

static void make_utimensat(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_ANY);
	times_make(op, r);
	op->arg[4] = rng_one_in(r, 3) ? AT_SYMLINK_NOFOLLOW : 0;
}

static void run_utimensat(struct side *s, const struct op *op, struct outcome *o)
{
	struct timespec times[2] = {{op->arg[0], op->arg[1]}, {op->arg[2], op->arg[3]}};
	struct stat st;

	(void)s;
	outcome_set(o, utimensat(AT_FDCWD, op->path[0], times, op->arg[4]));
	if (!o->ret && !fstatat(AT_FDCWD, op->path[0], &st, op->arg[4]))
		times_report(o, op, &st);
}

static void make_futimens(struct op *op, struct rng *r)
{
	times_make(op, r);
}

static void run_futimens(struct side *s, const struct op *op, struct outcome *o)
{
	struct timespec times[2] = {{op->arg[0], op->arg[1]}, {op->arg[2], op->arg[3]}};
	struct stat st;

	outcome_set(o, futimens(s->fd[op->slot[0]], times));
	if (!o->ret && !fstat(s->fd[op->slot[0]], &st))
		times_report(o, op, &st);
}

static void make_stat(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_ANY);
	op->arg[0] = rng_one_in(r, 2) ? AT_SYMLINK_NOFOLLOW : 0;
}

static void run_stat(struct side *s, const struct op *op, struct outcome *o)
{
	struct stat st;

	(void)s;
	outcome_set(o, fstatat(AT_FDCWD, op->path[0], &st, op->arg[0]));
	if (!o->ret)
		outcome_add_stat(o, &st);
}

static void run_fstat(struct side *s, const struct op *op, struct outcome *o)
{
	struct stat st;

	outcome_set(o, fstat(s->fd[op->slot[0]], &st));
	if (!o->ret)
		outcome_add_stat(o, &st);
}

static void make_statx(struct op *op, struct rng *r)
{
	make_stat(op, r);
	op->arg[0] |= RNG_PICK(r, 0, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC);
	op->arg[1] = RNG_PICK(r, STATX_BASIC_STATS | STATX_BTIME, STATX_MODE, STATX_SIZE, STATX_BTIME);
	if (except_has(EXCEPT_BTIME_CACHED) && op->arg[0] & AT_STATX_DONT_SYNC)
		op->arg[1] &= ~STATX_BTIME;
}

static void run_statx(struct side *s, const struct op *op, struct outcome *o)
{
	unsigned asked = op->arg[1], known = STATX_BASIC_STATS | STATX_BTIME;
	struct statx stx;

	(void)s;
	outcome_set(o, statx(AT_FDCWD, op->path[0], op->arg[0], asked, &stx));
	if (o->ret)
		return;
	outcome_add(o, " mask:%x", stx.stx_mask & asked & known);
	if (asked & STATX_MODE)
		outcome_add(o, " mode:%o", stx.stx_mode);
	if (asked & STATX_SIZE)
		outcome_add(o, " size:%llu", (unsigned long long)stx.stx_size);
	if (asked & STATX_BTIME)
		outcome_add(o, " btime:%s", stx.stx_btime.tv_sec ? "set" : "0");
	if (!except_has(EXCEPT_STATX_ATTRIBUTES))
		outcome_add(o, " attributes:%llx/%llx", (unsigned long long)stx.stx_attributes,
			    (unsigned long long)stx.stx_attributes_mask);
}

static void make_same(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_FILE);
	path_make(op->path[1], r, WANT_FILE);
}

/* Whether names and a descriptor are the same file: by inode number, which programs like tar and du use. */
static void run_same(struct side *s, const struct op *op, struct outcome *o)
{
	struct stat st[3];
	bool have[3] = {!stat(op->path[0], &st[0]), !stat(op->path[1], &st[1]), !fstat(s->fd[op->slot[0]], &st[2])};

	for (int i = 0; i < 3; i++)
		for (int j = i + 1; j < 3; j++)
			if (have[i] && have[j])
				outcome_add(o, " %d%s%d", i, st[i].st_ino == st[j].st_ino ? "==" : "!=", j);
}

static void make_access(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_ANY);
	op->arg[0] = rng_one_in(r, 40) ? 8 : rng_below(r, 8);
	op->arg[1] = RNG_PICK(r, 0, AT_EACCESS, AT_SYMLINK_NOFOLLOW, AT_EACCESS | AT_SYMLINK_NOFOLLOW);
}

static void run_access(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, faccessat(AT_FDCWD, op->path[0], op->arg[0], op->arg[1]));
}

static void make_statfs(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_ANY);
}

static void run_statfs(struct side *s, const struct op *op, struct outcome *o)
{
	const long seen_by_programs = ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC;
	struct statfs st;

	(void)s;
	outcome_set(o, statfs(op->path[0], &st));
	if (o->ret)
		return;
	outcome_add(o, " bsize:%ld frsize:%ld namelen:%ld blocks:%lu flags:%lx", st.f_bsize, st.f_frsize, st.f_namelen,
		    (unsigned long)st.f_blocks, st.f_flags & seen_by_programs);
	if (!except_has(EXCEPT_FSTYPE))
		outcome_add(o, " type:%lx", st.f_type);
}

static void make_umask(struct op *op, struct rng *r)
{
	op->arg[0] = RNG_PICK(r, 0, 022, 022, 002, 077, 027, 0777);
}

static void run_umask(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, 0);
	umask(op->arg[0]);
}

const struct op_def attr_ops[] = {
	{"chmod", "po", 44, 0, make_chmod, run_chmod},
	{"fchmod", "so", 12, 0, make_fchmod, run_fchmod},
	{"fchownat", "pddx", 40, 0, make_chown, run_chown},
	{"fchown", "sdd", 8, 0, make_fchown, run_fchown},
	{"utimensat", "pddddx", 16, 0, make_utimensat, run_utimensat},
	{"futimens", "sdddd", 8, 0, make_futimens, run_futimens},
	{"stat", "px", 20, OP_READS, make_stat, run_stat},
	{"fstat", "s", 12, OP_READS, NULL, run_fstat},
	{"statx", "pxx", 8, OP_READS, make_statx, run_statx},
	{"same_file", "pqs", 8, OP_READS, make_same, run_same},
	{"access", "pox", 24, OP_READS, make_access, run_access},
	{"statfs", "p", 4, OP_READS, make_statfs, run_statfs},
	{"umask", "o", 4, OP_READS, make_umask, run_umask},
	{0},
};
