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
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "test/model/explore.h"

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
	X(FREE, "node_free: NODE_FREE")                                                 \
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
#define PLACE_TEXT(name, text) text,
static const char *const places[P_N] = {PLACES(PLACE_TEXT)};

/* Mistakes. */
#define MISTAKES(X)                                                                               \
	X(NONE, "")                                                                               \
	X(REPLY_AFTER_WRITE, "the reply is stored after it was written")                          \
	X(END_BEFORE_WRITE, "the record is freed before the reply is written")                    \
	X(REVOKE_REPLY, "records with a reply give back what they granted")                       \
	X(KEEP_BEGUN, "records without a reply keep what they granted")                           \
	X(NO_WITNESS, "no witness: a step that was started is made again")                        \
	X(STARTED_IS_DONE, "no witness: a step that was started is taken to be done")             \
	X(NOT_RECORDED, "a step that is done is made again")                                      \
	X(COLLECT_FIRST, "records are collected before the requests that come again are drained") \
	X(DRAIN_ALONE, "requests are read and claimed without the lock of the drain")             \
	X(NO_COLLECT, "records whose requests were answered are not collected")                   \
	X(FORGET_LOST, "FORGETs in the buffers of a dead server are not applied")                 \
	X(FORGET_AGAIN, "a buffer keeps its length when the progress of its FORGETs is cleared")  \
	X(NO_STEP, "nlookup is lowered without a step")                                           \
	X(RAISE_UNNOTED, "nlookup is raised before the record says so")                           \
	X(RAISE_LATE, "nlookup is raised after the reply was written")                            \
	X(JUDGED_LATE, "grants are judged while those of other records are taken back")           \
	X(NO_GENERATION, "a step on a node does not know its generation")                         \
	X(HANDLE_UNNOTED, "a handle is open before the record says so")

#define MISTAKE_NAME(name, text) M_##name,
enum mistake { MISTAKES(MISTAKE_NAME) M_N };
#define MISTAKE_TEXT(name, text) text,
static const char *const mistakes[M_N] = {MISTAKES(MISTAKE_TEXT)};

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
	uint8_t deaths;
	const char *wrong; /* what an action found; last: an address, and a whole word */
};

struct operation {
	const char *name;
	uint8_t changes, keys, key[GRANTS], opens, fails, is_long;
};

static const struct operation nothing = {"nothing", .keys = 0};
static const struct operation create_0 = {"CREATE 0", 1, 1, {0}, 1, 0, 0};
static const struct operation create_1 = {"CREATE 1", 1, 1, {1}, 1, 0, 0};
static const struct operation make_0 = {"MKDIR 0", 1, 1, {0}, 0, 0, 0};
static const struct operation make_1 = {"MKDIR 1", 1, 1, {1}, 0, 0, 0};
static const struct operation unlink_0 = {"UNLINK", 1, 0, {0}, 0, 0, 0};
static const struct operation lookup_0 = {"LOOKUP 0", 0, 1, {0}, 0, 0, 0};
static const struct operation list_01 = {"READDIRPLUS 0, 1", 0, 2, {0, 1}, 0, 0, 1};
static const struct operation fails_0 = {"CREATE 0 that fails", 1, 1, {0}, 1, 1, 0};

static struct setup {
	const struct operation *operations[REQUESTS];
	bool known_0;	/* the kernel holds a reference to key 0 at first */
	bool forgets_0; /* and has just given it back */
	bool vanishes;	/* whoever waits for a request that comes again may be killed */
	bool registers; /* the witness; else evidence */
	unsigned deaths;
	enum mistake mistake;
} setup;

static bool reached[P_N], reached_twice[P_N]; /* by a server, and by one after two deaths */

static bool mistaken(enum mistake mistake)
{
	return setup.mistake == mistake;
}

static void wrong(struct world *world, const char *what)
{
	if (!world->wrong)
		world->wrong = what;
}

/* --- the kernel --- */

/* A reply arrives. */
static void kernel_answered(struct world *world, unsigned r, uint8_t answer)
{
	const struct operation *operation = setup.operations[r];
	const struct record *record = &world->records[r];

	if (world->message[r] != K_READ) {
		wrong(world, "a reply to a request that nobody waits for");
		return;
	}
	world->message[r] = K_ANSWERED;
	if (answer != (operation->fails ? FAILED : GOOD))
		wrong(world, "the answer is not the true one");
	if (world->effects[r] != operation->changes)
		wrong(world, "what the request changes was not changed once");
	if (answer != GOOD)
		return;
	world->has_handle[r] = operation->opens;
	for (unsigned g = 0; g < operation->keys; g++) {
		unsigned key = operation->key[g];

		if (world->known[key].count && (world->known[key].node != record->granted[g] ||
						world->known[key].generation != record->reply_generation[g]))
			wrong(world, "the kernel is told of two nodes for one file");
		world->known[key].node = record->granted[g];
		world->known[key].generation = record->reply_generation[g];
		world->known[key].count++;
	}
}

