/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How many workers read from the device at once. About one per core is quickest: the kernel wakes the one that waits
 * longest, so each more is a thread with a cold cache that is woken on a halted core. But slow storage holds a worker for
 * long. So the other workers stand by: one of them reads as well when each reader has been at its request for
 * READERS_STALL_MS, and stands by again when no request took that long for READERS_CALM_MS.
 *
 * In the server's own memory: a new server begins with as many readers as the first.
 */
#ifndef RECOVER_READERS_H
#define RECOVER_READERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define READERS_STALL_MS 2
#define READERS_CALM_MS 100

struct readers {
	unsigned base;		  /* so many read if nothing is slow */
	const uint64_t *requests; /* begun, raised before readers_begin() */
	_Atomic uint32_t reading; /* wait for a request or carry one out */
	_Atomic uint32_t busy;	  /* of these: carry one out */
	_Atomic uint64_t slow_ns; /* CLOCK_MONOTONIC: when the last slow request ended */
	atomic_bool asleep;	  /* whoever looks out is to be told when all are busy */
	pthread_mutex_t lock;	  /* of the rest */
	bool looking;		  /* one of those who stand by looks out for the others */
	pthread_cond_t relieved, all_busy;
};

/* `cores` of the `workers` will read, all of them if they are fewer. */
void readers_init(struct readers *readers, unsigned workers, unsigned cores, const uint64_t *requests);

/* Worker `n`, from 0, begins: returns when it is to read. */
void readers_join(struct readers *readers, unsigned n);

/* It has a request. */
void readers_begin(struct readers *readers);

/* It has carried out the request that it got at `since_ns` (CLOCK_MONOTONIC): returns when it is to read again. */
void readers_end(struct readers *readers, uint64_t since_ns, uint64_t now_ns);

#endif
