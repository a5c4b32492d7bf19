/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A model of the journal: two requests and a FORGET, two workers, a server that may die between any two stores, and
 * what the next one does about it. All orders in which that can happen are tried (explore.c). Each action is one store
 * into the state, or one exchange with the kernel; the list of places below says which store in which function it is.
 * Who changes that order in recover/ changes it here.
 *
 * In every state: the kernel gets the true answer, once, of a request that was made once; and a node that it holds is
 * there, with at least as many references. At the end: as many references and open handles as the kernel holds, and no
 * record is in use.
 *
 * And then mistakes: orders of stores that look right and are not. Each has to be found; some were ours.
 *
 * Not in the model: descriptors, parked requests, evidence that is misled by somebody else in the source, memory that
 * is not resident. A thread's stores are seen in its order: it is read when it is dead.
 */
#ifndef MODEL_JOURNAL_H
#define MODEL_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#define REQUESTS 2
#define WORKERS 2
#define SLOTS (WORKERS + 1) /* the last is of the thread that recovers */
#define NODES 3		    /* index 0 is none */
#define KEYS 2
#define GRANTS 2
#define NOBODY 0 /* of locks; else 1 + process */

/* Where a process is: what it does next. The text names the function, and the store. */
#define PLACES(X)                                                                       \
	X(STOPPED, "")                                                                  \
	X(IDLE, "worker_loop: looks whether all is drained, takes the lock if not")     \
	X(DRAIN, "worker_read_drain: poll")                                             \
	X(LENGTH, "worker_read: in->len = 0")                                           \
	X(PROGRESS, "worker_read: forgets_done = 0")                                    \
	X(READ, "worker_read: read")                                                    \
	X(CLAIM, "recovery_claim: life")                                                \
	X(COLLECT, "recovery_collect: FREE, or drained")                                \
	X(TAKE, "worker_take_record: finds it, or journal_begin: BEGUN")                \
	X(LONG, "worker_serve_request: a long reply is made again: BEGUN")              \
	X(STEP, "journal_call: looks at the step, STEP_NONE")                           \
	X(STARTED, "call_witnessed: STEP_STARTED")                                      \
	X(CALL, "call_witnessed: the system call")                                      \
	X(RESULT, "call_witnessed: result")                                             \
	X(DONE, "call_witnessed: STEP_DONE")                                            \
	X(GRANT, "node_grant_new: locks the stripe, searches")                          \
	X(RAISE, "grant_raise: GRANT_RAISE")                                            \
	X(NLOOKUP, "grant_raise: nlookup + 1")                                          \
	X(NEW, "node_allocate: GRANT_NEW")                                              \
	X(GENERATION, "node_allocate: generation + 1")                                  \
	X(CLAIMED, "node_allocate: NODE_CLAIMED")                                       \
	X(USED, "node_make: nlookup = 1, NODE_USED")                                    \
	X(LINK, "node_link: head")                                                      \
	X(RAISED, "grant_raise, node_make: GRANT_RAISED")                               \
	X(LIST, "grant_settle: ngrants + 1")                                            \
	X(SETTLED, "grant_settle: GRANT_NONE, unlocks the stripe")                      \
	X(PROMISE, "handle_open: record->handle")                                       \
	X(OPENING, "handle_open: HANDLE_OPENING")                                       \
	X(OPEN, "handle_open: HANDLE_OPEN")                                             \
	X(BACK, "session_take_back: the next grant, the handle, or all are back")       \
	X(REPLY, "reply_store: the reply, RECORD_REPLY")                                \
	X(WRITE, "session_reply: writev")                                               \
	X(AGAIN, "reply_again: write")                                                  \
	X(END, "journal_end: RECORD_FREE")                                              \
	X(FORGET, "node_forget: finds the node, locks the stripe")                      \
	X(LOWER, "node_lower: the step")                                                \
	X(LOWERED, "node_apply_step: nlookup")                                          \
	X(UNLINK, "node_free: node_unlink")                                             \
	X(FREE, "node_free: NODE_FREE, into the list")                                  \
	X(LISTED, "node_free: into the list, if that comes later")                      \
	X(COUNTED, "node_apply_step: forgets_done or ngrants")                          \
	X(STEPPED, "node_apply_step: NODE_STEP_NONE, unlocks the stripe")               \
	X(R_LIFE, "server_run: life + 1")                                               \
	X(R_STEPS, "settle_steps: the next slot")                                       \
	X(R_RESOLVE, "settle_grants: node_resolve of the next record")                  \
	X(R_REVOKE, "settle_records: node_revoke and handle_revoke of the next record") \
	X(R_FORGETS, "settle_forgets: the next buffer, or in->len = 0")                 \
	X(R_RESEND, "recovery_resend, pthread_create")

#define PLACE_NAME(name, text) P_##name,
enum place { PLACES(PLACE_NAME) P_N };