/* Message m is read by a process, if it is its turn: what comes again stands before what is new. */
static bool kernel_gives(struct world *world, unsigned m, bool *again)
{
	bool some_again = false;

	for (unsigned r = 0; r < REQUESTS; r++)
		some_again = some_again || world->message[r] == K_AGAIN;
	*again = world->message[m] == K_AGAIN;
	if (!*again && (world->message[m] != K_QUEUED || (some_again && m != THE_FORGET)))
		return false;
	world->message[m] = m == THE_FORGET ? K_ANSWERED : K_READ;
	return true;
}

static bool kernel_has_some(const struct world *world)
{
	for (unsigned m = 0; m <= THE_FORGET; m++)
		if (world->message[m] == K_QUEUED || world->message[m] == K_AGAIN)
			return true;
	return false;
}

/* --- nodes: node.c --- */

static bool lock(uint8_t *lock_of, unsigned p)
{
	if (*lock_of != NOBODY && *lock_of != p + 1)
		return false;
	*lock_of = (uint8_t)(p + 1);
	return true;
}

static unsigned node_search(const struct world *world, unsigned key)
{
	for (unsigned n = 1; n < NODES; n++)
		if (world->nodes[n].linked && world->nodes[n].key == key)
			return n;
	return 0;
}

/* node_free() in pieces: true when it is done. */
static bool node_free(struct node *node)
{
	if (node->linked)
		node->linked = 0;
	else if (node->state != NODE_FREE)
		*node = (struct node){.generation = node->generation};
	else
		return true;
	return false;
}

/* Begins to lower nlookup of a node for a slot; `back` is where the process goes afterwards. */
static void lower(struct process *process, unsigned slot, unsigned back)
{
	process->slot = (uint8_t)slot;
	process->back = (uint8_t)back;
	process->place = P_LOWER;
}

/* node_lower() and node_apply_step(). The slot knows node, record and kind from here on. */
static bool act_lower(struct world *world, unsigned p)
{
	struct process *process = &world->processes[p];
	struct slot *slot = &world->slots[process->slot];
	struct node *node = &world->nodes[slot->node];

	switch (process->place) {
	case P_LOWERED:
		process->place = P_COUNTED;
		if (!mistaken(M_NO_GENERATION) && node->generation != slot->generation)
			break; /* it was freed, and is another's now */
		if (mistaken(M_NO_STEP))
			node->nlookup--;
		else
			node->nlookup = slot->nlookup;
		if (!node->nlookup)
			process->place = P_UNLINK;
		break;
	case P_UNLINK:
		process->place = P_FREE;
		if (node->linked)
			node->linked = 0;
		break;
	case P_FREE:
		process->place = P_COUNTED;
		if (node->state != NODE_FREE)
			*node = (struct node){.generation = node->generation};
		break;
	case P_COUNTED:
		process->place = P_STEPPED;
		if (slot->kind == LOWER_FORGET)
			slot->forgets_done = slot->done;
		else
			world->records[slot->record].ngrants = slot->done;
		break;
	case P_STEPPED:
		*slot = (struct slot){.forgets_done = slot->forgets_done, .buffer = slot->buffer};
		for (unsigned key = 0; key < KEYS; key++)
			if (world->stripes[key] == p + 1)
				world->stripes[key] = NOBODY;
		process->place = process->back;
		break;
	}
	return true;
}

/* node_revoke_last(), node_forget(): the step is written down. False: the stripe is another's. */
static bool act_note(struct world *world, unsigned p)
{
	struct process *process = &world->processes[p];
	struct slot *slot = &world->slots[process->slot];
	bool forget = process->message == THE_FORGET;
	struct record *record = &world->records[process->record];
	unsigned n = forget ? world->known[0].node : record->granted[record->ngrants - 1];
	struct node *node = &world->nodes[n];

	if (!lock(&world->stripes[node->key], p))
		return false;
	slot->kind = forget ? LOWER_FORGET : LOWER_REVOKE;
	slot->node = (uint8_t)n;
	slot->generation = node->generation;
	slot->nlookup = (uint8_t)(node->nlookup - 1);
	slot->record = process->record;
	slot->done = (uint8_t)(forget ? 1 : record->ngrants - 1);
	if (!node->nlookup)
		wrong(world, "a reference is taken back that is not there");
	process->place = P_LOWERED;
	return true;
}

