/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Directories that are read whole, so that names which are not in them need no request: include paths, module resolution.
 *
 * Reading one costs by the name, and is void with the next change of a name in it. So it waits until so many names were
 * asked for in vain that requests for them would have cost as much: the price of a directory is what it turned out to
 * be the last time, and doubles where it was more. What is owed is forgotten with the server.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/answer_table.h"
#include "fs/inode.h"
#include "recover/atomic.h"

#define PRICES 4096
#define NAMES_PER_REQUEST 256 /* that are read in the time of one request */
#define MISSES_FIRST 2

/* Of directories that share a place the last counts. Threads may lose some of each other's. */
static struct price {
	uint64_t node;
	uint32_t misses, price;
} prices[PRICES];

enum read_result { READ_ALL, READ_PART, READ_TOO_MANY };

static enum read_result names_put(struct request *rq, const struct answer_sample *directory, int fd, uint64_t node,
				  uint64_t most, uint64_t *n)
{
	uint8_t *entries = rq->out;
	long got;

	for (*n = 0; (got = syscall(SYS_getdents64, fd, entries, 65536)) > 0;)
		for (long at = 0; at < got;) {
			const struct entry64 *entry = (const void *)(entries + at);

			at += entry->reclen;
			if (++*n > most)
				return READ_TOO_MANY;
			if (!table_put_name(fs_of(rq), directory, node, entry->name, ANSWER_ASK))
				return READ_PART;
		}
	return got ? READ_PART : READ_ALL;
}

static enum read_result whole_read(struct request *rq, const struct answer_sample *directory, int path, uint64_t node,
				   uint64_t most, uint64_t *n)
{
	struct fs *fs = fs_of(rq);
	enum read_result result = READ_PART;
	struct answer_whole *whole;
	uint64_t seq;
	int fd = openat(path, ".", O_RDONLY | O_DIRECTORY | O_NOATIME);

	if (fd < 0)
		return READ_PART;
	whole = table_begin_whole(fs, directory, node, &seq);
	if (whole)
		result = names_put(rq, directory, fd, node, most, n);
	if (result == READ_ALL)
		table_end_whole(fs, whole, seq);
	close(fd);
	return result;
}

void whole_missed(struct request *rq, const struct answer_sample *directory, int path, uint64_t node)
{
	struct fs *fs = fs_of(rq);
	struct price *price = &prices[answer_set(answer_mix(0, node), PRICES)];
	uint64_t most, n = 0;

	if (price->node != node)
		*price = (struct price){.node = node, .price = MISSES_FIRST};
	if (++price->misses < price->price || !inode_names_exact(rq, node))
		return;
	most = (uint64_t)price->price * NAMES_PER_REQUEST;
	if (most > fs->area->answer.sets) /* a quarter of what there is room for */
		most = fs->area->answer.sets;
	if (whole_read(rq, directory, path, node, most, &n) == READ_TOO_MANY)
		price->price *= 2;
	else
		price->price = MISSES_FIRST + (uint32_t)(n / NAMES_PER_REQUEST);
	price->misses = 0;
}