/* Mistakes. */
#define MISTAKES(X)                                                                                   \
	X(NONE, "")                                                                                   \
	X(REPLY_AFTER_WRITE, "the reply is stored after it was written")                              \
	X(END_BEFORE_WRITE, "the record is freed before the reply is written")                        \
	X(REVOKE_REPLY, "records with a reply give back what they granted")                           \
	X(KEEP_BEGUN, "records without a reply keep what they granted")                               \
	X(NO_WITNESS, "no witness: a step that was started is made again")                            \
	X(STARTED_IS_DONE, "no witness: a step that was started is taken to be done")                 \
	X(NOT_RECORDED, "a step that is done is made again")                                          \
	X(COLLECT_FIRST, "records are collected before the requests that come again are drained")     \
	X(DRAIN_ALONE, "requests are read and claimed without the lock of the drain")                 \
	X(NO_COLLECT, "records whose requests were answered are not collected")                       \
	X(FORGET_LOST, "FORGETs in the buffers of a dead server are not applied")                     \
	X(FORGET_AGAIN, "a buffer keeps its length when the progress of its FORGETs is cleared")      \
	X(NO_STEP, "nlookup is lowered without a step")                                               \
	X(RAISE_UNNOTED, "nlookup is raised before the record says so")                               \
	X(RAISE_LATE, "nlookup is raised after the reply was written")                                \
	X(JUDGED_LATE, "grants are judged while those of other records are taken back")               \
	X(NO_GENERATION, "a step on a node does not know its generation")                             \
	X(LISTED_LATE, "a node is free before it is in the list of free ones, not at once with that") \
	X(HANDLE_UNNOTED, "a handle is open before the record says so")

#define MISTAKE_NAME(name, text) M_##name,
enum mistake { MISTAKES(MISTAKE_NAME) M_N };

enum { K_ABSENT, K_QUEUED, K_AGAIN, K_READ, K_ANSWERED, K_GONE }; /* a message, as the kernel sees it */
enum { RECORD_FREE, RECORD_BEGUN, RECORD_REPLY };
enum { STEP_NONE, STEP_STARTED, STEP_DONE };
enum { GRANT_NONE, GRANT_NEW, GRANT_RAISE, GRANT_RAISED };
enum { NODE_FREE, NODE_CLAIMED, NODE_USED };
enum { LOWER_NONE, LOWER_FORGET, LOWER_REVOKE };
enum { HANDLE_FREE, HANDLE_OPENING, HANDLE_OPEN };
enum { NOT_YET, GOOD, EXISTS, FAILED }; /* results and answers */
#define THE_FORGET REQUESTS		/* as a message */
#define NOTHING (REQUESTS + 1)

/* One record per request: which worker's it was does not matter, it is found by unique. */
struct record {
	uint8_t phase, claimed; /* claimed: its life is the server's */
	uint8_t step, result;
	uint8_t grant, grant_node, grant_before, grant_position;
	uint8_t ngrants, granted[GRANTS];
	uint8_t handle;
	uint8_t reply, reply_generation[GRANTS];
};

struct node {
	uint8_t state, linked, key, generation, nlookup;
};

struct slot {
	uint8_t kind, node, generation, nlookup, record, done;
	uint8_t forgets_done;
	uint8_t buffer; /* has a FORGET in it */
};

struct process {
	uint8_t place, message, again, result;
	uint8_t i, g;	/* counters of loops */
	uint8_t back;	/* where it goes when a node is lowered */
	uint8_t slot;	/* that it uses for that */
	uint8_t record; /* whose grants it takes back */
};

struct world {
	/* the kernel's */
	uint8_t message[REQUESTS + 1];
	uint8_t effects[REQUESTS], has_handle[REQUESTS];
	uint8_t ambiguous; /* references of a request that vanished: nobody can know whether it had been answered */
	struct {
		uint8_t node, generation, count;
	} known[KEYS];
	/* the state's */
	struct record records[REQUESTS];
	struct node nodes[NODES];
	struct slot slots[SLOTS];
	uint8_t handles[REQUESTS];
	/* the server's */
	struct process processes[WORKERS];
	uint8_t stripes[KEYS], allocation, drain, drained, recovering;
	uint8_t listed[NODES]; /* nodes.free: what this server freed */
	uint8_t deaths;
	const char *wrong; /* what an action found; last: an address, and a whole word */
};

struct operation {
	const char *name;
	uint8_t changes, keys, key[GRANTS], opens, fails, is_long;
};

/* What is tried. */
struct setup {
	const struct operation *operations[REQUESTS];
	bool known_0;	/* the kernel holds a reference to key 0 at first */
	bool forgets_0; /* and has just given it back */
	bool vanishes;	/* whoever waits for a request that comes again may be killed */
	bool registers; /* the witness; else evidence */
	unsigned deaths;
	enum mistake mistake;
};

extern struct setup setup;

static inline bool mistaken(enum mistake mistake)
{
	return setup.mistake == mistake;
}

static inline void wrong(struct world *world, const char *what)
{
	if (!world->wrong)
		world->wrong = what;
}

/* kernel.c */
void kernel_answered(struct world *world, unsigned r, uint8_t answer);
bool kernel_gives(struct world *world, unsigned m, bool *again);
bool kernel_has_some(const struct world *world);
bool kernel_drops(struct world *world, unsigned r);
/* NULL, or what is wrong: in any state, and at the end. */
const char *check_held(const struct world *world);
const char *check_end(const struct world *world);

/*
 * The others: what a process does next. False: it cannot, a lock is another's. Where they do something in pieces, true:
 * that was the last.
 */

/* nodes.c */
void idle(struct process *process);
bool lock(uint8_t *lock_of, unsigned p);
void lower(struct process *process, unsigned slot, unsigned back);
bool act_lower(struct world *world, unsigned p);
bool act_note(struct world *world, unsigned p);
bool act_take_back(struct world *world, unsigned p, unsigned r, unsigned slot, unsigned back);
void resolve(struct world *world, struct record *record);
bool act_grant(struct world *world, unsigned p);

/* request.c */
bool act_worker(struct world *world, unsigned p, unsigned choice);
bool act_forget(struct world *world, unsigned p);

/* death.c */
bool act_die(struct world *world);
bool act_recovery(struct world *world);

#endif