/* One piece of node_revoke() and handle_revoke() of a record; true when all is back. */
static bool act_take_back(struct world *world, unsigned p, unsigned r, unsigned slot, unsigned back)
{
	struct process *process = &world->processes[p];
	struct record *record = &world->records[r];

	process->record = (uint8_t)r;
	if (record->ngrants)
		lower(process, slot, back);
	else if (record->handle && world->handles[r] != HANDLE_FREE)
		world->handles[r] = HANDLE_FREE;
	else if (record->handle)
		record->handle = 0;
	else
		return true;
	return false;
}

static void grant_settle(struct record *record)
{
	if (record->grant_position == record->ngrants) {
		record->granted[record->ngrants] = record->grant_node;
		record->ngrants++;
	} else {
		record->grant = record->grant_node = record->grant_before = record->grant_position = 0;
	}
}

/* One piece of node_resolve(). */
static void resolve(struct world *world, struct record *record)
{
	struct node *node = &world->nodes[record->grant_node];

	if (record->grant == GRANT_NEW ? node_free(node)
				       : record->grant == GRANT_RAISE && node->nlookup != record->grant_before + 1)
		record->grant = record->grant_node = record->grant_before = record->grant_position = 0;
	else if (record->grant != GRANT_NEW)
		grant_settle(record);
}

/* --- a request: server.c, journal.c, session.c --- */

static void begin(struct record *record)
{
	*record = (struct record){.phase = RECORD_BEGUN, .claimed = 1};
}

static void idle(struct process *process)
{
	*process = (struct process){.place = P_IDLE, .message = NOTHING};
}

/* worker_read*(), up to the request. */
static bool act_read(struct world *world, unsigned p, unsigned choice)
{
	struct process *process = &world->processes[p];
	bool draining = world->drain == p + 1, again;

	if (choice && process->place != P_READ)
		return false;
	switch (process->place) {
	case P_IDLE:
		if (!world->drained && !mistaken(M_DRAIN_ALONE) && !lock(&world->drain, p))
			return false;
		process->place = world->drained ? P_LENGTH : P_DRAIN;
		break;
	case P_DRAIN:
		process->place = kernel_has_some(world) ? P_LENGTH : P_COLLECT;
		if (!world->drained)
			break;
		world->drain = NOBODY;
		process->place = P_IDLE;
		break;
	case P_LENGTH:
		if (!mistaken(M_FORGET_AGAIN))
			world->slots[p].buffer = 0;
		process->place = P_PROGRESS;
		break;
	case P_PROGRESS:
		world->slots[p].forgets_done = 0;
		process->place = P_READ;
		break;
	case P_READ:
		draining = draining || (mistaken(M_DRAIN_ALONE) && !world->drained);
		if (draining && choice == NOTHING && !kernel_has_some(world)) {
			process->place = P_COLLECT; /* what it saw vanished: the next request that anybody makes */
			break;
		}
		if (choice >= NOTHING || !kernel_gives(world, choice, &again))
			return false;
		process->message = (uint8_t)choice;
		process->again = again;
		world->slots[p].buffer = choice == THE_FORGET;
		process->place = choice == THE_FORGET ? P_FORGET : !draining ? P_TAKE : again ? P_CLAIM : P_COLLECT;
		if (choice == THE_FORGET && world->drain == p + 1)
			world->drain = NOBODY;
		break;
	case P_CLAIM:
		if (world->records[process->message].phase != RECORD_FREE)
			world->records[process->message].claimed = 1;
		if (world->drain == p + 1)
			world->drain = NOBODY;
		process->place = P_TAKE;
		break;
	case P_COLLECT:
		for (unsigned r = 0; r < REQUESTS && !mistaken(M_NO_COLLECT); r++)
			if (world->records[r].phase != RECORD_FREE && !world->records[r].claimed) {
				world->records[r] = (struct record){0};
				return true;
			}
		world->drained = 1;
		if (world->drain == p + 1)
			world->drain = NOBODY;
		process->place = process->message == NOTHING ? P_IDLE : P_TAKE;
		break;
	}
	return true;
}

