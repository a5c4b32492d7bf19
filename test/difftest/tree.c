/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Compares whole trees: names as sets, d_type and d_ino, everything compare.c knows of each name, content,
 * and which names are the same file. Also removes trees.
 */
#include "difftest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct name {
	char *name;
	ino_t ino;
	unsigned char type;
};

struct listing {
	struct name *at;
	size_t n;
};

/* Every name's inode number on both sides: equal on one side must mean equal on the other. */
struct ino_pair {
	ino_t ino[SIDE_N];
};

static struct ino_pair *pairs;
static size_t pair_n, pair_space;

static int name_order(const void *a, const void *b)
{
	return strcmp(((const struct name *)a)->name, ((const struct name *)b)->name);
}

static bool is_dot(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

static void listing_add(struct listing *list, const struct dirent *d)
{
	if (list->n % 64 == 0)
		list->at = realloc(list->at, (list->n + 64) * sizeof(*list->at));
	list->at[list->n++] = (struct name){strdup(d->d_name), d->d_ino, d->d_type};
}

static int listing_load(struct listing *list, int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC);
	struct dirent *d;
	DIR *stream;

	*list = (struct listing){0};
	stream = fd < 0 ? NULL : fdopendir(fd);
	if (!stream)
		return -errno;
	errno = 0;
	while ((d = readdir(stream)))
		if (!is_dot(d->d_name))
			listing_add(list, d);
	closedir(stream);
	if (list->n)
		qsort(list->at, list->n, sizeof(*list->at), name_order);
	return 0;
}

static void listing_free(struct listing *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->at[i].name);
	free(list->at);
}

static void compare_listing(struct report *rep, const struct listing *a, const struct listing *b, const char *where)
{
	char name[400];
	size_t i;

	for (i = 0; i < a->n && i < b->n; i++)
		if (strcmp(a->at[i].name, b->at[i].name))
			break;
	if (i == a->n && i == b->n)
		return;
	if (i == b->n || (i < a->n && strcmp(a->at[i].name, b->at[i].name) < 0))
		report_difference(rep, "directory %s: only A lists %s\n", where,
				  name_quote(a->at[i].name, name, sizeof(name)));
	else
		report_difference(rep, "directory %s: only B lists %s\n", where,
				  name_quote(b->at[i].name, name, sizeof(name)));
}

static void pair_add(const struct stat st[SIDE_N])
{
	if (pair_n == pair_space) {
		pair_space = pair_space * 2 + 256;
		struct ino_pair *more = realloc(pairs, pair_space * sizeof(*pairs));

		if (!more)
			abort();
		pairs = more;
	}
	pairs[pair_n++] = (struct ino_pair){{st[SIDE_A].st_ino, st[SIDE_B].st_ino}};
}

static int order_by_a(const void *x, const void *y)
{
	const struct ino_pair *a = x, *b = y;

	return a->ino[SIDE_A] < b->ino[SIDE_A] ? -1 : a->ino[SIDE_A] > b->ino[SIDE_A];
}

static int order_by_b(const void *x, const void *y)
{
	const struct ino_pair *a = x, *b = y;

	return a->ino[SIDE_B] < b->ino[SIDE_B] ? -1 : a->ino[SIDE_B] > b->ino[SIDE_B];
}

static void compare_pairs(struct report *rep, int key)
{
	int other = key == SIDE_A ? SIDE_B : SIDE_A;

	qsort(pairs, pair_n, sizeof(*pairs), key == SIDE_A ? order_by_a : order_by_b);
	for (size_t i = 1; i < pair_n; i++)
		if (pairs[i - 1].ino[key] == pairs[i].ino[key] && pairs[i - 1].ino[other] != pairs[i].ino[other])
			report_difference(rep, "two names are one file only on side %c (inode %lu)\n", "AB"[key],
					  (unsigned long)pairs[i].ino[key]);
}

static void tree_walk(struct report *rep, const int dir[SIDE_N], const char *where);

