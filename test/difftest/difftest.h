/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The differential test: the same sequence of operations on two directory trees, A (a plain directory)
 * and B (seen through the mount), with results and state compared after each step.
 *
 * An operation is a pure function of (seed, step): nothing that happened earlier changes what is
 * generated. So the driver, the actors and the watchdog each make it for themselves, only a step number
 * travels between them, and the minimiser may leave out any steps it likes.
 *
 *	main ── watchdog (waits, reports a hang)
 *	         └─ driver (root: compares)      one step number ──▶  actor 0: root
 *	                                         one byte back   ◀──  actor 1: user 60001
 *	                                                              actor 2: user 60002
 *
 * A sequence is cut into epochs of EPOCH_STEPS. Each epoch starts with empty trees and new actors, and
 * epoch k of seed N is the whole run of seed N + k, so every difference replays in less than an epoch.
 */
#ifndef DIFFTEST_H
#define DIFFTEST_H

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

enum { SIDE_A, SIDE_B, SIDE_N };
enum { ACTOR_ROOT, ACTOR_USER1, ACTOR_USER2, ACTOR_N };

#define USER1 60001
#define USER2 60002
#define SHARED_GROUP 60100

#define EPOCH_STEPS 5000
#define HANG_SECONDS 20
#define SLOT_N 8   /* open files of an actor, on each side */
#define STREAM_N 3 /* directory streams of an actor, on each side */
#define MAP_N 3	   /* mappings of an actor, on each side */
#define ARG_N 6
#define PATH_SPACE (PATH_MAX + 16) /* room for paths that are too long */
#define DATA_MAX (256 << 10)

/* Exit codes. */
enum { EXIT_SAME = 0, EXIT_DIFFERENT = 1, EXIT_ENVIRONMENT = 2 };

/* ---- random.c ---- */

struct rng {
	uint64_t state;
};

void rng_init(struct rng *r, uint64_t seed, uint64_t step);
uint64_t rng_next(struct rng *r);
unsigned rng_below(struct rng *r, unsigned n);
bool rng_one_in(struct rng *r, unsigned n);
long rng_pick(struct rng *r, const long *values, size_t n);
#define RNG_PICK(r, ...) rng_pick(r, (const long[]){__VA_ARGS__}, ARRAY_SIZE(((const long[]){__VA_ARGS__})))
mode_t rng_mode(struct rng *r, mode_t usual);
long rng_offset(struct rng *r);
long rng_size(struct rng *r);
void data_fill(void *buf, size_t len, uint64_t seed);
uint64_t data_hash(const void *buf, size_t len);

/* ---- operations ---- */

struct op {
	const struct op_def *def;
	unsigned step;
	int actor;
	bool at_cwd; /* relative to the actor's working directory, not to the base */
	char path[2][PATH_SPACE];
	int slot[2];
	long arg[ARG_N];
	uint64_t seed; /* for the data of the operation */
};

/* What one side answered. The text holds whatever else must be equal, in words that can be printed. */
struct outcome {
	long ret;
	int err;
	size_t len;
	char text[4096];
};

struct map {
	unsigned char *start;
	size_t len;
	int prot;
};

/* All that an actor keeps open on one side. */
struct side {
	const char *root; /* as given on the command line, resolved */
	int base;	  /* O_PATH: where paths start */
	int cwd;	  /* O_PATH: the working directory, for operations at_cwd */
	int fd[SLOT_N];	  /* -1: closed */
	int fd_flags[SLOT_N];
	DIR *stream[STREAM_N];
	struct map map[MAP_N];
};

enum {
	OP_READS = 1 << 0,    /* changes nothing a path shows: no comparison of paths after it */
	OP_NO_TIMES = 1 << 1, /* implicit times after it depend on writeback */
	OP_ROOT = 1 << 2,     /* always by root */
};

/*
 * One kind of operation. `spec` says which arguments it has, in the order they are printed:
 * p q  paths 0 and 1        P Q  text in path 0 or 1 that is not a path to compare
 * s t  slots 0 and 1        d o x f  the next of arg[]: decimal, octal, hexadecimal, open flags
 */
struct op_def {
	const char *name;
	const char *spec;
	unsigned weight;
	unsigned flags;
	void (*make)(struct op *op, struct rng *r);
	void (*run)(struct side *s, const struct op *op, struct outcome *o);
};

/* Each ops_*.c has a table of its own; the last entry has no name. */
extern const struct op_def name_ops[], open_ops[], io_ops[], space_ops[], attr_ops[], xattr_ops[], dir_ops[],
	lock_ops[], map_ops[], exec_ops[];

/* ---- generate.c ---- */

void op_generate(struct op *op, uint64_t seed, unsigned step);
bool op_has_path(const struct op *op, int which);
void op_describe(const struct op *op, char *text, size_t size);
bool op_is_skipped(const struct op *op);
void op_list_print(FILE *f);