/* worker_take_record() and journal_call(). */
static void act_call(struct world *world, unsigned p)
{
	struct process *process = &world->processes[p];
	unsigned r = process->message;
	struct record *record = &world->records[r];
	const struct operation *operation = setup.operations[r];

	switch (process->place) {
	case P_TAKE:
		process->place = P_STEP;
		if (!process->again || record->phase == RECORD_FREE) {
			begin(record);
			break;
		}
		record->claimed = 1;
		if (record->phase == RECORD_REPLY)
			process->place = operation->is_long ? P_LONG : P_AGAIN;
		break;
	case P_LONG:
		if (!act_take_back(world, p, r, p, P_LONG))
			break;
		record->phase = RECORD_BEGUN;
		record->reply = NOT_YET;
		process->place = P_STEP;
		break;
	case P_STEP:
		process->place = P_GRANT;
		process->result = GOOD;
		if (!operation->changes)
			break;
		/* step_is_done(): the evidence is what the call changed */
		if (record->step == STEP_STARTED && !mistaken(M_NO_WITNESS) &&
		    (mistaken(M_STARTED_IS_DONE) || (!setup.registers && world->effects[r]))) {
			record->step = STEP_DONE;
			record->result = GOOD;
		}
		process->result = record->result;
		if (record->step == STEP_DONE && !mistaken(M_NOT_RECORDED))
			break;
		record->step = STEP_NONE;
		process->place = P_STARTED;
		break;
	case P_STARTED:
		record->step = STEP_STARTED;
		process->place = P_CALL;
		break;
	case P_CALL:
		process->result = world->effects[r] ? EXISTS : GOOD;
		world->effects[r]++;
		process->place = P_RESULT;
		break;
	case P_RESULT:
		record->result = process->result;
		process->place = P_DONE;
		break;
	case P_DONE:
		record->step = STEP_DONE;
		process->place = P_GRANT;
		break;
	}
}

/* node_grant_new(), for each key of the request; then what comes after. False: a lock is another's. */
static bool act_grant(struct world *world, unsigned p)
{
	struct process *process = &world->processes[p];
	struct record *record = &world->records[process->message];
	const struct operation *operation = setup.operations[process->message];
	unsigned key = operation->key[process->g];
	struct node *node = &world->nodes[record->grant_node];
	unsigned n;

	switch (process->place) {
	case P_GRANT:
		if (process->result != GOOD || process->g == operation->keys) {
			process->place = process->result != GOOD ? P_BACK : operation->opens ? P_PROMISE : P_REPLY;
			if (mistaken(M_REPLY_AFTER_WRITE) && process->place == P_REPLY)
				process->place = P_WRITE;
			break;
		}
		if (!lock(&world->stripes[key], p))
			return false;
		process->place = node_search(world, key) ? P_RAISE : P_NEW;
		break;
	case P_RAISE:
		n = node_search(world, key);
		if (mistaken(M_RAISE_UNNOTED) && process->i == 0) {
			world->nodes[n].nlookup++;
			process->i = 1;
			break;
		}
		record->grant = GRANT_RAISE;
		record->grant_node = (uint8_t)n;
		record->grant_before = (uint8_t)(world->nodes[n].nlookup - process->i);
		record->grant_position = record->ngrants;
		process->place = process->i || mistaken(M_RAISE_LATE) ? P_RAISED : P_NLOOKUP;
		process->i = 0;
		break;
	case P_NLOOKUP:
		node->nlookup++;
		process->place = P_RAISED;
		break;
	case P_NEW:
		for (n = 1; n < NODES && world->nodes[n].state != NODE_FREE; n++)
			;
		if (n == NODES) { /* it waits until the other has let go of one: there are fewer than in truth */
			world->stripes[key] = NOBODY;
			process->place = P_GRANT;
			break;
		}
		if (!lock(&world->allocation, p))
			return false;
		record->grant = GRANT_NEW;
		record->grant_node = (uint8_t)n;
		record->grant_position = record->ngrants;
		process->place = P_GENERATION;
		break;
	case P_GENERATION:
		node->generation++;
		process->place = P_CLAIMED;
		break;
	case P_CLAIMED:
		node->state = NODE_CLAIMED;
		world->allocation = NOBODY;
		process->place = P_USED;
		break;
	case P_USED:
		node->key = (uint8_t)key;
		node->nlookup = 1;
		node->state = NODE_USED;
		process->place = P_LINK;
		break;
	case P_LINK:
		node->linked = 1;
		process->place = P_RAISED;
		break;
	case P_RAISED:
		record->grant = GRANT_RAISED;
		process->place = P_LIST;
		break;
	case P_LIST:
		grant_settle(record);
		process->place = P_SETTLED;
		break;
	case P_SETTLED:
		grant_settle(record);
		world->stripes[key] = NOBODY;
		process->g++;
		process->place = P_GRANT;
		break;
	}
	return true;
}

