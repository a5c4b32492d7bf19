// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * modules make DIR | modules walk DIR: a tree of packages that need each other, as npm lays it out, and what a program that
 * loads them all asks of a file system, as Node's resolver does: for each package needed, node_modules in every directory
 * upwards until it is found, its package.json, its main file with and without the suffix, and the links on the way.
 */
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PACKAGES 250
#define NEEDS 2	  /* other packages that one needs */
#define SOURCES 4 /* files of a package */
#define NESTED 5  /* each fifth has a package of its own below it */
#define TEXT 1500 /* bytes of a file */

static void make_dir(const char *name)
{
	if (mkdir(name, 0755))
		err(1, "%s", name);
}

static void make_file(const char *name)
{
	static char text[TEXT];
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);

	memset(text, '/', sizeof(text));
	if (fd < 0 || write(fd, text, sizeof(text)) != (ssize_t)sizeof(text))
		err(1, "%s", name);
	close(fd);
}

static void make_package(const char *at)
{
	char name[PATH_MAX];

	make_dir(at);
	snprintf(name, sizeof(name), "%s/package.json", at);
	make_file(name);
	snprintf(name, sizeof(name), "%s/lib", at);
	make_dir(name);
	for (int i = 0; i < SOURCES; i++) {
		snprintf(name, sizeof(name), "%s/lib/%d.js", at, i);
		make_file(name);
	}
}

static void make_tree(void)
{
	char name[128];

	make_dir("node_modules");
	for (int i = 0; i < PACKAGES; i++) {
		snprintf(name, sizeof(name), "node_modules/package-%d", i);
		make_package(name);
		if (i % NESTED)
			continue;
		snprintf(name, sizeof(name), "node_modules/package-%d/node_modules", i);
		make_dir(name);
		snprintf(name, sizeof(name), "node_modules/package-%d/node_modules/package-%d", i, (i + 1) % PACKAGES);
		make_package(name);
	}
}

static int exists(const char *name)
{
	struct stat st;

	return stat(name, &st) == 0;
}

/* realpath() as Node does it: each part of the path. */
static void follow(char *name)
{
	struct stat st;

	for (char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (lstat(name, &st))
			err(1, "%s", name);
		*slash = '/';
	}
	if (lstat(name, &st))
		err(1, "%s", name);
}

static void load(const char *name)
{
	char text[TEXT + 1], path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s", name);
	follow(path);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text)) != TEXT)
		err(1, "%s", name);
	close(fd);
}

/* The files of a package, which name each other without the suffix. */
static void load_sources(const char *package)
{
	char name[PATH_MAX];

	for (int i = 0; i < SOURCES; i++) {
		snprintf(name, sizeof(name), "%s/lib/%d", package, i);
		if (exists(name))
			errx(1, "%s is there", name);
		strcat(name, ".js");
		if (!exists(name))
			err(1, "%s", name);
		load(name);
	}
}

/* Looks for package number n from the directory `from` upwards. */
static void require(const char *from, int n)
{
	char at[PATH_MAX], name[PATH_MAX + 64];
	char *slash;

	snprintf(at, sizeof(at), "%s", from);
	for (;;) {
		snprintf(name, sizeof(name), "%s%snode_modules/package-%d", at, *at ? "/" : "", n);
		if (exists(name))
			break;
		slash = strrchr(at, '/');
		if (!slash && !*at)
			errx(1, "package %d is not there", n);
		*(slash ? slash : at) = 0;
	}
	strcat(name, "/package.json");
	load(name);
	name[strlen(name) - strlen("/package.json")] = 0;
	load_sources(name);
}

static void walk_tree(void)
{
	char from[64];

	for (int i = 0; i < PACKAGES; i++) {
		snprintf(from, sizeof(from), "node_modules/package-%d/lib", i);
		for (int need = 1; need <= NEEDS; need++)
			require(from, (i + need * need) % PACKAGES);
	}
}

int main(int argc, char **argv)
{
	if (argc != 3)
		errx(2, "usage: modules make|walk DIR");
	if (chdir(argv[2]))
		err(1, "%s", argv[2]);
	if (strcmp(argv[1], "make") == 0)
		make_tree();
	else
		walk_tree();
	return 0;
}
