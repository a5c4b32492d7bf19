/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading directories, and the working directory.
 *
 * The order of names is the file system's own business: lists are compared as sets (a sum of hashes).
 */
#include "difftest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PURGE_FILES 40

struct name_set {
	unsigned n;
	uint64_t sum;
};

static void set_add(struct name_set *set, const char *name, unsigned type)
{
	set->n++;
	set->sum += data_hash(name, strlen(name)) * (2 * type + 1);
}

static void set_report(struct outcome *o, const struct name_set *set)
{
	outcome_add(o, " names:%u %016llx", set->n, (unsigned long long)set->sum);
}

static int stream_read(DIR *dir, struct name_set *set)
{
	struct dirent *d;

	*set = (struct name_set){0};
	errno = 0;
	while ((d = readdir(dir)))
		set_add(set, d->d_name, d->d_type);
	return errno ? -1 : 0;
}

static void make_dir(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_DIR);
	if (rng_one_in(r, 6))
		strcpy(op->path[0], ".");
	op->arg[0] = rng_below(r, STREAM_N);
}

/* A stream that stays open while its directory changes, is renamed or removed. */
static void run_opendir(struct side *s, const struct op *op, struct outcome *o)
{
	DIR **stream = &s->stream[op->arg[0]];

	if (*stream)
		closedir(*stream);
	*stream = opendir(op->path[0]);
	outcome_set(o, *stream ? 0 : -1);
}

static void make_stream(struct op *op, struct rng *r)
{
	op->arg[0] = rng_below(r, STREAM_N);
}

static void run_rereaddir(struct side *s, const struct op *op, struct outcome *o)
{
	DIR *stream = s->stream[op->arg[0]];
	struct name_set set;

	if (!stream)
		return;
	rewinddir(stream);
	outcome_set(o, stream_read(stream, &set));
	set_report(o, &set);
}

static void run_closedir(struct side *s, const struct op *op, struct outcome *o)
{
	DIR **stream = &s->stream[op->arg[0]];

	if (*stream)
		outcome_set(o, closedir(*stream));
	*stream = NULL;
}

static void make_getdents(struct op *op, struct rng *r)
{
	make_dir(op, r);
	op->arg[0] = RNG_PICK(r, 10, 300, 1000, 4096, 32768);
}

static void run_getdents(struct side *s, const struct op *op, struct outcome *o)
{
	int fd = open(op->path[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct name_set set = {0};
	struct dirent64 *d;
	long n;

	(void)s;
	outcome_set(o, fd < 0 ? -1 : 0);
	if (fd < 0)
		return;
	while ((n = syscall(SYS_getdents64, fd, actor_data, op->arg[0])) > 0)
		for (long at = 0; at < n; at += d->d_reclen) {
			d = (struct dirent64 *)(actor_data + at);
			set_add(&set, d->d_name, d->d_type);
		}
	outcome_set(o, n);
	set_report(o, &set);
	outcome_add_call(o, "close", close(fd));
}

static void make_seekdir(struct op *op, struct rng *r)
{
	make_dir(op, r);
	op->arg[0] = rng_below(r, 10);
}

/* What follows a position must be the same when one comes back to it. */
static void run_seekdir(struct side *s, const struct op *op, struct outcome *o)
{
	DIR *dir = opendir(op->path[0]);
	struct name_set first, again, all;
	int skipped = 0;
	long position;

	(void)s;
	outcome_set(o, dir ? 0 : -1);
	if (!dir)
		return;
	while (skipped < op->arg[0] && readdir(dir))
		skipped++;
	position = telldir(dir);
	stream_read(dir, &first);
	seekdir(dir, position);
	stream_read(dir, &again);
	rewinddir(dir);
	stream_read(dir, &all);
	closedir(dir);
	outcome_add(o, " %s", first.n == again.n && first.sum == again.sum ? "same" : "not the same after seekdir");
	outcome_add(o, " %s", all.n == first.n + skipped ? "complete" : "not complete");
	set_report(o, &all);
}

static void purge_names(struct outcome *o, int dir)
{
	unsigned seen = 0;
	struct dirent64 *d;
	long n;

	while ((n = syscall(SYS_getdents64, dir, actor_data, 300)) > 0)
		for (long at = 0; at < n; at += d->d_reclen) {
			d = (struct dirent64 *)(actor_data + at);
			seen += !unlinkat(dir, d->d_name, 0);
		}
	outcome_add_call(o, "getdents", n);
	outcome_add(o, " removed:%u", seen);
}

/* Removes names while it reads them, as rm -r does: each must come up. */
static void run_purge(struct side *s, const struct op *op, struct outcome *o)
{
	char name[40];
	int dir;

	(void)s;
	outcome_set(o, mkdir(op->path[0], 0700));
	if (o->ret)
		return;
	dir = open(op->path[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < PURGE_FILES; i++) {
		snprintf(name, sizeof(name), "purge-%d", i);
		close(openat(dir, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	}
	purge_names(o, dir);
	close(dir);
	outcome_add_call(o, "rmdir", rmdir(op->path[0]));
}

/*
 * The working directory is remembered by a descriptor, since the process itself goes back and forth
 * between the sides. It is always found from the base, which bounds how far ".." can climb.
 */
static void run_chdir(struct side *s, const struct op *op, struct outcome *o)
{
	int fd;

	outcome_set(o, fchdir(s->base));
	if (!o->ret)
		outcome_set(o, chdir(op->path[0]));
	if (o->ret)
		return;
	fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->cwd != s->base)
		close(s->cwd);
	s->cwd = fd < 0 ? s->base : fd;
	outcome_add_call(o, "open", fd < 0 ? -1 : 0);
}

static void run_getcwd(struct side *s, const struct op *op, struct outcome *o)
{
	char cwd[PATH_MAX];
	size_t root = strlen(s->root);

	(void)op;
	outcome_set(o, fchdir(s->cwd));
	if (o->ret)
		return;
	outcome_set(o, getcwd(cwd, sizeof(cwd)) ? 0 : -1);
	if (!o->ret)
		outcome_add(o, " %s", strncmp(cwd, s->root, root) ? cwd : cwd + root);
}

const struct op_def dir_ops[] = {
	{"opendir", "pd", 10, OP_READS, make_dir, run_opendir},
	{"rereaddir", "d", 10, OP_READS, make_stream, run_rereaddir},
	{"closedir", "d", 3, OP_READS, make_stream, run_closedir},
	{"getdents", "pd", 14, OP_READS, make_getdents, run_getdents},
	{"seekdir", "pd", 6, OP_READS, make_seekdir, run_seekdir},
	{"purge", "p", 1, 0, make_dir, run_purge},
	{"chdir", "p", 8, OP_READS, make_dir, run_chdir},
	{"getcwd", "", 4, OP_READS, NULL, run_getcwd},
	{0},
};