/* handle_open(), session_take_back(), session_reply(), journal_end(). */
static void act_reply(struct world *world, unsigned p)
{
	struct process *process = &world->processes[p];
	unsigned r = process->message;
	struct record *record = &world->records[r];
	const struct operation *operation = setup.operations[r];
	bool late = mistaken(M_REPLY_AFTER_WRITE), early_end = mistaken(M_END_BEFORE_WRITE);

	switch (process->place) {
	case P_PROMISE:
		record->handle = !mistaken(M_HANDLE_UNNOTED);
		process->place = P_OPENING;
		break;
	case P_OPENING:
		if (world->handles[r] != HANDLE_FREE) /* in truth it takes another */
			wrong(world, "a handle is left that nobody has");
		world->handles[r] = HANDLE_OPENING;
		process->place = P_OPEN;
		break;
	case P_OPEN:
		world->handles[r] = HANDLE_OPEN;
		process->place = operation->fails ? P_BACK : late ? P_WRITE : P_REPLY;
		break;
	case P_BACK:
		if (!act_take_back(world, p, r, p, P_BACK))
			break;
		process->result = process->result == GOOD ? FAILED : process->result;
		process->place = late ? P_WRITE : P_REPLY;
		break;
	case P_REPLY:
		record->reply = process->result;
		for (unsigned g = 0; g < record->ngrants; g++)
			record->reply_generation[g] = world->nodes[record->granted[g]].generation;
		record->phase = RECORD_REPLY;
		process->place = late || early_end ? P_END : P_WRITE;
		break;
	case P_WRITE:
		if (late)
			for (unsigned g = 0; g < record->ngrants; g++)
				record->reply_generation[g] = world->nodes[record->granted[g]].generation;
		kernel_answered(world, r, process->result);
		process->place = late ? P_REPLY : P_END;
		if (mistaken(M_RAISE_LATE) && operation->keys)
			world->nodes[record->granted[0]].nlookup++;
		break;
	case P_AGAIN:
		kernel_answered(world, r, record->reply);
		process->place = P_END;
		break;
	case P_END:
		if (early_end && world->message[r] == K_READ) {
			record->phase = RECORD_FREE;
			process->place = P_WRITE;
			break;
		}
		*record = (struct record){0};
		idle(process);
		break;
	}
}

static bool act_forget(struct world *world, unsigned p)
{
	struct process *process = &world->processes[p];
	const struct node *node = &world->nodes[world->known[0].node];
	struct slot *slot = &world->slots[process->place == P_FORGET ? p : process->i];

	if (slot->forgets_done == 0 && node->state == NODE_USED && node->generation == world->known[0].generation)
		lower(process, (unsigned)(slot - world->slots), process->place == P_FORGET ? P_STOPPED : P_R_FORGETS);
	else if (slot->forgets_done == 0)
		slot->forgets_done = 1;
	else
		return false;
	return true;
}

static bool act_worker(struct world *world, unsigned p, unsigned choice)
{
	struct process *process = &world->processes[p];
	unsigned place = process->place;

	if (place >= P_IDLE && place <= P_COLLECT)
		return act_read(world, p, choice);
	if (choice)
		return false;
	if (place >= P_TAKE && place <= P_DONE)
		act_call(world, p);
	else if (place >= P_GRANT && place <= P_SETTLED)
		return act_grant(world, p);
	else if (place >= P_PROMISE && place <= P_END)
		act_reply(world, p);
	else if (place == P_FORGET && !act_forget(world, p))
		idle(process);
	else if (place == P_LOWER)
		return act_note(world, p);
	else if (place >= P_LOWERED && place <= P_STEPPED)
		act_lower(world, p);
	if (process->place == P_STOPPED) /* a FORGET was applied */
		idle(process);
	return true;
}

/* --- death, and what follows: recovery.c --- */

static bool settle_next(struct world *world, struct process *process, unsigned place)
{
	(void)world;
	*process = (struct process){.place = (uint8_t)place, .message = NOTHING};
	return true;
}

