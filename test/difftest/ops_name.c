/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Operations on names: make, link, rename, remove.
 */
#include "difftest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

static void make_mkdir(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_DIR);
	op->arg[0] = rng_mode(r, 0777);
}

static void run_mkdir(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, mkdir(op->path[0], op->arg[0]));
}

static void make_dir(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_DIR);
}

static void run_rmdir(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, rmdir(op->path[0]));
}

static void make_mknod(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_FILE);
	op->arg[0] = RNG_PICK(r, S_IFIFO, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFCHR, S_IFBLK, S_IFREG, S_IFREG, 0, S_IFDIR);
	op->arg[0] |= rng_mode(r, 0666);
	/* null, zero, full, nothing; 0:0 is a whiteout, which needs no privilege. Block devices do not exist. */
	if (S_ISCHR(op->arg[0]))
		op->arg[1] = RNG_PICK(r, makedev(1, 3), makedev(1, 5), makedev(1, 7), makedev(1, 200), makedev(0, 0));
	else if (S_ISBLK(op->arg[0]))
		op->arg[1] = RNG_PICK(r, makedev(0, 0), makedev(4095, 1), makedev(4000, 1048575));
}

static void run_mknod(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, mknod(op->path[0], op->arg[0], op->arg[1]));
}

static void make_file(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_FILE);
}

/* A listening socket under a name, and a client that finds it there. */
static void run_bind(struct side *s, const struct op *op, struct outcome *o)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)s;
	memcpy(addr.sun_path, op->path[0], sizeof(addr.sun_path) - 1);
	/* an empty path would mean an address of the kernel's choice */
	if (!addr.sun_path[0])
		addr.sun_path[0] = '.';
	outcome_set(o, bind(server, (struct sockaddr *)&addr, sizeof(addr)));
	if (!o->ret)
		outcome_add_call(o, "listen", listen(server, 1));
	outcome_add_call(o, "connect", connect(client, (struct sockaddr *)&addr, sizeof(addr)));
	close(client);
	close(server);
}

static void make_unlink(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, rng_one_in(r, 12) ? WANT_DIR : WANT_FILE);
}

static void run_unlink(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, unlink(op->path[0]));
}

static void make_rename(struct op *op, struct rng *r)
{
	enum want want = rng_one_in(r, 3) ? WANT_DIR : WANT_FILE;

	path_make(op->path[0], r, want);
	path_make(op->path[1], r, rng_one_in(r, 15) ? WANT_ANY : want);
	if (rng_one_in(r, 60))
		strcpy(op->path[1], op->path[0]);
}

static void run_rename(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, rename(op->path[0], op->path[1]));
}

static void make_renameat2(struct op *op, struct rng *r)
{
	make_rename(op, r);
	if (rng_one_in(r, 3))
		path_make(op->path[1], r, WANT_ANY);
	op->arg[0] = RNG_PICK(r, RENAME_NOREPLACE, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, RENAME_EXCHANGE,
			      RENAME_WHITEOUT, RENAME_WHITEOUT | RENAME_NOREPLACE, RENAME_EXCHANGE | RENAME_NOREPLACE,
			      RENAME_WHITEOUT | RENAME_EXCHANGE, 8);
}

/* ext4 sets the directory's times also where a whiteout was made in vain: seen a moment later (README, Limits). */
static void touch_directory_of(const char *path)
{
	const char *end = strrchr(path, '/');
	char directory[PATH_MAX] = ".";

	if (end)
		snprintf(directory, sizeof(directory), "%.*s", (int)(end - path + 1), path);
	utimensat(AT_FDCWD, directory, NULL, 0);
}

static void run_renameat2(struct side *s, const struct op *op, struct outcome *o)
{
	int err = renameat2(AT_FDCWD, op->path[0], AT_FDCWD, op->path[1], op->arg[0]);

	(void)s;
	outcome_set(o, err);
	if (err && op->arg[0] & RENAME_WHITEOUT)
		touch_directory_of(op->path[0]);
}

static void make_link(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, rng_one_in(r, 20) ? WANT_DIR : WANT_FILE);
	path_make(op->path[1], r, WANT_FILE);
	op->arg[0] = rng_one_in(r, 4) ? AT_SYMLINK_FOLLOW : 0;
}

