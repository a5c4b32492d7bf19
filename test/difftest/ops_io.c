/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading and writing open files.
 */
#include "difftest.h"

#include <fcntl.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <stdlib.h>
#include <unistd.h>

#define DIRECT_ALIGN 4096

static bool slot_direct(const struct side *s, int slot)
{
	return s->fd_flags[slot] & O_DIRECT;
}

static bool fd_is_type(int fd, mode_t type)
{
	struct stat st;

	return !fstat(fd, &st) && (st.st_mode & S_IFMT) == type;
}

/* O_DIRECT files are only accessed aligned, at a given place: what else happens is up to the file system. */
static void direct_align(const struct side *s, int slot, off_t *offset, size_t *len)
{
	if (!slot_direct(s, slot))
		return;
	*offset &= ~(off_t)(DIRECT_ALIGN - 1);
	*len = (*len + DIRECT_ALIGN - 1) & ~(size_t)(DIRECT_ALIGN - 1);
}

static int iov_split(struct iovec *iov, size_t len, uint64_t seed)
{
	size_t first = len ? seed % len : 0, second = (len - first) / 2;

	iov[0] = (struct iovec){actor_data, first};
	iov[1] = (struct iovec){actor_data + first, second};
	iov[2] = (struct iovec){actor_data + first + second, len - first - second};
	return 3;
}

static void make_at(struct op *op, struct rng *r)
{
	op->arg[0] = rng_offset(r);
	op->arg[1] = rng_size(r);
	if (rng_one_in(r, 200))
		op->arg[0] = -1;
}

static void run_pread(struct side *s, const struct op *op, struct outcome *o)
{
	size_t len = op->arg[1];
	off_t offset = op->arg[0];

	direct_align(s, op->slot[0], &offset, &len);
	outcome_set(o, pread(s->fd[op->slot[0]], actor_data, len, offset));
	if (o->ret > 0)
		outcome_add_data(o, actor_data, o->ret);
}

static void make_len(struct op *op, struct rng *r)
{
	op->arg[0] = rng_size(r);
}

static void run_read(struct side *s, const struct op *op, struct outcome *o)
{
	int fd = s->fd[op->slot[0]];

	if (slot_direct(s, op->slot[0]))
		return;
	outcome_set(o, read(fd, actor_data, op->arg[0]));
	if (o->ret > 0)
		outcome_add_data(o, actor_data, o->ret);
	outcome_add_call(o, "at", lseek(fd, 0, SEEK_CUR));
}

static void run_readv(struct side *s, const struct op *op, struct outcome *o)
{
	struct iovec iov[3];
	int n = iov_split(iov, op->arg[0], op->seed);

	if (slot_direct(s, op->slot[0]))
		return;
	outcome_set(o, readv(s->fd[op->slot[0]], iov, n));
	if (o->ret > 0)
		outcome_add_data(o, actor_data, o->ret);
}

static void run_pwrite(struct side *s, const struct op *op, struct outcome *o)
{
	size_t len = op->arg[1];
	off_t offset = op->arg[0];

	direct_align(s, op->slot[0], &offset, &len);
	data_fill(actor_data, len, op->seed);
	outcome_set(o, pwrite(s->fd[op->slot[0]], actor_data, len, offset));
}

static void run_write(struct side *s, const struct op *op, struct outcome *o)
{
	int fd = s->fd[op->slot[0]];

	if (slot_direct(s, op->slot[0]))
		return;
	data_fill(actor_data, op->arg[0], op->seed);
	outcome_set(o, write(fd, actor_data, op->arg[0]));
	outcome_add_call(o, "at", lseek(fd, 0, SEEK_CUR));
}

static void run_writev(struct side *s, const struct op *op, struct outcome *o)
{
	struct iovec iov[3];
	int n = iov_split(iov, op->arg[0], op->seed);

	if (slot_direct(s, op->slot[0]))
		return;
	data_fill(actor_data, op->arg[0], op->seed);
	outcome_set(o, writev(s->fd[op->slot[0]], iov, n));
}

static void run_write_append(struct side *s, const struct op *op, struct outcome *o)
{
	struct iovec iov = {actor_data, op->arg[0]};

	if (slot_direct(s, op->slot[0]))
		return;
	data_fill(actor_data, op->arg[0], op->seed);
	outcome_set(o, pwritev2(s->fd[op->slot[0]], &iov, 1, 0, RWF_APPEND));
}

#define OFFSET_SAFE (1L << 42) /* every file system can seek there */

