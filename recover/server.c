/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The server process: settles what the last one left, has the kernel send again what was not answered, and serves
 * with one thread per worker. The first server of a mount starts in the same way and finds nothing to settle.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/check.h"
#include "recover/crash.h"
#include "recover/guardian.h"
#include "recover/internal.h"
#include "recover/log.h"
#include "recover/oom.h"
#include "recover/witness.h"

#define WITNESS_WAIT_MS 1000
#define WITNESS_LOOK_MS 5
#define FAULTS_MAX 3
#define FAULT_STACK_BYTES 32768
#define LEAVING_NAP_NS 100000
#define THREAD_NAP_NS 1000000
#define THREAD_TRIES 2000

static __thread struct worker *self;

struct request *request_current(void)
{
	return &self->request;
}

struct nodes *recover_nodes(struct recover *recover)
{
	return &recover->nodes;
}

struct handles *recover_handles(struct recover *recover)
{
	return &recover->handles;
}

struct journal *recover_journal(struct recover *recover)
{
	return &recover->journal;
}

struct state *recover_state(struct recover *recover)
{
	return &recover->state;
}

uint64_t recover_init_flags(struct recover *recover)
{
	const struct fuse_init_out *out =
		(const void *)(recover->state.header->init_out + sizeof(struct fuse_out_header));

	return out->flags | (uint64_t)out->flags2 << 32;
}

struct recover *worker_recover(void *userdata)
{
	return ((struct worker *)userdata)->recover;
}

void *recover_private(struct recover *recover)
{
	return recover->private;
}

static struct step *step_next(struct request *request)
{
	struct record *record = request->record;

	if (request->steps == JOURNAL_STEPS)
		bug("request %u makes more than %d steps", request->in->opcode, JOURNAL_STEPS);
	if (record->nsteps == request->steps)
		store_release(&record->nsteps, request->steps + 1);
	return &record->steps[request->steps++];
}

/* While this process is about to become another program no call is begun: what was read is sent again. */
static void call_begin(struct recover *recover, struct worker_slot *slot)
{
	for (;;) {
		__atomic_store_n(&slot->calling, 1, __ATOMIC_SEQ_CST);
		if (!atomic_load(&recover->leaving))
			return;
		__atomic_store_n(&slot->calling, 0, __ATOMIC_SEQ_CST);
		nanosleep(&(struct timespec){.tv_nsec = LEAVING_NAP_NS}, NULL);
	}
}

long request_call(struct request *request, long number, long a, long b, long c, long d, long e, long f)
{
	const struct state_header *header = request->recover->state.header;
	bool evidence = load_relaxed(&header->witness) != WITNESS_REGISTERS || load_relaxed(&header->evidence);
	long result;

	call_begin(request->recover, request->slot);
	result = journal_call(step_next(request), evidence, number, a, b, c, d, e, f);
	store_release(&request->slot->calling, 0);
	return result;
}

long request_take_result(struct request *request, long number)
{
	struct record *record = request->record;
	struct step *step = &record->steps[request->steps];

	if (request->steps >= record->nsteps || step->state != STEP_DONE || step->number != (uint32_t)number)
		return -ENOENT;
	store_release(&step->state, STEP_NONE);
	return (long)step->result;
}

struct step *request_step(struct request *request)
{
	struct step *step = step_next(request);

	if (step->number != STEP_STORES) {
		store_release(&step->state, STEP_NONE);
		step->number = STEP_STORES;
	}
	return step;
}

void request_reply(struct request *request, int err, const void *data, size_t bytes)
{
	struct fuse_out_header header = {
		.len = (uint32_t)(sizeof(header) + bytes), .error = err, .unique = request->in->unique};
	struct iovec iov[2] = {{&header, sizeof(header)}, {(void *)data, bytes}};

	session_reply(request->worker, iov, bytes ? 2 : 1);
}

int request_park(struct request *request, struct parked *parked)
{
	struct worker *worker = request->worker;
	struct record *other = journal_claim(&worker->recover->journal);

	if (!other)
		return -ENOLCK;
	*parked = (struct parked){.recover = worker->recover,
				  .record = request->record,
				  .unique = request->in->unique,
				  .device = worker->device};
	if (worker->record == request->record)
		worker->record = other;
	else
		store_relaxed(&other->tid, 0);
	request->record = NULL;
	return 0;
}

