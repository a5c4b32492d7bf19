/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Deaths between two stores. A child does some work on the shared state, which it may only read: each store faults,
 * is let through alone (one instruction, by the trap flag), and what the state is then is kept. A death at that point
 * would leave just this, for the child shares nothing else; the test recovers from every one of these moments.
 */
#ifndef TEST_UNIT_DEATH_H
#define TEST_UNIT_DEATH_H

#include <err.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "recover/handle.h"
#include "recover/journal.h"
#include "recover/node.h"
#include "recover/state.h"

#define DEATH_CHUNK 64
#define DEATH_CHUNKS 512
#define DEATH_MOMENTS 512
#define DEATH_TABLE_BYTES (UINT64_C(512) << 10)

/* The state as far as a test uses it: all up to the tables, and the first part of these. */
static inline uint64_t image_bytes(const struct state *state)
{
	return state->handles_offset + 2 * DEATH_TABLE_BYTES;
}

/* Byte `at` of the image in the state. */
static inline uint8_t *image_place(const struct state *state, uint64_t at)
{
	if (at < state->handles_offset)
		return (uint8_t *)state->header + at;
	at -= state->handles_offset;
	return at < DEATH_TABLE_BYTES ? (uint8_t *)state->handles + at
				      : (uint8_t *)state->nodes + (at - DEATH_TABLE_BYTES);
}

static inline void image_save(struct state *state, uint8_t *copy)
{
	const uint64_t tables = state->handles_offset;

	memcpy(copy, state->header, tables);
	memcpy(copy + tables, state->handles, DEATH_TABLE_BYTES);
	memcpy(copy + tables + DEATH_TABLE_BYTES, state->nodes, DEATH_TABLE_BYTES);
}

static inline void image_load(struct state *state, const uint8_t *copy)
{
	const uint64_t tables = state->handles_offset;

	memcpy(state->header, copy, tables);
	memcpy(state->handles, copy + tables, DEATH_TABLE_BYTES);
	memcpy(state->nodes, copy + tables + DEATH_TABLE_BYTES, DEATH_TABLE_BYTES);
}

/* What some work changes, and the moments of it; shared with the child that does it. */
struct deaths {
	struct state *state;
	unsigned stop_at;	      /* the child kills itself at that store; 0: never */
	bool stop_before;	      /* and right before it, not right after it */
	unsigned moments;	      /* the first is before the work */
	unsigned chunks;	      /* places that change */
	uint64_t chunk[DEATH_CHUNKS]; /* offsets in the image */
	uint8_t moment[DEATH_MOMENTS][DEATH_CHUNKS][DEATH_CHUNK];
	uint8_t before[]; /* an image */
};

typedef void death_work(void *context);

static struct deaths *death_now; /* of the child */

/* Says why and ends the child; nothing else is safe in a handler. */
static inline void death_fails(const char *why)
{
	if (write(2, why, strlen(why)) < 0)
		_exit(98);
	_exit(99);
}

static inline void death_protect(int protection)
{
	if (mprotect(death_now->state->header, death_now->state->bytes, protection))
		death_fails("the state cannot be protected\n");
}

/* Where a store goes is where something may have changed: keeps the chunks, and the moment. */
static inline void death_note(void)
{
	struct deaths *deaths = death_now;

	if (deaths->moments == DEATH_MOMENTS)
		death_fails("too many stores\n");
	for (unsigned i = 0; i < deaths->chunks; i++)
		memcpy(deaths->moment[deaths->moments][i], image_place(deaths->state, deaths->chunk[i]), DEATH_CHUNK);
	deaths->moments++;
}

static inline void death_add_chunk(const uint8_t *place)
{
	struct deaths *deaths = death_now;
	const struct state *state = deaths->state;
	uint64_t at = (uint64_t)(place - (uint8_t *)state->header);

	if (at >= state->nodes_offset)
		at = at - state->nodes_offset + state->handles_offset + DEATH_TABLE_BYTES;
	at -= at % DEATH_CHUNK;
	if (at >= image_bytes(state))
		death_fails("a store outside of what is kept\n");
	for (unsigned i = 0; i < deaths->chunks; i++)
		if (deaths->chunk[i] == at)
			return;
	if (deaths->chunks == DEATH_CHUNKS)
		death_fails("stores to too many places\n");
	/* all moments until now had what was there before */
	for (unsigned i = 0; i < deaths->moments; i++)
		memcpy(deaths->moment[i][deaths->chunks], deaths->before + at, DEATH_CHUNK);
	deaths->chunk[deaths->chunks++] = at;
}