/* The next record of settle_records(): true when all are done. */
static bool settle_record(struct world *world, struct process *process)
{
	unsigned r = process->i;
	struct record *record = &world->records[r];
	bool revoke = process->place == P_R_REVOKE;

	if (r == REQUESTS)
		return true;
	if (record->phase != RECORD_BEGUN && !(revoke && record->phase == RECORD_REPLY && mistaken(M_REVOKE_REPLY)))
		process->i++;
	else if (record->grant && (!revoke || mistaken(M_JUDGED_LATE)))
		resolve(world, record);
	else if (!revoke || mistaken(M_KEEP_BEGUN) || act_take_back(world, 0, r, WORKERS, P_R_REVOKE))
		process->i++;
	return false;
}

static bool act_recovery(struct world *world)
{
	struct process *process = &world->processes[0];
	struct slot *slot = &world->slots[process->i];

	switch (process->place) {
	case P_R_LIFE:
		for (unsigned r = 0; r < REQUESTS; r++)
			world->records[r].claimed = 0;
		return settle_next(world, process, P_R_STEPS);
	case P_R_STEPS:
		if (process->i == SLOTS)
			return settle_next(world, process, mistaken(M_JUDGED_LATE) ? P_R_REVOKE : P_R_RESOLVE);
		if (slot->kind == LOWER_NONE) {
			process->i++;
		} else if (mistaken(M_NO_STEP)) {
			slot->kind = LOWER_NONE;
		} else {
			lower(process, process->i, P_R_STEPS);
			process->place = P_LOWERED;
		}
		return true;
	case P_R_RESOLVE:
		return settle_record(world, process) ? settle_next(world, process, P_R_REVOKE) : true;
	case P_R_REVOKE:
		return settle_record(world, process) ? settle_next(world, process, P_R_FORGETS) : true;
	case P_R_FORGETS:
		process->message = THE_FORGET;
		if (process->i == WORKERS)
			return settle_next(world, process, P_R_RESEND);
		if (slot->buffer && !mistaken(M_FORGET_LOST) && act_forget(world, 0))
			return true;
		slot->buffer = 0;
		process->i++;
		return true;
	case P_R_RESEND:
		for (unsigned r = 0; r < REQUESTS; r++)
			if (world->message[r] == K_READ)
				world->message[r] = K_AGAIN;
		for (unsigned p = 0; p < WORKERS; p++)
			idle(&world->processes[p]);
		world->drained = 0;
		world->recovering = 0;
		for (unsigned r = 0; r < REQUESTS && mistaken(M_COLLECT_FIRST); r++)
			world->records[r] = (struct record){0};
		return true;
	case P_LOWER:
		return act_note(world, 0);
	default:
		return act_lower(world, 0);
	}
}

/* The witness that sees it die: what the registers say of the system call (witness_testify). */
static void testify(struct world *world, const struct process *process)
{
	struct record *record = &world->records[process->message];

	if (process->place == P_CALL) {
		record->step = STEP_NONE;
	} else if (process->place == P_RESULT || process->place == P_DONE) {
		record->result = process->result;
		record->step = STEP_DONE;
	}
}

static bool act_die(struct world *world)
{
	if (world->deaths == setup.deaths)
		return false;
	world->deaths++;
	for (unsigned p = 0; p < WORKERS; p++) {
		if (!world->recovering && setup.registers && !mistaken(M_NO_WITNESS) && !mistaken(M_STARTED_IS_DONE))
			testify(world, &world->processes[p]);
		world->processes[p] = (struct process){.place = P_STOPPED, .message = NOTHING};
	}
	memset(world->stripes, NOBODY, sizeof(world->stripes));
	world->allocation = world->drain = NOBODY;
	world->drained = 0;
	world->recovering = 1;
	world->processes[0].place = P_R_LIFE;
	return true;
}

/* Who waits for a request that comes again is killed before it is read: the kernel drops it. */
static bool act_vanish(struct world *world, unsigned r)
{
	if (!setup.vanishes || world->message[r] != K_AGAIN)
		return false;
	world->message[r] = K_GONE;
	if (world->records[r].phase == RECORD_REPLY)
		world->ambiguous = 1;
	return true;
}

/* --- for the explorer --- */

#define CHOICES (NOTHING + 1)
#define ACTION_DIE (WORKERS * CHOICES)
#define ACTION_VANISH (ACTION_DIE + 1)
#define ACTIONS (ACTION_VANISH + REQUESTS)