void parked_reply(struct parked *parked, struct worker_slot *slot, int err)
{
	struct fuse_out_header header = {.len = sizeof(header), .error = err, .unique = parked->unique};
	struct iovec iov = {&header, sizeof(header)};
	struct worker from = {
		.recover = parked->recover, .slot = slot, .device = parked->device, .request.record = parked->record};

	session_reply(&from, &iov, 1);
	store_relaxed(&parked->record->tid, 0);
	journal_end(&parked->recover->journal, parked->record);
}

bool request_in_flight(struct recover *recover, uint32_t opcode)
{
	for (unsigned i = 0; i < recover->workers_n; i++)
		if (load_acquire(&recover->state.slots[i].busy) && recover->state.slots[i].opcode == opcode)
			return true;
	return false;
}

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* The stored reply, under the number by which the request came this time. */
static void reply_again(struct worker *worker, struct record *record, uint64_t unique)
{
	struct fuse_out_header *header = (void *)record->reply;

	header->unique = unique;
	add_relaxed(&worker->recover->state.header->counters.replayed, 1);
	if (write(worker->device, record->reply, record->reply_bytes) < 0)
		session_undo(worker, record);
}

/* A resent request that has a record takes it up where it was; all others begin a fresh one. */
static struct record *worker_take_record(struct worker *worker, const struct fuse_in_header *in)
{
	struct recover *recover = worker->recover;
	struct record *record = NULL;

	if (in->unique & UNIQUE_RESEND) {
		add_relaxed(&recover->state.header->counters.resent, 1);
		record = journal_find(&recover->journal, in->unique);
	}
	if (record) {
		store_relaxed(&record->life, recover->state.header->life);
		return record;
	}
	journal_begin(&recover->journal, worker->record, in->unique, in->opcode);
	return worker->record;
}

static void worker_carry_out(struct worker *worker, size_t bytes)
{
	struct request *request = &worker->request;

	if (request->in->unique & UNIQUE_RESEND)
		add_relaxed(&worker->recover->state.header->counters.redone, 1);
	if (!request_valid(request->in, bytes, recover_init_flags(worker->recover))) {
		log_warning("request %u of %zu bytes is malformed", request->in->opcode, bytes);
		request_reply(request, -EIO, NULL, 0);
		return;
	}
	if (!worker->recover->fs->raw || !worker->recover->fs->raw(request))
		session_dispatch(worker, bytes);
}

/* Each server that carried it out died of it: the fourth does not try. */
static bool worker_refuse_poison(struct worker *worker)
{
	struct request *request = &worker->request;

	if (request->record->faults < FAULTS_MAX)
		return false;
	log_error("request %llu (opcode %u, node %#llx, of process %u) ended %u servers: answered with EIO",
		  (unsigned long long)request->record->unique, request->in->opcode,
		  (unsigned long long)request->in->nodeid, request->in->pid, request->record->faults);
	add_relaxed(&worker->recover->state.header->counters.poisoned, 1);
	request_reply(request, -EIO, NULL, 0);
	return true;
}

static void worker_serve_request(struct worker *worker, const struct fuse_in_header *in, size_t bytes)
{
	struct recover *recover = worker->recover;
	struct request *request = &worker->request;
	struct record *record = worker_take_record(worker, in);

	store_relaxed(&record->tid, worker->slot->tid);
	request->in = in;
	request->record = record;
	request->steps = 0;
	if (record->phase == RECORD_REPLY && record->reply_bytes) {
		reply_again(worker, record, in->unique);
	} else {
		if (record->phase == RECORD_REPLY) {
			/* too long to be stored, so it changed nothing: made again, what it granted comes back first */
			node_revoke(&recover->nodes, worker->slot, record);
			handle_revoke(&recover->handles, record);
			store_release(&record->phase, RECORD_BEGUN);
		}
		if (!worker_refuse_poison(worker))
			worker_carry_out(worker, bytes);
	}
	if (!request->record) /* set aside */
		return;
	if (record != worker->record)
		store_relaxed(&record->tid, 0);
	journal_end(&recover->journal, record);
	request->record = NULL;
}

