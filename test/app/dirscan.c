// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * dirscan DIR CHANGED SECONDS: makes sure that a directory can be read while it changes.
 *
 * DIR holds names that begin with 's', which nobody touches. One thread makes, renames and removes names that begin
 * with 'c' in CHANGED, the same directory by any path; the main thread reads DIR again and again in small
 * pieces. Each 's' name must come exactly once in each pass. POSIX leaves open what happens to the others.
 */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NAMES_MAX 1000000
#define CHANGING 2000
#define PIECE_BYTES 2048 /* some 60 names */

struct entry { /* what getdents64() fills in */
	uint64_t ino;
	int64_t off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

static atomic_int stop;
static long changes;

static void *change(void *path)
{
	char name[32], other[32];
	unsigned int seed = 1;
	int fd = open(path, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		err(1, "%s", (char *)path);
	for (; !stop; changes++) {
		snprintf(name, sizeof(name), "c%05d", rand_r(&seed) % CHANGING);
		snprintf(other, sizeof(other), "c%05d", rand_r(&seed) % CHANGING);
		switch (rand_r(&seed) % 3) {
		case 0:
			close(openat(fd, name, O_CREAT | O_WRONLY, 0644));
			break;
		case 1:
			unlinkat(fd, name, 0);
			break;
		case 2:
			renameat(fd, name, fd, other);
			break;
		}
	}
	for (int i = 0; i < CHANGING; i++) {
		snprintf(name, sizeof(name), "c%05d", i);
		unlinkat(fd, name, 0);
	}
	close(fd);
	return NULL;
}

/* One pass: raises seen[n] for each name "s<n>". How many of them came. */
static long scan(const char *path, unsigned char *seen)
{
	_Alignas(struct entry) char piece[PIECE_BYTES];
	int fd = open(path, O_RDONLY | O_DIRECTORY);
	long n, names = 0;

	if (fd < 0)
		err(1, "%s", path);
	while ((n = syscall(SYS_getdents64, fd, piece, sizeof(piece))) > 0) {
		for (long at = 0; at < n;) {
			struct entry *entry = (struct entry *)(piece + at);

			if (entry->name[0] == 's') {
				seen[atol(entry->name + 1) % NAMES_MAX]++;
				names++;
			}
			at += entry->reclen;
		}
	}
	if (n < 0)
		err(1, "%s: getdents64", path);
	close(fd);
	return names;
}

int main(int argc, char **argv)
{
	unsigned char *first = calloc(1, NAMES_MAX), *seen = malloc(NAMES_MAX);
	long passes = 0, lost = 0, doubled = 0, names;
	pthread_t changer;
	time_t end;

	if (argc != 4)
		errx(2, "usage: dirscan DIR CHANGED SECONDS");
	if (!first || !seen)
		err(1, NULL);
	names = scan(argv[1], first);
	if (pthread_create(&changer, NULL, change, argv[2]) != 0)
		errx(1, "no thread");
	end = time(NULL) + atol(argv[3]);
	do {
		memset(seen, 0, NAMES_MAX);
		scan(argv[1], seen);
		for (long i = 0; i < NAMES_MAX; i++) {
			lost += first[i] && !seen[i];
			doubled += seen[i] > 1;
		}
		passes++;
	} while (time(NULL) < end);
	stop = 1;
	pthread_join(changer, NULL);
	printf("names %ld passes %ld changes %ld lost %ld doubled %ld\n", names, passes, changes, lost, doubled);
	return lost || doubled || names == 0;
}
