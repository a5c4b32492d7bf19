/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Brings the program of answer.bpf.c into the kernel. What is left of that are descriptors: none of them is closed by
 * execve(2), and all ends with the last copy of them.
 */
#ifndef BPF_LOAD_H
#define BPF_LOAD_H

#include <stdint.h>
#include <sys/types.h>

#include "bpf/answer.h"

enum answer_fd {
	ANSWER_FD_NAMES,
	ANSWER_FD_INODES,
	ANSWER_FD_ENTRIES,
	ANSWER_FD_WHOLES,
	ANSWER_FD_ATTRS,
	ANSWER_FD_OPENS,
	ANSWER_FD_SAMPLES,
	ANSWER_FD_WORKERS,
	ANSWER_FD_STATS,
	ANSWER_FD_CONFIG,
	ANSWER_FD_LINKS, /* from here on */
	ANSWER_FDS = 48
};

/* The tables, mapped by this process. */
struct answer_tables {
	uint64_t *names, *inodes;
	struct answer_entries *entries;
	struct answer_wholes *wholes;
	struct answer_attrs *attrs;
	struct answer_opens *opens;
	struct answer_sample *samples;
	struct answer_config *config;
};

/*
 * Loads and attaches; `cookie` is what the module knows it by, `sets` a power of 2. 0 and `fds`, -1 where there is none; or
 * -errno and what was refused.
 */
int answer_load(uint64_t cookie, uint32_t sets, int32_t fds[ANSWER_FDS], const char **what);

/* 0 or -errno. */
int answer_map(const int32_t fds[ANSWER_FDS], uint32_t sets, struct answer_tables *tables);

/* From now on statx(2) by this thread is sampled into samples[place]. 0 or -errno. */
int answer_add_worker(int32_t workers_fd, pid_t thread, uint32_t place);
/* No thread's is. */
void answer_clear_workers(int32_t workers_fd);

/* Sum of all processors. 0 or -errno. `id`: of the map, for who has no descriptor of it */
int answer_read_stats(uint32_t id, struct answer_stats *sum);
uint32_t answer_map_id(int32_t fd);

#endif