static void run_link(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, linkat(AT_FDCWD, op->path[0], AT_FDCWD, op->path[1], op->arg[0]));
}

static void make_link_fd(struct op *op, struct rng *r)
{
	path_make(op->path[1], r, WANT_FILE);
	op->arg[0] = rng_one_in(r, 2) ? AT_EMPTY_PATH : AT_SYMLINK_FOLLOW;
}

/* A name for an open file: one that has names already, has lost them, or never had one (O_TMPFILE). */
static void run_link_fd(struct side *s, const struct op *op, struct outcome *o)
{
	int fd = s->fd[op->slot[0]];
	char proc[40];

	if (op->arg[0] == AT_EMPTY_PATH) {
		outcome_set(o, linkat(fd, "", AT_FDCWD, op->path[1], AT_EMPTY_PATH));
		return;
	}
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	outcome_set(o, linkat(AT_FDCWD, proc, AT_FDCWD, op->path[1], AT_SYMLINK_FOLLOW));
}

static void make_tmpfile(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_DIR);
	path_make(op->path[1], r, WANT_FILE);
	if (rng_one_in(r, 3))
		strcpy(op->path[0], ".");
	op->arg[0] = O_TMPFILE | RNG_PICK(r, O_RDWR, O_WRONLY, O_RDWR | O_EXCL, O_RDWR | O_APPEND);
	op->arg[1] = rng_mode(r, 0644);
	op->arg[2] = rng_size(r);
}

/* A file without a name is written, then given one. */
static void run_tmpfile(struct side *s, const struct op *op, struct outcome *o)
{
	char proc[40];
	struct stat st;
	int fd = open(op->path[0], op->arg[0] | O_CLOEXEC, (mode_t)op->arg[1]);

	(void)s;
	outcome_set(o, fd < 0 ? -1 : 0);
	if (fd < 0)
		return;
	data_fill(actor_data, op->arg[2], op->seed);
	outcome_add_call(o, "write", write(fd, actor_data, op->arg[2]));
	if (!fstat(fd, &st))
		outcome_add_stat(o, &st);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	outcome_add_call(o, "linkat", linkat(AT_FDCWD, proc, AT_FDCWD, op->path[1], AT_SYMLINK_FOLLOW));
	if (!fstat(fd, &st))
		outcome_add_stat(o, &st);
	outcome_add_call(o, "close", close(fd));
}

static void make_symlink(struct op *op, struct rng *r)
{
	target_make(op->path[0], r);
	path_make(op->path[1], r, rng_one_in(r, 4) ? WANT_DIR : WANT_FILE);
}

static void run_symlink(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, symlink(op->path[0], op->path[1]));
}

static void make_readlink(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_ANY);
	op->arg[0] = RNG_PICK(r, 0, 1, 5, PATH_MAX, PATH_MAX);
}

static void run_readlink(struct side *s, const struct op *op, struct outcome *o)
{
	(void)s;
	outcome_set(o, readlink(op->path[0], (char *)actor_data, op->arg[0]));
	if (o->ret > 0)
		outcome_add_data(o, actor_data, o->ret);
}

const struct op_def name_ops[] = {
	{"mkdir", "po", 50, 0, make_mkdir, run_mkdir},
	{"rmdir", "p", 26, 0, make_dir, run_rmdir},
	{"mknod", "pox", 16, 0, make_mknod, run_mknod},
	{"bind", "p", 3, 0, make_file, run_bind},
	{"unlink", "p", 40, 0, make_unlink, run_unlink},
	{"rename", "pq", 40, 0, make_rename, run_rename},
	{"renameat2", "pqx", 24, 0, make_renameat2, run_renameat2},
	{"linkat", "pqx", 24, 0, make_link, run_link},
	{"link_fd", "sqx", 8, 0, make_link_fd, run_link_fd},
	{"tmpfile", "pqfod", 8, 0, make_tmpfile, run_tmpfile},
	{"symlink", "Pq", 20, 0, make_symlink, run_symlink},
	{"readlink", "pd", 12, OP_READS, make_readlink, run_readlink},
	{0},
};
