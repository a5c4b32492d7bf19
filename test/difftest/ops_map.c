/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory mappings: coherent with read and write, written back, cut off by a truncation (SIGBUS).
 *
 * Private mappings live within one operation: whether a private page follows later changes of the file is
 * not defined. What is written through a shared one is synchronised at once, else its time would come later.
 */
#include "difftest.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAP_BYTES (64 << 10)
#define TOUCH_MAX 5000

static sigjmp_buf fault;

static void fault_handle(int sig)
{
	siglongjmp(fault, sig);
}

/* Copies between a mapping and a buffer; -1 when the mapping ends before the file does. */
static int guarded_copy(void *to, const void *from, size_t len)
{
	struct sigaction action = {.sa_handler = fault_handle}, saved;
	int ret = 0;

	sigaction(SIGBUS, &action, &saved);
	if (sigsetjmp(fault, 1))
		ret = -1;
	else
		memcpy(to, from, len);
	sigaction(SIGBUS, &saved, NULL);
	return ret;
}

static void unmap(struct map *map)
{
	if (map->start)
		munmap(map->start, map->len);
	map->start = NULL;
}

static void make_map(struct op *op, struct rng *r)
{
	op->arg[0] = rng_below(r, MAP_N);
	op->arg[1] = RNG_PICK(r, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE);
}

/* Maps an open file that nobody can lock: see except.c. */
static void *map_anew(int fd, int flags, int protection)
{
	char path[40];
	void *start;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, flags | O_NONBLOCK | O_CLOEXEC);
	start = mmap(NULL, MAP_BYTES, protection, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	return start;
}

static void run_map(struct side *s, const struct op *op, struct outcome *o)
{
	struct map *map = &s->map[op->arg[0]];
	void *start;

	unmap(map);
	if (except_has(EXCEPT_MAP_LOCK))
		start = map_anew(s->fd[op->slot[0]], s->fd_flags[op->slot[0]] & O_ACCMODE, op->arg[1]);
	else
		start = mmap(NULL, MAP_BYTES, op->arg[1], MAP_SHARED, s->fd[op->slot[0]], 0);
	outcome_set(o, start == MAP_FAILED ? -1 : 0);
	if (start != MAP_FAILED)
		*map = (struct map){start, MAP_BYTES, op->arg[1]};
}

static void make_touch(struct op *op, struct rng *r)
{
	op->arg[0] = rng_below(r, MAP_N);
	op->arg[1] = rng_below(r, rng_one_in(r, 4) ? MAP_BYTES - TOUCH_MAX : 8192);
	op->arg[2] = 1 + rng_below(r, TOUCH_MAX);
}

static void run_peek(struct side *s, const struct op *op, struct outcome *o)
{
	struct map *map = &s->map[op->arg[0]];

	if (!map->start)
		return;
	if (guarded_copy(actor_data, map->start + op->arg[1], op->arg[2]))
		outcome_add(o, " SIGBUS");
	else
		outcome_add_data(o, actor_data, op->arg[2]);
}

static void run_poke(struct side *s, const struct op *op, struct outcome *o)
{
	struct map *map = &s->map[op->arg[0]];

	if (!map->start || !(map->prot & PROT_WRITE))
		return;
	data_fill(actor_data, op->arg[2], op->seed);
	if (guarded_copy(map->start + op->arg[1], actor_data, op->arg[2]))
		outcome_add(o, " SIGBUS");
	outcome_set(o, msync(map->start, map->len, MS_SYNC));
}

static void make_unmap(struct op *op, struct rng *r)
{
	op->arg[0] = rng_below(r, MAP_N);
}

static void run_unmap(struct side *s, const struct op *op, struct outcome *o)
{
	(void)o;
	unmap(&s->map[op->arg[0]]);
}

/* A private mapping shows the file, and keeps what is written into it to itself. */
static void run_private(struct side *s, const struct op *op, struct outcome *o)
{
	int fd = s->fd[op->slot[0]];
	unsigned char *start = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	outcome_set(o, start == MAP_FAILED ? -1 : 0);
	if (start == MAP_FAILED)
		return;
	if (guarded_copy(actor_data, start + op->arg[1], op->arg[2])) {
		outcome_add(o, " SIGBUS");
	} else {
		outcome_add_data(o, actor_data, op->arg[2]);
		memset(start + op->arg[1], 'p', op->arg[2]);
	}
	munmap(start, MAP_BYTES);
}

const struct op_def map_ops[] = {
	{"map", "sdx", 8, OP_NO_TIMES, make_map, run_map},
	{"peek", "ddd", 12, OP_READS, make_touch, run_peek},
	{"poke", "ddd", 3, OP_NO_TIMES, make_touch, run_poke},
	{"unmap", "d", 2, OP_READS, make_unmap, run_unmap},
	{"map_private", "sddd", 5, OP_READS, make_touch, run_private},
	{0},
};