static void make_lseek(struct op *op, struct rng *r)
{
	op->arg[1] = RNG_PICK(r, SEEK_SET, SEEK_SET, SEEK_CUR, SEEK_END, 99);
	op->arg[0] = rng_offset(r);
	if (op->arg[1] != SEEK_SET && rng_one_in(r, 2))
		op->arg[0] = -op->arg[0];
	if (rng_one_in(r, 60))
		op->arg[0] = RNG_PICK(r, -1, LONG_MAX, LONG_MIN);
}

static void run_lseek(struct side *s, const struct op *op, struct outcome *o)
{
	int fd = s->fd[op->slot[0]];

	/* the positions of a directory mean nothing to anyone but its file system, except the start */
	if (fd_is_type(fd, S_IFDIR))
		outcome_set(o, lseek(fd, 0, SEEK_SET));
	else if (!except_has(EXCEPT_MAX_OFFSET) || labs(op->arg[0]) < OFFSET_SAFE)
		outcome_set(o, lseek(fd, op->arg[0], op->arg[1]));
}

static void make_copy(struct op *op, struct rng *r)
{
	op->arg[0] = rng_offset(r);
	op->arg[1] = rng_offset(r);
	op->arg[2] = rng_size(r);
	op->arg[3] = rng_one_in(r, 50);
}

/* How much a FIFO takes in pages depends on what is cached in how large folios: give it little. */
static size_t copy_length(int from, int to, size_t len)
{
	if (fd_is_type(from, S_IFREG) && fd_is_type(to, S_IFREG))
		return len;
	return len < 1000 ? len : 1000;
}

static void run_copy_range(struct side *s, const struct op *op, struct outcome *o)
{
	int from = s->fd[op->slot[0]], to = s->fd[op->slot[1]];
	off_t offset_from = op->arg[0], offset_to = op->arg[1];

	if (slot_direct(s, op->slot[0]) || slot_direct(s, op->slot[1]))
		return;
	outcome_set(o,
		    copy_file_range(from, &offset_from, to, &offset_to, copy_length(from, to, op->arg[2]), op->arg[3]));
	outcome_add(o, " from:%ld to:%ld", (long)offset_from, (long)offset_to);
}

static void run_sendfile(struct side *s, const struct op *op, struct outcome *o)
{
	int from = s->fd[op->slot[0]], to = s->fd[op->slot[1]];
	off_t offset = op->arg[0];

	if (slot_direct(s, op->slot[0]) || slot_direct(s, op->slot[1]))
		return;
	outcome_set(o, sendfile(to, from, &offset, copy_length(from, to, op->arg[2])));
	outcome_add(o, " from:%ld", (long)offset);
}

static void make_sync(struct op *op, struct rng *r)
{
	op->arg[0] = rng_below(r, 20);
}

static void run_sync(struct side *s, const struct op *op, struct outcome *o)
{
	int fd = s->fd[op->slot[0]];

	if (op->arg[0] == 0)
		outcome_set(o, syncfs(fd));
	else if (op->arg[0] < 10)
		outcome_set(o, fsync(fd));
	else
		outcome_set(o, fdatasync(fd));
}

static void make_fadvise(struct op *op, struct rng *r)
{
	op->arg[0] = rng_offset(r);
	op->arg[1] = rng_size(r);
	op->arg[2] = RNG_PICK(r, POSIX_FADV_DONTNEED, POSIX_FADV_DONTNEED, POSIX_FADV_WILLNEED, POSIX_FADV_RANDOM,
			      POSIX_FADV_SEQUENTIAL, POSIX_FADV_NORMAL, 77);
}

static void run_fadvise(struct side *s, const struct op *op, struct outcome *o)
{
	outcome_set(o, posix_fadvise(s->fd[op->slot[0]], op->arg[0], op->arg[1], op->arg[2]));
}

const struct op_def io_ops[] = {
	{"pread", "sdd", 30, OP_READS, make_at, run_pread},
	{"read", "sd", 20, OP_READS, make_len, run_read},
	{"readv", "sd", 8, OP_READS, make_len, run_readv},
	{"pwrite", "sdd", 40, 0, make_at, run_pwrite},
	{"write", "sd", 30, 0, make_len, run_write},
	{"writev", "sd", 12, 0, make_len, run_writev},
	{"write_append", "sd", 8, 0, make_len, run_write_append},
	{"lseek", "sdd", 12, OP_READS, make_lseek, run_lseek},
	{"copy_file_range", "stdddx", 10, 0, make_copy, run_copy_range},
	{"sendfile", "stddd", 8, 0, make_copy, run_sendfile},
	{"sync", "sd", 1, 0, make_sync, run_sync},
	{"fadvise", "sddd", 5, 0, make_fadvise, run_fadvise},
	{0},
};