static bool act(struct world *world, unsigned action, const char **text)
{
	unsigned p = action / CHOICES, choice = action % CHOICES;

	if (text)
		*text = action < ACTION_DIE    ? places[world->processes[p].place]
			: action == ACTION_DIE ? "THE SERVER DIES"
					       : "who waits for the request is killed";
	if (world->wrong)
		return false;
	if (action == ACTION_DIE)
		return act_die(world);
	if (action > ACTION_DIE)
		return act_vanish(world, action - ACTION_VANISH);
	if (world->processes[p].place == P_STOPPED)
		return false;
	reached[world->processes[p].place] = true;
	if (world->deaths >= 2)
		reached_twice[world->processes[p].place] = true;
	if (world->recovering)
		return choice == 0 && act_recovery(world);
	return act_worker(world, p, choice);
}

static bool outside(unsigned action)
{
	return action >= ACTION_DIE;
}

static const char *check_held(const struct world *world)
{
	for (unsigned key = 0; key < KEYS; key++) {
		const struct node *node = &world->nodes[world->known[key].node];

		if (!world->known[key].count)
			continue;
		if (node->state != NODE_USED || node->generation != world->known[key].generation)
			return "the kernel holds a node that is no more";
		if (node->nlookup < world->known[key].count)
			return "the kernel holds more references than we know";
	}
	return NULL;
}

static const char *check_end(const struct world *world)
{
	unsigned ours = 0, kernels = 0;

	for (unsigned r = 0; r < REQUESTS; r++) {
		if (world->message[r] != K_ANSWERED && world->message[r] != K_ABSENT && world->message[r] != K_GONE)
			return "a request is not answered";
		if (world->message[r] == K_GONE && world->effects[r] > 1)
			return "what a request changes was changed twice";
		if (world->records[r].phase != RECORD_FREE)
			return "a record is left";
		if (world->has_handle[r] != (world->handles[r] == HANDLE_OPEN) && !world->ambiguous)
			return "a handle is left that the kernel does not have";
	}
	for (unsigned n = 1; n < NODES; n++)
		ours += world->nodes[n].state == NODE_USED ? world->nodes[n].nlookup
							   : world->nodes[n].state == NODE_CLAIMED;
	for (unsigned key = 0; key < KEYS; key++)
		kernels += world->known[key].count;
	return ours > kernels && !world->ambiguous ? "references are left that the kernel does not have" : NULL;
}

static const char *wrong_with(const struct world *world, bool end)
{
	const char *what = world->wrong ? world->wrong : check_held(world);

	return what ? what : end ? check_end(world) : NULL;
}

static void show(const struct world *world, unsigned action, const char *text)
{
	unsigned p = action / CHOICES;

	(void)world;
	if (action < ACTION_DIE)
		printf("#   %*s%c: %s\n", (int)p * 4, "", "AB"[p], text);
	else
		printf("#   %s\n", text);
}

static void world_make(struct world *world)
{
	memset(world, 0, sizeof(*world));
	for (unsigned r = 0; r < REQUESTS; r++)
		world->message[r] = setup.operations[r] == &nothing ? K_ABSENT : K_QUEUED;
	for (unsigned p = 0; p < WORKERS; p++)
		idle(&world->processes[p]);
	if (setup.known_0 || setup.forgets_0) {
		world->nodes[1] = (struct node){NODE_USED, 1, 0, 1, 1};
		world->known[0].node = world->known[0].generation = 1;
		world->known[0].count = !setup.forgets_0;
	}
	world->message[THE_FORGET] = setup.forgets_0 ? K_QUEUED : K_ABSENT;
	world->drained = 1;
}

static struct result run(const struct setup *with, bool loud)
{
	static struct world first;
	const struct model model = {.bytes = sizeof(struct world),
				    .first = &first,
				    .actions = ACTIONS,
				    .act = act,
				    .wrong = wrong_with,
				    .outside = outside,
				    .show = show};

	setup = *with;
	world_make(&first);
	return explore(&model, loud);
}

