// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * ops_io [-c COMMAND] [-t MS] DIR reads|writes: how long it takes to read and write a file that is open, see bench.h.
 * `ops_io DIR prepare` makes the file that is read; the writing ones make their own.
 */
#include "bench.h"

#include <sys/mman.h>

#define SIZE (16L << 20)
#define SMALL 4096L
#define LARGE 131072L
#define PAGE 4096L

static char buffer[LARGE];
static int file = -1;

static void make_file(void)
{
	int fd = open("big", O_WRONLY | O_CREAT, 0644);

	for (long at = 0; at < SIZE; at += LARGE)
		must(fd >= 0 && write(fd, buffer, LARGE) == LARGE, "write");
	must(fsync(fd) == 0, "fsync");
	close(fd);
}

/* Open, and in the page cache. */
static void open_file(int flags)
{
	file = open("big", flags);
	must(file >= 0, "open");
	for (long at = 0; at < SIZE; at += LARGE)
		must(pread(file, buffer, LARGE, at) == LARGE, "read");
}

static void open_to_read(void)
{
	open_file(O_RDONLY);
}

static void open_to_write(void)
{
	make_file();
	open_file(O_RDWR);
}

/* Where the i-th piece of this size lies. */
static off_t in_order(long i, long size)
{
	return i % (SIZE / size) * size;
}

static off_t anywhere(long i, long size)
{
	return in_order((long)((uint64_t)i * UINT64_C(0x9e3779b97f4a7c15) >> 33), size);
}

#define TRANSFER(name, call, size, place)                                        \
	static long name(long i)                                                 \
	{                                                                        \
		must(call(file, buffer, size, place(i, size)) == (size), #call); \
		return 1;                                                        \
	}

TRANSFER(do_read_small, pread, SMALL, in_order)
TRANSFER(do_read_large, pread, LARGE, in_order)
TRANSFER(do_read_small_anywhere, pread, SMALL, anywhere)
TRANSFER(do_read_large_anywhere, pread, LARGE, anywhere)
TRANSFER(do_write_small, pwrite, SMALL, in_order)
TRANSFER(do_write_large, pwrite, LARGE, in_order)
TRANSFER(do_write_small_anywhere, pwrite, SMALL, anywhere)
TRANSFER(do_write_large_anywhere, pwrite, LARGE, anywhere)

static long do_write_fsync(long i)
{
	must(pwrite(file, buffer, SMALL, anywhere(i, SMALL)) == SMALL && fsync(file) == 0, "write and fsync");
	return 1;
}

/* Every page of the file; mapping it and letting go of it is part of that. */
static long do_map(int protection)
{
	volatile char *pages = mmap(NULL, SIZE, protection, MAP_SHARED, file, 0);

	must(pages != MAP_FAILED, "mmap");
	for (long at = 0; at < SIZE; at += PAGE) {
		if (protection & PROT_WRITE)
			pages[at] = 1;
		else
			(void)pages[at];
	}
	munmap((void *)pages, SIZE);
	return SIZE / PAGE;
}

static long do_map_read(long i)
{
	(void)i;
	return do_map(PROT_READ);
}

static long do_map_write(long i)
{
	(void)i;
	return do_map(PROT_READ | PROT_WRITE);
}

#define READ(what, function, times) .name = what, .prepare = open_to_read, .run = function, .batch = times
#define WRITE(what, function, times) \
	.name = what, .prepare = open_to_write, .run = function, .batch = times, .writes = true

static const struct op ops[] = {
	{READ("sequential read 4 KiB", do_read_small, 256)},
	{READ("sequential read 128 KiB", do_read_large, 32)},
	{READ("random read 4 KiB", do_read_small_anywhere, 256)},
	{READ("random read 128 KiB", do_read_large_anywhere, 32)},
	{READ("mmap, read a page", do_map_read, 1)},
	{WRITE("sequential write 4 KiB", do_write_small, 256)},
	{WRITE("sequential write 128 KiB", do_write_large, 32)},
	{WRITE("random write 4 KiB", do_write_small_anywhere, 256)},
	{WRITE("random write 128 KiB", do_write_large_anywhere, 32)},
	{WRITE("write 4 KiB + fsync", do_write_fsync, 4)},
	{WRITE("mmap, write a page", do_map_write, 1)},
};

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[2], "prepare") == 0) {
		must(chdir(argv[1]) == 0, argv[1]);
		make_file();
		return 0;
	}
	return ops_main(argc, argv, ops, sizeof(ops) / sizeof(ops[0]));
}