static void worker_serve(struct worker *worker, size_t bytes)
{
	const struct fuse_in_header *in = (const void *)worker->in;
	struct worker_slot *slot = worker->slot;
	struct recover *recover = worker->recover;
	uint64_t end_ns;

	crash_request(in->opcode);
	crash_point(request_read);
	slot->unique = in->unique;
	slot->opcode = in->opcode;
	slot->since_ns = clock_ns();
	store_release(&slot->busy, 1);
	wake_count(recover, add_relaxed(&recover->state.header->counters.requests, 1), slot->since_ns);
	readers_begin(&recover->readers);
	switch (in->opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		if (request_valid(in, bytes, recover_init_flags(recover)))
			forget_apply(recover, in, slot);
		break;
	case FUSE_INTERRUPT:
		if (recover->fs->interrupt && request_valid(in, bytes, recover_init_flags(recover)))
			recover->fs->interrupt(recover, slot, ((const struct fuse_interrupt_in *)(in + 1))->unique);
		break;
	default:
		worker_serve_request(worker, in, bytes);
	}
	end_ns = clock_ns();
	stats_request(&recover->state.stats[worker - recover->workers], slot->opcode, end_ns - slot->since_ns);
	store_relaxed(&slot->busy, 0);
	readers_end(&recover->readers, slot->since_ns, end_ns);
}

/* Only buffers whose length is zero or true: recovery looks for a FORGET in them. */
static ssize_t worker_read(struct worker *worker)
{
	struct fuse_in_header *in = (void *)worker->in;

	store_release(&in->len, 0);
	store_release(&worker->slot->forgets_done, 0);
	return read(worker->device, in, worker->recover->state.header->max_write + REQUEST_HEADROOM);
}

/*
 * While requests are being resent they stand at the head of the queue. One reader at a time: it claims the record of
 * each, until an ordinary request comes or none is left; records that nobody claimed were answered.
 */
static ssize_t worker_read_drain(struct worker *worker)
{
	struct recover *recover = worker->recover;
	const struct fuse_in_header *in = (const void *)worker->in;
	struct pollfd poll_device = {.fd = worker->device, .events = POLLIN};
	ssize_t got = -1;
	int ready;

	pthread_mutex_lock(&recover->drain);
	ready = atomic_load(&recover->drained) ? 0 : poll(&poll_device, 1, 0);
	if (ready > 0) {
		got = worker_read(worker);
		if (got > 0 && in->unique & UNIQUE_RESEND)
			recovery_claim(recover, in->unique);
		crash_point(claimed);
	} else {
		errno = EAGAIN;
	}
	if (!atomic_load(&recover->drained)) {
		bool ordinary = got > 0 && !(in->unique & UNIQUE_RESEND) && in->opcode != FUSE_FORGET &&
				in->opcode != FUSE_BATCH_FORGET && in->opcode != FUSE_INTERRUPT;

		if (ready <= 0 || ordinary) {
			crash_point(drained);
			recovery_collect(recover);
			crash_point(collected);
			atomic_store(&recover->drained, true);
		}
	}
	pthread_mutex_unlock(&recover->drain);
	return got;
}

__attribute__((noreturn)) static void worker_loop(struct worker *worker)
{
	struct recover *recover = worker->recover;

	for (;;) {
		bool drained = atomic_load_explicit(&recover->drained, memory_order_relaxed);
		ssize_t got = drained ? worker_read(worker) : worker_read_drain(worker);

		if (got > 0)
			worker_serve(worker, (size_t)got);
		else if (got < 0 && errno == ENODEV) /* unmounted, or the connection was aborted */
			_exit(SERVER_EXIT_UNMOUNTED);
		else if (got < 0 && errno != EINTR && errno != EAGAIN && errno != ENOENT)
			bug("cannot read from /dev/fuse: %s", strerror(errno));
	}
}