/* The first line of a test of deaths. ThreadSanitizer puts signals off; no such test has threads. */
#if defined(__SANITIZE_THREAD__)
#define NEEDS_DEATHS() return
#elif defined(__x86_64__)
#define NEEDS_DEATHS()
#else
#define NEEDS_DEATHS() SKIP("machine lacks programs that single-step themselves")
#endif

#if defined(__x86_64__)
#define DEATH_TRAP_FLAG 0x100

static inline void death_on_store(int sig, siginfo_t *info, void *context)
{
	ucontext_t *at = context;
	const uint8_t *place = info->si_addr, *begin = (uint8_t *)death_now->state->header;

	(void)sig;
	if (place < begin || place >= begin + death_now->state->bytes)
		death_fails("the work crashes\n");
	death_add_chunk(place);
	death_add_chunk(place + 15); /* one instruction may store two words */
	if (death_now->stop_before && death_now->moments == death_now->stop_at)
		kill(getpid(), SIGKILL);
	death_protect(PROT_READ | PROT_WRITE);
	at->uc_mcontext.gregs[REG_EFL] |= DEATH_TRAP_FLAG;
}

static inline void death_after_store(int sig, siginfo_t *info, void *context)
{
	ucontext_t *at = context;

	(void)sig, (void)info;
	at->uc_mcontext.gregs[REG_EFL] &= ~DEATH_TRAP_FLAG;
	death_note();
	if (death_now->stop_at && death_now->moments > death_now->stop_at)
		kill(getpid(), SIGKILL);
	death_protect(PROT_READ);
}
#else
/* A program cannot single-step itself elsewhere. */
static inline void death_on_store(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
}
#define death_after_store death_on_store
#endif

/* A child, with or without our table of open files. */
static inline pid_t death_fork(bool share_files)
{
	pid_t child = share_files ? (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0) : fork();

	if (child < 0)
		err(1, "cannot make a child");
	return child;
}

static inline int death_wait(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child)
		err(1, "cannot wait for a child");
	return status;
}

/* Does the work in a child that dies where `deaths` says; its status. */
static inline int death_watched(struct deaths *deaths, bool share_files, death_work *work, void *context)
{
	pid_t child = death_fork(share_files);

	if (child == 0) {
		struct sigaction on_store = {.sa_sigaction = death_on_store, .sa_flags = SA_SIGINFO};
		struct sigaction after_store = {.sa_sigaction = death_after_store, .sa_flags = SA_SIGINFO};

		sigaction(SIGSEGV, &on_store, NULL);
		sigaction(SIGTRAP, &after_store, NULL);
		death_now = deaths;
		deaths->moments = 0;
		deaths->chunks = 0;
		death_note();
		death_protect(PROT_READ);
		work(context);
		_exit(0);
	}
	return death_wait(child);
}

/* Does the work in a child, undisturbed; its status. */
static inline int death_run(bool share_files, death_work *work, void *context)
{
	pid_t child = death_fork(share_files);

	if (child == 0) {
		work(context);
		_exit(0);
	}
	return death_wait(child);
}

/* Collects all moments of the work. The state is afterwards as it was. */
static inline struct deaths *deaths_collect(struct state *state, death_work *work, void *context)
{
	struct deaths *deaths = mmap(NULL, sizeof(*deaths) + image_bytes(state), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (deaths == MAP_FAILED ||
	    state_grow(state, state->handles_offset, &state->header->handles_bytes, DEATH_TABLE_BYTES) ||
	    state_grow(state, state->nodes_offset, &state->header->nodes_bytes, DEATH_TABLE_BYTES))
		err(1, "no memory for an image");
	deaths->state = state;
	image_save(state, deaths->before);
	if (death_watched(deaths, false, work, context))
		errx(1, "the work fails without a death");
	image_load(state, deaths->before);
	return deaths;
}

/* Makes the state what a death at this moment leaves. */
static inline void deaths_load(const struct deaths *deaths, unsigned moment)
{
	image_load(deaths->state, deaths->before);
	for (unsigned i = 0; i < deaths->chunks; i++)
		memcpy(image_place(deaths->state, deaths->chunk[i]), deaths->moment[moment][i], DEATH_CHUNK);
}

static inline void deaths_free(struct deaths *deaths)
{
	munmap(deaths, sizeof(*deaths) + image_bytes(deaths->state));
}

#endif