/* ---- names.c ---- */

enum want { WANT_ANY, WANT_FILE, WANT_DIR };

void path_make(char *path, struct rng *r, enum want want);
void target_make(char *target, struct rng *r);

/* ---- outcome.c ---- */

void outcome_reset(struct outcome *o);
void outcome_set(struct outcome *o, long ret);
void outcome_add(struct outcome *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void outcome_add_call(struct outcome *o, const char *what, long ret);
void outcome_add_data(struct outcome *o, const void *data, size_t len);
void outcome_add_stat(struct outcome *o, const struct stat *st);
bool outcome_equal(const struct outcome *a, const struct outcome *b);
void outcome_print(FILE *f, const char *label, const struct outcome *o);

/* ---- actor.c ---- */

/* Shared by all processes of the test, in one anonymous mapping. */
struct shared {
	uint64_t progress;   /* the driver counts up; the watchdog looks whether it moves */
	uint64_t seed;	     /* of this epoch */
	unsigned step;	     /* in this epoch */
	uint64_t steps_done; /* in all epochs */
	int phase_actor;     /* whom the driver waits for, or -1 */
	pid_t actor_pid[ACTOR_N];
	int actor_cwd[ACTOR_N][SIDE_N]; /* descriptor numbers within the actor; -1: the base */
	struct outcome outcome[SIDE_N];
};

struct actor {
	pid_t pid;
	int channel;
};

extern struct shared *shared;

int identity_switch(int actor);
int actor_start(struct actor *a, int number, const int base[SIDE_N]);
int actor_step(struct actor *a, unsigned step);
void actor_stop(struct actor *a);
extern unsigned actor_signals;	  /* in the actor: SIGXFSZ seen during this operation */
extern unsigned char *actor_data; /* in the actor: DATA_MAX bytes, aligned for O_DIRECT */

/* ---- tree.c, compare.c, times.c, source.c: run in the driver ---- */

struct report {
	bool differs;
	char text[8192];
};

void report_difference(struct report *rep, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *name_quote(const char *name, char *buf, size_t size);

void compare_stat(struct report *rep, const char *path, const struct stat *a, const struct stat *b);
void compare_entry(struct report *rep, const int dir[SIDE_N], const char *path, bool deep);
void compare_content(struct report *rep, const int dir[SIDE_N], const char *path);
int path_stat(int dir, const char *path, struct stat *st);
bool path_parent(const char *path, char *parent);

void tree_compare(struct report *rep, const int dir[SIDE_N]);
int tree_wipe(int dir, const char *name);

struct times_probe {
	struct timespec start;
	char path[4][PATH_SPACE];
	int n;
};
void times_before(struct times_probe *probe, const struct op *op);
void times_after(const struct times_probe *probe, const int dir[SIDE_N], struct report *rep);

extern unsigned source_late; /* how often the source showed attributes only after a wait */
void source_compare(struct report *rep, int mount_dir, int source_dir, const char *path);

/* ---- except.c ---- */

enum except {
	EXCEPT_APPEND_CLEARED,
	EXCEPT_BTIME_CACHED,
	EXCEPT_COLLAPSE,
	EXCEPT_EPOLL,
	EXCEPT_FIFO_TIMES,
	EXCEPT_FSTYPE,
	EXCEPT_LIMIT,
	EXCEPT_LOCK_PID,
	EXCEPT_MAP_LOCK,
	EXCEPT_MAX_OFFSET,
	EXCEPT_STATX_ATTRIBUTES,
	EXCEPT_N
};
bool except_has(enum except e);
int except_parse(const char *list);
void except_print(FILE *f);

/* ---- driver.c ---- */

struct config {
	uint64_t seed;
	uint64_t steps;	  /* 0: no limit */
	uint64_t seconds; /* 0: no limit */
	unsigned check_every;
	bool minimise;
	const char *path[SIDE_N]; /* resolved */
	const char *source;	  /* resolved, or NULL */
	const char *skip;	  /* operations and actors that are left out, or NULL */
};
extern struct config config;

/* Steps of one epoch that are to be carried out; all of them when `only` is NULL. */
struct selection {
	const bool *only;
	unsigned n;
};

/* Where and how an epoch ended. */
struct finding {
	bool found;
	bool environment; /* not a difference: the test itself could not go on */
	uint64_t seed;
	unsigned step;
	const char *where;
	struct report report;
};

int driver_main(void);
void epochs_clean(void);
void epoch_run(struct finding *f, uint64_t seed, struct selection sel, time_t deadline);
void finding_print(const struct finding *f);
void finding_minimise(const struct finding *f);
void replay_print(uint64_t seed, unsigned step);
void steps_print(FILE *out, uint64_t seed, unsigned last, unsigned count);

/* ---- watch.c ---- */

int watch_run(void);

/* ---- ops_exec.c ---- */

#define EXEC_NAME "difftest-exec"
int exec_child_main(void);

#endif
