// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * ops [-c COMMAND] [-t MS] DIR reads|writes: how long single operations on names and attributes take, see bench.h.
 * `ops DIR prepare` makes what those that change nothing look at; the others make what they need themselves.
 */
#include "bench.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define FILES 64     /* that are looked at in turn */
#define COLD 500     /* that are looked at once after the kernel forgot them */
#define ENTRIES 2000 /* of the directory that is read */
#define NAMES 600    /* to be made or taken away */
#define SMALL 4096

static char names[NAMES][64], others[NAMES][64];
static char content[SMALL];

static void name_all(const char *first, const char *second)
{
	for (int i = 0; i < NAMES; i++) {
		snprintf(names[i], sizeof(names[i]), "%s%d", first, i);
		snprintf(others[i], sizeof(others[i]), "%s%d", second, i);
	}
}

static void make_file(const char *name, size_t size)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	must(fd >= 0 && write(fd, content, size) == (ssize_t)size, name);
	close(fd);
}

static void make_files(const char *prefix, int count, size_t size)
{
	name_all(prefix, "o");
	for (int i = 0; i < count; i++)
		make_file(names[i], size);
}

static void make_shared(void)
{
	char name[64];

	must(mkdir("cold", 0755) == 0 && mkdir("list", 0755) == 0, "mkdir");
	for (int i = 0; i < ENTRIES; i++) {
		snprintf(name, sizeof(name), "list/a-name-of-some-length-%d", i);
		make_file(name, 0);
	}
	make_files("cold/", COLD, 0);
	make_files("f", FILES, SMALL);
	must(setxattr("f0", "user.bench", "value", 5, 0) == 0, "setxattr");
}

/* --- what is there before the time is taken --- */

static void look_at_files(void)
{
	struct stat st;

	name_all("f", "missing-");
	for (int i = 0; i < FILES; i++)
		must(stat(names[i], &st) == 0, names[i]);
}

static void name_cold(void)
{
	name_all("cold/", "");
}

static void name_new(void)
{
	name_all("n", "o");
}

static void make_names(void)
{
	make_files("n", NAMES, 0);
}

static void make_dirs(void)
{
	name_new();
	for (int i = 0; i < NAMES; i++)
		must(mkdir(names[i], 0755) == 0, names[i]);
}

static void make_few(void)
{
	make_files("f", FILES, SMALL);
}

/* --- the operations --- */

static long do_stat(long i)
{
	struct stat st;

	must(stat(names[i % FILES], &st) == 0, "stat");
	return 1;
}

static long do_stat_cold(long i)
{
	struct stat st;

	must(stat(names[i % COLD], &st) == 0, "stat");
	return 1;
}

static long do_missing(long i)
{
	struct stat st;
	char name[32];

	snprintf(name, sizeof(name), "never-%ld", i);
	must(stat(name, &st) && errno == ENOENT, "stat of a missing name");
	return 1;
}

static long do_missing_again(long i)
{
	struct stat st;

	must(stat(others[i % FILES], &st) && errno == ENOENT, "stat of a missing name");
	return 1;
}

static long do_open(long i)
{
	int fd = open(names[i % FILES], O_RDONLY);

	must(fd >= 0, "open");
	close(fd);
	return 1;
}

static long do_open_read(long i)
{
	int fd = open(names[i % FILES], O_RDONLY);

	must(fd >= 0 && read(fd, content, SMALL) == SMALL, "open and read");
	close(fd);
	return 1;
}

static long do_getxattr(long i)
{
	(void)i;
	must(getxattr("f0", "user.bench", content, 64) == 5, "getxattr");
	return 1;
}

static long do_getxattr_absent(long i)
{
	(void)i;
	must(getxattr("f1", "user.absent", content, 64) < 0 && errno == ENODATA, "getxattr of what is absent");
	return 1;
}

static long do_readdir(long i)
{
	DIR *dir = opendir("list");
	long n = 0;

	(void)i;
	must(dir, "opendir");
	while (readdir(dir))
		n++;
	closedir(dir);
	must(n == ENTRIES + 2, "readdir");
	return n;
}

static long do_create(long i)
{
	int fd = open(names[i], O_WRONLY | O_CREAT | O_EXCL, 0644);

	must(fd >= 0, "create");
	close(fd);
	return 1;
}

#define SIMPLE(name, what, call)         \
	static long name(long i)         \
	{                                \
		must((call) == 0, what); \
		return 1;                \
	}

SIMPLE(do_mkdir, "mkdir", mkdir(names[i], 0755))
SIMPLE(do_symlink, "symlink", symlink("target", names[i]))
SIMPLE(do_rename, "rename", rename(names[i], others[i]))
SIMPLE(do_link, "link", link(names[i], others[i]))
SIMPLE(do_unlink, "unlink", unlink(names[i]))
SIMPLE(do_rmdir, "rmdir", rmdir(names[i]))
SIMPLE(do_chmod, "chmod", chmod(names[i % FILES], i / FILES % 2 ? 0600 : 0640))
SIMPLE(do_utimens, "utimens", utimensat(AT_FDCWD, names[i % FILES], NULL, 0))
SIMPLE(do_truncate, "truncate", truncate(names[i % FILES], i / FILES % 2 ? SMALL : SMALL / 2))
SIMPLE(do_setxattr, "setxattr", setxattr(names[i % FILES], "user.bench", &i, sizeof(i), 0))

#define LOOK(what, how, function) .name = what, .prepare = how, .run = function, .batch = FILES
#define USE_UP(what, how, function) \
	.name = what, .prepare = how, .run = function, .batch = 20, .most = NAMES, .writes = true

static const struct op ops[] = {
	{LOOK("stat", look_at_files, do_stat)},
	{.name = "stat, cold", .prepare = name_cold, .run = do_stat_cold, .batch = COLD, .cold = true},
	{LOOK("missing name", look_at_files, do_missing)},
	{LOOK("missing name, again", look_at_files, do_missing_again)},
	{LOOK("open + close", look_at_files, do_open)},
	{LOOK("open + read 4 KiB + close", look_at_files, do_open_read)},
	{LOOK("getxattr", look_at_files, do_getxattr)},
	{LOOK("getxattr, absent", look_at_files, do_getxattr_absent)},
	{.name = "readdir, per entry", .run = do_readdir, .batch = 1},
	{USE_UP("create + close", name_new, do_create)},
	{USE_UP("mkdir", name_new, do_mkdir)},
	{USE_UP("symlink", name_new, do_symlink)},
	{USE_UP("rename", make_names, do_rename)},
	{USE_UP("link", make_names, do_link)},
	{USE_UP("unlink", make_names, do_unlink)},
	{USE_UP("rmdir", make_dirs, do_rmdir)},
	{LOOK("chmod", make_few, do_chmod), .writes = true},
	{LOOK("utimens", make_few, do_utimens), .writes = true},
	{LOOK("truncate", make_few, do_truncate), .writes = true},
	{LOOK("setxattr", make_few, do_setxattr), .writes = true},
};

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[2], "prepare") == 0) {
		must(chdir(argv[1]) == 0, argv[1]);
		make_shared();
		return 0;
	}
	return ops_main(argc, argv, ops, sizeof(ops) / sizeof(ops[0]));
}