/* What is right: nothing may be found. */
static const struct setup setups[] = {
	{{&make_0, &unlink_0}, .registers = true, .deaths = 3},
	{{&make_0, &unlink_0}, .deaths = 3},
	{{&create_0, &create_1}, .registers = true, .deaths = 3},
	{{&create_0, &make_1}, .deaths = 3},
	{{&create_0, &lookup_0}, .registers = true, .deaths = 3},
	{{&lookup_0, &lookup_0}, .registers = true, .deaths = 3},
	{{&lookup_0, &lookup_0}, .known_0 = true, .registers = true, .deaths = 3},
	{{&lookup_0, &lookup_0}, .forgets_0 = true, .registers = true, .deaths = 3},
	{{&make_1, &nothing}, .forgets_0 = true, .registers = true, .deaths = 3},
	{{&create_1, &lookup_0}, .forgets_0 = true, .deaths = 2},
	{{&list_01, &lookup_0}, .known_0 = true, .registers = true, .deaths = 3},
	{{&list_01, &lookup_0}, .forgets_0 = true, .registers = true, .deaths = 2},
	{{&fails_0, &make_1}, .registers = true, .deaths = 3},
	{{&fails_0, &lookup_0}, .known_0 = true, .deaths = 3},
	{{&make_0, &create_1}, .vanishes = true, .registers = true, .deaths = 3},
	{{&list_01, &create_0}, .vanishes = true, .deaths = 2},
};

static const struct setup wrong_setups[] = {
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_REPLY_AFTER_WRITE},
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_END_BEFORE_WRITE},
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_REVOKE_REPLY},
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_KEEP_BEGUN},
	{{&make_0, &nothing}, .deaths = 1, .mistake = M_NO_WITNESS},
	{{&make_0, &nothing}, .deaths = 1, .mistake = M_STARTED_IS_DONE},
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_NOT_RECORDED},
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_COLLECT_FIRST},
	{{&make_0, &make_1}, .registers = true, .deaths = 1, .mistake = M_DRAIN_ALONE},
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_NO_COLLECT},
	{{&nothing, &nothing}, .forgets_0 = true, .deaths = 1, .mistake = M_FORGET_LOST},
	{{&lookup_0, &lookup_0}, .forgets_0 = true, .deaths = 1, .mistake = M_FORGET_AGAIN},
	{{&lookup_0, &nothing}, .forgets_0 = true, .deaths = 2, .mistake = M_NO_STEP},
	{{&lookup_0, &nothing}, .known_0 = true, .deaths = 1, .mistake = M_RAISE_UNNOTED},
	{{&lookup_0, &nothing}, .known_0 = true, .deaths = 1, .mistake = M_RAISE_LATE},
	{{&lookup_0, &lookup_0}, .known_0 = true, .deaths = 1, .mistake = M_JUDGED_LATE},
	{{&make_1, &nothing}, .forgets_0 = true, .registers = true, .deaths = 1, .mistake = M_NO_GENERATION},
	{{&create_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_HANDLE_UNNOTED},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A model that does not get somewhere says nothing about it. */
static bool check_reached(unsigned n)
{
	unsigned missed = 0;

	for (unsigned place = P_IDLE; place < P_N; place++)
		if (!reached[place] || !reached_twice[place]) {
			printf("# never reached%s: %s\n", reached[place] ? " after two deaths" : "", places[place]);
			missed++;
		}
	printf("%sok %u - every place was reached, also after two deaths\n", missed ? "not " : "", n);
	return !missed;
}

int main(int argc, char **argv)
{
	unsigned n = 0, failed = 0;
	bool loud = argc > 1 && strcmp(argv[1], "-v") == 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("1..%zu\n", COUNT(setups) + 1 + COUNT(wrong_setups));
	for (size_t i = 0; i < COUNT(setups); i++) {
		const struct setup *with = &setups[i];
		struct result result = run(with, true);

		failed += result.wrong != NULL;
		printf("%sok %u - %s and %s%s%s, %u deaths, %s: %s%s%zu states\n", result.wrong ? "not " : "", ++n,
		       with->operations[0]->name, with->operations[1]->name, with->forgets_0 ? " and FORGET 0" : "",
		       with->vanishes ? ", which may vanish" : "", with->deaths,
		       with->registers ? "registers" : "evidence", result.wrong ? result.wrong : "",
		       result.wrong ? ", " : "", result.states);
	}
	failed += !check_reached(++n);
	for (size_t i = 0; i < COUNT(wrong_setups); i++) {
		struct result result = run(&wrong_setups[i], loud);

		failed += result.wrong == NULL;
		printf("%sok %u - found: %s: %s, %zu states\n", result.wrong ? "" : "not ", ++n,
		       mistakes[wrong_setups[i].mistake], result.wrong ? result.wrong : "nothing is wrong",
		       result.states);
	}
	return failed != 0;
}
