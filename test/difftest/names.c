/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Paths. The universe is small, so that operations meet each other's files, and skewed, so that some names
 * are busy; a few paths are odd (too long, dots, slashes, bytes that are no text).
 *
 * Invariant: a path climbs at most twice and a symlink target once, so that with the guard directories
 * above the base (see epoch.c) nothing ever leaves the tree.
 */
#include "difftest.h"

#include <string.h>

static const char *const dirs[] = {"d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"};
static const char *const files[] = {"f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "l0", "l1", "x0", "f8.txt"};
static const char *const odd[] = {"a b",     "\xff\xfe", "new\nline", "*", "-rf", "\xc3\xa4\xe2\x82\xac",
				  ".hidden", "\\\"'"};

static unsigned skewed(struct rng *r, unsigned n)
{
	unsigned a = rng_below(r, n), b = rng_below(r, n);

	return a < b ? a : b;
}

static void add_repeated(char *path, char c, size_t n)
{
	size_t len = strlen(path);

	memset(path + len, c, n);
	path[len + n] = '\0';
}

static void add_final(char *path, struct rng *r, enum want want)
{
	bool dir = want == WANT_DIR;

	if (want == WANT_ANY)
		dir = rng_below(r, 10) < 4;
	else if (rng_one_in(r, 25))
		dir = !dir;
	if (rng_one_in(r, 40))
		strcat(path, odd[skewed(r, ARRAY_SIZE(odd))]);
	else if (rng_one_in(r, 300))
		add_repeated(path, 'n', rng_one_in(r, 3) ? NAME_MAX + 1 : NAME_MAX);
	else if (dir)
		strcat(path, dirs[skewed(r, ARRAY_SIZE(dirs))]);
	else
		strcat(path, files[skewed(r, ARRAY_SIZE(files))]);
}

static unsigned depth_pick(struct rng *r)
{
	static const unsigned char depths[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3};

	if (rng_one_in(r, 200))
		return 4 + rng_below(r, 8);
	return depths[rng_below(r, ARRAY_SIZE(depths))];
}

/* "./" over and over in front, until the path is PATH_MAX with its NUL, or one too long. */
static void path_stretch(char *path, struct rng *r)
{
	size_t want = PATH_MAX - 1 + rng_below(r, 2), len = strlen(path), i;

	if (len + 2 > want)
		return;
	memmove(path + want - len, path, len + 1);
	for (i = 0; i + 1 < want - len; i += 2)
		memcpy(path + i, "./", 2);
	if (i < want - len)
		path[i] = '/';
	if (want - len == 1)
		path[0] = '.';
}

void path_make(char *path, struct rng *r, enum want want)
{
	unsigned depth = depth_pick(r), i;

	path[0] = '\0';
	if (rng_one_in(r, 150)) {
		static const char *const special[] = {".", "..", "../..", "./", "", "./.", "d0/..", "d1/."};

		strcpy(path, special[rng_below(r, ARRAY_SIZE(special))]);
		return;
	}
	if (rng_one_in(r, 100))
		strcat(path, "../");
	for (i = 0; i < depth; i++) {
		/* now and then through what may be a symlink, or no directory at all */
		strcat(path,
		       rng_one_in(r, 25) ? files[skewed(r, ARRAY_SIZE(files))] : dirs[skewed(r, ARRAY_SIZE(dirs))]);
		strcat(path, rng_one_in(r, 60) ? "//" : "/");
	}
	if (rng_one_in(r, 120))
		strcat(path, "./");
	add_final(path, r, want);
	if (rng_one_in(r, want == WANT_DIR ? 25 : 60))
		strcat(path, rng_one_in(r, 4) ? "/." : rng_one_in(r, 3) ? "//" : "/");
	if (rng_one_in(r, 400))
		path_stretch(path, r);
}

void target_make(char *target, struct rng *r)
{
	target[0] = '\0';
	switch (rng_below(r, 30)) {
	case 0:
		strcpy(target, "/difftest-does-not-exist/anywhere");
		return;
	case 1:
		add_repeated(target, 't', RNG_PICK(r, 200, 255, 1023, 1024, 1500, 4094, 4095, 4096));
		return;
	case 2:
		strcpy(target, rng_one_in(r, 2) ? "." : "..");
		return;
	case 3:
		return;
	case 4:
		strcpy(target, "\xff\n\x01 ");
		return;
	}
	if (rng_one_in(r, 3))
		strcat(target, "../");
	if (rng_one_in(r, 3)) {
		strcat(target, dirs[skewed(r, ARRAY_SIZE(dirs))]);
		strcat(target, "/");
	}
	add_final(target, r, WANT_ANY);
	if (rng_one_in(r, 40))
		strcat(target, "/");
}