/* Of every thread, so that a stack overflow finds one too. */
static void fault_stack(void)
{
	stack_t stack = {.ss_size = FAULT_STACK_BYTES};

	stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack.ss_sp != MAP_FAILED)
		sigaltstack(&stack, NULL);
}

#ifndef FXFS_SANITIZE /* sanitizers report faults themselves */
static int32_t *faults_told;

/*
 * A fault is the request's that this thread carries out; a signal that somebody sent is nobody's. The registers that the
 * witness needs are those of the moment before; of a system call that the filter caught they say that it was made, and
 * that its result is its number: it was not.
 */
static void on_fault(int signal_number, siginfo_t *info, void *context)
{
	struct record *record = self ? self->request.record : NULL;
	bool own = info->si_code > 0 || (info->si_code == SI_TKILL && info->si_pid == getpid());
	const mcontext_t *registers = &((ucontext_t *)context)->uc_mcontext;

	if (signal_number == SIGSYS && own)
		store_release(faults_told, info->si_syscall);
	if (record && record->phase == RECORD_BEGUN) {
		if (own)
			store_release(&record->faults, record->faults + 1);
#if defined(__x86_64__)
		witness_testify(record, (uintptr_t)registers->gregs[REG_RIP],
				signal_number == SIGSYS ? -EINTR : (long)registers->gregs[REG_RAX]);
#elif defined(__aarch64__)
		witness_testify(record, (uintptr_t)registers->pc,
				signal_number == SIGSYS ? -EINTR : (long)registers->regs[0]);
#endif
	}
	raise(signal_number); /* its action is the default again */
}

static void fault_signals(struct recover *recover)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS};
	struct sigaction action = {.sa_sigaction = on_fault,
				   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND | SA_NODEFER};

	faults_told = &recover->state.header->forbidden;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigaction(faults[i], &action, NULL);
}
#else
static void fault_signals(struct recover *recover)
{
	(void)recover;
}
#endif

static void *worker_start(void *worker);

/* Of the threads each starts the next: the first worker serves before all of them are there. */
static void worker_start_next(struct worker *worker)
{
	struct recover *recover = worker->recover;
	struct worker *next = worker + 1;
	int err;

	if (next == recover->workers + recover->workers_n)
		return;
	err = recover_start_thread(&next->thread, worker_start, next);
	if (err)
		bug("cannot start a worker: %s", strerror(err));
}

/* A thread's first allocation asks the system for much more than it is for: a request must not fail of that. */
static void heap_begin(void)
{
	void *volatile first = malloc(sizeof(struct request));

	free(first);
}

__attribute__((noreturn)) static void worker_main(struct worker *worker)
{
	struct recover *recover = worker->recover;
	int err;

	self = worker;
	fault_stack();
	if (unshare(CLONE_FS))
		bug("cannot have an own umask: %s", strerror(errno));
	umask(0);
	worker->slot->tid = (int32_t)gettid();
	worker->record = journal_claim(&recover->journal);
	if (!worker->record)
		bug("the journal is full");
	worker->request = (struct request){.recover = recover,
					   .worker = worker,
					   .slot = worker->slot,
					   .out = worker->out,
					   .out_bytes = recover->state.header->max_write};
	if (recover->fs->start_worker)
		recover->fs->start_worker(&worker->request);
	heap_begin();
	readers_join(&recover->readers, (unsigned)(worker - recover->workers));
	err = buffers_populate(worker);
	if (err)
		bug("cannot make a request buffer resident: %s", strerror(-err));
	worker_loop(worker);
}

static void *worker_start(void *worker)
{
	worker_start_next(worker);
	worker_main(worker);
}

/*
 * The guardian alone takes its signal. What somebody tells a whole cgroup or terminal is meant for the monitor: it waits until
 * this process is one, which it may just be about to become.
 */
static void server_signals(struct recover *recover)
{
	sigset_t blocked;

	sigemptyset(&blocked);
	sigaddset(&blocked, GUARDIAN_SIGNAL);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGHUP);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	fault_signals(recover);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG to the request instead */
}

/*
 * What the monitor has in its own memory stands above what the dead server left of it in the state; all else there is
 * checked.
 */
