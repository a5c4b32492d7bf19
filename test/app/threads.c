// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * threads DIR COUNT ROUNDS: COUNT threads work in one directory, each with names of its own: make, write,
 * read, rename, link, stat, list, remove. Every result is checked; the first wrong one ends the program.
 */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int dir;
static long rounds;

#define CHECK(what)                                                               \
	do {                                                                      \
		if (!(what))                                                      \
			err(1, "thread %d, round %ld: %s", number, round, #what); \
	} while (0)

static void *work(void *argument)
{
	int number = *(int *)argument;
	char a[32], b[32], c[32], text[64], read_back[64];
	struct stat st;

	snprintf(a, sizeof(a), "%d.a", number);
	snprintf(b, sizeof(b), "%d.b", number);
	snprintf(c, sizeof(c), "%d.c", number);
	for (long round = 0; round < rounds; round++) {
		int length = snprintf(text, sizeof(text), "thread %d round %ld", number, round);
		int fd = openat(dir, a, O_RDWR | O_CREAT | O_EXCL, 0600);

		CHECK(fd >= 0);
		CHECK(pwrite(fd, text, length, 0) == length);
		CHECK(renameat(dir, a, dir, b) == 0);
		CHECK(linkat(dir, b, dir, c, 0) == 0);
		CHECK(fstat(fd, &st) == 0 && st.st_nlink == 2 && st.st_size == length);
		CHECK(fstatat(dir, a, &st, 0) < 0);
		CHECK(unlinkat(dir, b, 0) == 0);
		CHECK(unlinkat(dir, c, 0) == 0);
		CHECK(pread(fd, read_back, sizeof(read_back), 0) == length && !memcmp(text, read_back, length));
		CHECK(close(fd) == 0);
		if (round % 16 == 0) {
			DIR *list = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY));

			CHECK(list != NULL);
			while (readdir(list))
				;
			closedir(list);
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int count;

	if (argc != 4)
		errx(2, "usage: threads DIR COUNT ROUNDS");
	dir = open(argv[1], O_RDONLY | O_DIRECTORY);
	if (dir < 0)
		err(1, "%s", argv[1]);
	count = atoi(argv[2]);
	rounds = atol(argv[3]);

	pthread_t *ids = calloc(count, sizeof(*ids));
	int *numbers = calloc(count, sizeof(*numbers));

	if (!ids || !numbers)
		err(1, NULL);
	for (int i = 0; i < count; i++) {
		numbers[i] = i;
		if (pthread_create(&ids[i], NULL, work, &numbers[i]) != 0)
			errx(1, "no thread %d", i);
	}
	for (int i = 0; i < count; i++)
		pthread_join(ids[i], NULL);
	printf("%d threads, %ld rounds each\n", count, rounds);
	return 0;
}
