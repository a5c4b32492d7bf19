/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the state says of a mount as OpenMetrics text (the exposition format of Prometheus): in a file that is written anew
 * every METRICS_MS, for the node exporter's textfile collector, which takes names that end in `.prom`; or on a unix socket,
 * to each who connects.
 */
#ifndef RECOVER_METRICS_H
#define RECOVER_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define METRICS_MS 15000

struct recover;
struct recover_fs;
struct state;

/* Of the monitor. */
struct metrics {
	const char *path; /* NULL: nobody wants any */
	int64_t next_ms;  /* when the file is due, CLOCK_MONOTONIC; 0: never */
	bool failed;	  /* and it was said */
};

/* 0, or -errno and it was said: the path cannot be used. Once per mount, before it answers. */
int metrics_create(struct recover *recover);

/* In each monitor. */
void metrics_start(struct metrics *metrics, const struct recover *recover);

/* The socket, to be polled for POLLIN; -1: none. */
int metrics_socket(const struct recover *recover);

/* `called`: the socket has somebody. */
void metrics_look(struct metrics *metrics, const struct recover *recover, int64_t now_ms, bool called);

/* The mount ends: nothing is left to be read. */
void metrics_remove(const struct recover *recover);

/* Writes at most `size` bytes, whole lines; returns how many. */
size_t metrics_print(const struct recover_fs *fs, const struct state *state, char *text, size_t size);

#endif