static int server_check(struct recover *recover)
{
	struct state_header *header = recover->state.header;

	header->workers = recover->workers_n;
	header->max_write = recover->max_write;
	for (unsigned i = 0; i < recover->workers_n; i++)
		header->device[i] = recover->workers[i].device;
	header->keep[KEEP_READY] = recover->ready_fd;
	header->keep[KEEP_GO] = recover->go_fd;
	header->keep[KEEP_BUFFERS] = recover->buffers_fd;
	return check_state(&recover->state);
}

static void server_tables(struct recover *recover)
{
	journal_init(&recover->journal, &recover->state);
	nodes_init(&recover->nodes, &recover->state, &recover->journal);
	recover->nodes.drop = recover->fs->drop_node;
	recover->nodes.keep = recover->fs->keep_node;
	recover->nodes.context = recover;
	recover->nodes.alias = recover->fs->alias;
	handles_init(&recover->handles, &recover->state);
	recover->handles.drop = recover->fs->drop_handle;
	recover->handles.context = recover;
	readers_init(&recover->readers, recover->workers_n, (unsigned)sysconf(_SC_NPROCESSORS_ONLN),
		     &recover->state.header->counters.requests);
	pthread_mutex_init(&recover->drain, NULL);
	atomic_store(&recover->drained, false);
	atomic_store(&recover->leaving, false);
	sem_init(&recover->settled, 0, 0);
}

/* The monitor says when it traces us, or that it may not. If it died instead, that ends the wait. */
static void server_wait_for_witness(struct recover *recover)
{
	struct pollfd go = {.fd = recover->go_fd, .events = POLLIN};
	uint64_t count;

	for (int waited = 0; waited < WITNESS_WAIT_MS; waited += WITNESS_LOOK_MS) {
		if (poll(&go, 1, WITNESS_LOOK_MS) == 1 && read(recover->go_fd, &count, sizeof(count)) == sizeof(count))
			return;
		if (getppid() != recover->state.header->monitor_pid)
			break;
	}
	store_release(&recover->state.header->witness, WITNESS_EVIDENCE);
}

/*
 * A core dump holds recovery up for as long as it takes. A limit of 0 keeps it from files, but not from a program in
 * /proc/sys/kernel/core_pattern; 1 does both (core(5)).
 */
static void server_limits(void)
{
	if (setrlimit(RLIMIT_CORE, &(struct rlimit){1, 1})) /* above the hard limit, and we may not raise that */
		prctl(PR_SET_DUMPABLE, 0);
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
}

int recover_start_thread(pthread_t *thread, void *(*start)(void *), void *argument)
{
	const struct timespec nap = {.tv_nsec = THREAD_NAP_NS};
	int err;

	for (unsigned tries = 0; tries < THREAD_TRIES; tries++) {
		err = pthread_create(thread, NULL, start, argument);
		if (err != EAGAIN)
			break;
		nanosleep(&nap, NULL);
	}
	return err;
}

void server_run(struct recover *recover)
{
	struct state_header *header = recover->state.header;
	int err;

	server_signals(recover);
	oom_score_write(header->oom_score_adj + OOM_SERVER);
	server_wait_for_witness(recover);
	server_limits();
	header->life++;
	crash_start(&recover->state);
	crash_point(server_started);
	if (server_check(recover))
		bug("the state was damaged");
	server_tables(recover);
	err = recover->fs->start(recover);
	if (err)
		bug("the file system does not start: %s", strerror(-err));
	guardian_start(recover); /* before it: the guardian may have to do more than the server */
	contain_server(recover);
	recovery_settle(recover);
	err = recovery_resend(recover);
	crash_point(resent);
	if (err)
		bug("the kernel does not send again: %s", strerror(-err));
	worker_start_next(&recover->workers[0]);
	sem_post(&recover->settled);
	store_release(&header->phase, STATE_SERVING);
	if (write(recover->ready_fd, &(uint64_t){1}, sizeof(uint64_t)) < 0)
		log_warning("cannot tell the monitor that the server is ready: %s", strerror(errno));
	worker_main(&recover->workers[0]);
}
