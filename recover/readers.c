/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recover/readers.h"

#include <time.h>

#include "recover/atomic.h"

#define MS_NS 1000000
#define QUIET_LOOKS 50 /* all were not busy so many times: whoever looks out sleeps until they are */

void readers_init(struct readers *readers, unsigned workers, unsigned cores, const uint64_t *requests)
{
	pthread_condattr_t monotonic;

	*readers = (struct readers){.base = cores < workers ? cores : workers, .requests = requests};
	atomic_store(&readers->reading, readers->base);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&readers->lock, NULL);
	pthread_cond_init(&readers->relieved, &monotonic);
	pthread_cond_init(&readers->all_busy, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

static bool all_busy(struct readers *readers)
{
	return atomic_load(&readers->busy) >= atomic_load(&readers->reading);
}

/* With the lock. A reader that becomes busy after the look at the others finds `asleep`. */
static void sleep_until_busy(struct readers *readers)
{
	atomic_store(&readers->asleep, true);
	while (atomic_load(&readers->asleep) && !all_busy(readers))
		pthread_cond_wait(&readers->all_busy, &readers->lock);
	atomic_store(&readers->asleep, false);
}

static void nap(struct readers *readers)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += READERS_STALL_MS * MS_NS;
	if (until.tv_nsec >= 1000 * MS_NS) {
		until.tv_nsec -= 1000 * MS_NS;
		until.tv_sec++;
	}
	pthread_cond_timedwait(&readers->all_busy, &readers->lock, &until);
}

/* With the lock. Returns when all readers are busy and were so with the same requests one nap before. */
static void look_out(struct readers *readers)
{
	uint64_t before = load_relaxed(readers->requests), now;

	for (unsigned quiet = QUIET_LOOKS;; before = now) {
		if (quiet >= QUIET_LOOKS) {
			sleep_until_busy(readers);
			quiet = 0;
		}
		nap(readers);
		now = load_relaxed(readers->requests);
		if (!all_busy(readers))
			quiet++;
		else if (now == before)
			return;
		else
			quiet = 0;
	}
}

static void stand_by(struct readers *readers)
{
	pthread_mutex_lock(&readers->lock);
	while (readers->looking)
		pthread_cond_wait(&readers->relieved, &readers->lock);
	readers->looking = true;
	look_out(readers);
	readers->looking = false;
	atomic_fetch_add(&readers->reading, 1);
	pthread_cond_signal(&readers->relieved);
	pthread_mutex_unlock(&readers->lock);
}

void readers_join(struct readers *readers, unsigned n)
{
	if (n >= readers->base)
		stand_by(readers);
}

void readers_begin(struct readers *readers)
{
	atomic_fetch_add(&readers->busy, 1);
	if (!atomic_load(&readers->asleep) || !all_busy(readers))
		return;
	pthread_mutex_lock(&readers->lock);
	atomic_store(&readers->asleep, false);
	pthread_cond_signal(&readers->all_busy);
	pthread_mutex_unlock(&readers->lock);
}

void readers_end(struct readers *readers, uint64_t since_ns, uint64_t now_ns)
{
	uint32_t reading = atomic_load(&readers->reading);

	atomic_fetch_sub(&readers->busy, 1);
	if (now_ns - since_ns >= READERS_STALL_MS * MS_NS)
		atomic_store_explicit(&readers->slow_ns, now_ns, memory_order_relaxed);
	if (reading <= readers->base ||
	    now_ns - atomic_load_explicit(&readers->slow_ns, memory_order_relaxed) < READERS_CALM_MS * MS_NS)
		return;
	if (atomic_compare_exchange_strong(&readers->reading, &reading, reading - 1))
		stand_by(readers);
}