static void walk_into(struct report *rep, const int dir[SIDE_N], const char *name, const char *where)
{
	char path[PATH_MAX];
	int fd[SIDE_N];

	snprintf(path, sizeof(path), "%s/%s", where, name);
	for (int i = 0; i < SIDE_N; i++)
		fd[i] = openat(dir[i], name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd[SIDE_A] >= 0 && fd[SIDE_B] >= 0)
		tree_walk(rep, fd, path);
	else
		report_difference(rep, "cannot enter directory %s: A %d, B %d\n", path, fd[SIDE_A], fd[SIDE_B]);
	for (int i = 0; i < SIDE_N; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

/* What the listing says of a name must be what lstat says. */
static void compare_dirent(struct report *rep, int which, const struct name *n, const struct stat *st,
			   const char *where)
{
	if (n->ino != st->st_ino)
		report_difference(rep, "directory %s, side %c: d_ino of \"%s\" is %lu, st_ino is %lu\n", where,
				  "AB"[which], n -> name, (unsigned long)n -> ino, (unsigned long)st -> st_ino);
	if (n->type != IFTODT(st->st_mode))
		report_difference(rep, "directory %s, side %c: d_type of \"%s\" is %u, st_mode is %o\n", where,
				  "AB"[which], n -> name, n -> type, st -> st_mode);
}

static void walk_name(struct report *rep, const int dir[SIDE_N], const struct name *const name[SIDE_N],
		      const dev_t dev[SIDE_N], const char *where)
{
	const char *path = name[SIDE_A]->name;
	struct stat st[SIDE_N];

	compare_entry(rep, dir, path, true);
	for (int i = 0; i < SIDE_N; i++) {
		if (path_stat(dir[i], path, &st[i]))
			return;
		compare_dirent(rep, i, name[i], &st[i], where);
		if (st[i].st_dev != dev[i])
			report_difference(rep, "directory %s, side %c: st_dev of \"%s\" is not its directory's\n",
					  where, "AB"[i], path);
	}
	pair_add(st);
	if (S_ISREG(st[SIDE_A].st_mode))
		compare_content(rep, dir, path);
	else if (S_ISDIR(st[SIDE_A].st_mode))
		walk_into(rep, dir, path, where);
}

static void tree_walk(struct report *rep, const int dir[SIDE_N], const char *where)
{
	struct listing list[SIDE_N];
	dev_t dev[SIDE_N] = {0};
	struct stat st;
	int err[SIDE_N];

	for (int i = 0; i < SIDE_N; i++) {
		err[i] = listing_load(&list[i], dir[i]);
		if (!fstat(dir[i], &st))
			dev[i] = st.st_dev;
	}
	if (err[SIDE_A] != err[SIDE_B])
		report_difference(rep, "listing of directory %s: A %d, B %d\n", where, err[SIDE_A], err[SIDE_B]);
	compare_listing(rep, &list[SIDE_A], &list[SIDE_B], where);
	for (size_t i = 0; i < list[SIDE_A].n && !rep->differs; i++) {
		const struct name *name[SIDE_N] = {&list[SIDE_A].at[i], &list[SIDE_B].at[i]};

		walk_name(rep, dir, name, dev, where);
	}
	for (int i = 0; i < SIDE_N; i++)
		listing_free(&list[i]);
}

void tree_compare(struct report *rep, const int dir[SIDE_N])
{
	pair_n = 0;
	tree_walk(rep, dir, "");
	if (rep->differs)
		return;
	compare_pairs(rep, SIDE_A);
	compare_pairs(rep, SIDE_B);
}

static int entry_remove(int dir, const struct name *n)
{
	if (n->type == DT_DIR)
		return tree_wipe(dir, n->name);
	return unlinkat(dir, n->name, 0) ? -errno : 0;
}

/* Removes a tree. Root needs no permission for it, but a name may resist: then the last error is returned. */
int tree_wipe(int dir, const char *name)
{
	struct listing list;
	int fd, err = 0;

	fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	listing_load(&list, fd);
	for (size_t i = 0; i < list.n; i++)
		err = entry_remove(fd, &list.at[i]) ?: err;
	listing_free(&list);
	close(fd);
	if (unlinkat(dir, name, AT_REMOVEDIR))
		err = -errno;
	return err;
}
