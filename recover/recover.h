/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A FUSE file system that outlives its server. This is the header that a file system includes.
 *
 * What a file system hands over: struct recover_fs. Its libfuse low-level operations run in a server
 * process that may be killed at any instruction; the monitor starts the next one, the kernel sends again what was
 * not answered, and recover/ sees to it that each request is answered once. A small example is test/memfs.
 *
 * What it may rely on
 *  - Descriptors stay open, under the same number, in every server of the mount (never set O_CLOEXEC). One that neither
 *    a handle, nor a step of the journal, nor mark() names is closed when the next server starts.
 *  - nodes (node.h), handles (handle.h) and its own area in the state are as the dead server left them. All other memory
 *    is as it was when the monitor started: fresh.
 *  - A request that was not answered is carried out again, with the same record.
 *
 * What it must do
 *  - Make each system call that changes something through request_call(), and each change of what it keeps in its area
 *    through request_step(), in an order given by the request alone.
 *  - Hand out references and handles only through node_grant*() and handle_open(), which note them in the record: an
 *    answer that is an error takes them back, and closes what steps of the request opened.
 *  - Publish what it keeps in its area with one store_release() last, and say what a death before it leaves.
 *  - Answer INIT (operation init) the same each time: it is asked once per worker. INTERRUPT never gets to libfuse, so
 *    it sets no_interrupt.
 *  - Answer from memory that is resident: request.out, the record, the stack.
 */
#ifndef RECOVER_RECOVER_H
#define RECOVER_RECOVER_H

#include <fuse_kernel.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>

#include "recover/atomic.h"
#include "recover/contain.h"
#include "recover/handle.h"
#include "recover/journal.h"
#include "recover/node.h"
#include "recover/state.h"
#include "recover/wake.h"
#include "recover/witness.h"

struct recover;
struct request;
struct worker;

#define WATCH_FDS 8 /* see watch_fds() */

#ifndef FUSE_ALLOW_IDMAP
#define FUSE_ALLOW_IDMAP (1ULL << 40) /* protocol 7.41, Linux 6.12 */
#endif

#define RECOVER_NUMBERS 8

/* Of a file system, for people. */
struct recover_number {
	const char *name, *help;
	bool counts; /* it only grows */
	uint64_t value;
};

/* prepare() and start() must be there; the other functions where a file system has something for them to do. */
struct recover_fs {
	const char *name; /* the file system type is fuse.NAME */
	const struct fuse_lowlevel_ops *ops;
	uint64_t area_bytes; /* of its own area in the state, zero at first */
	/* Flags of FUSE_INIT (fuse_kernel.h) that libfuse has no name for; taken where the kernel offers them. */
	uint64_t init_flags;
	/* In the monitor, before the mount: the area and the root node. Once per mount. 0 or -errno. */
	int (*prepare)(struct recover *recover);
	/*
	 * In the monitor, instead of prepare(), where all processes of the mount were gone and somebody had kept it: no
	 * descriptor that area and nodes name is open, and those of handles are -1. Opens again what it can and counts what
	 * it cannot (state_counters.lost_*); a handle that stays at -1 is answered with errors. Once more where a start
	 * died in it. `kept`: descriptors that may be what keep() said, or anything else, in any order; what it takes out of
	 * them (-1 instead) is its own. 0, or -errno and why was said: the mount cannot be served.
	 */
	int (*adopt)(struct recover *recover, int *kept, unsigned n);
	/* Descriptors of its own that are to be kept for that, up to HELD_FDS_OF_FS. How many. */
	unsigned (*keep)(struct recover *recover, int *fds);
	/* In each new server, before anything is settled: brings its area and counts in order. 0 or -errno. */
	int (*start)(struct recover *recover);
	/* In each worker thread, before its first request. */
	void (*start_worker)(struct request *request);
	/* Calls mark(context, fd) for each descriptor that its area and nodes name. */
	void (*mark)(struct recover *recover, void (*mark)(void *context, int fd), void *context);
	/* Lets go of what a node / an open handle holds; may be called twice for one. */
	void (*drop_node)(void *recover, uint32_t index, struct node *node);
	void (*drop_handle)(void *recover, struct handle *handle);
	/*
	 * The kernel has given back its last reference to a node: must the node stay, because the kernel may come to it
	 * nevertheless? Asked again by nodes_sweep().
	 */
	bool (*keep_node)(void *recover, uint32_t index, struct node *node);
	/* Requests that libfuse cannot parse; true: answered with request_reply(). */
	bool (*raw)(struct request *request);
	/* The alias of a node, see node.h. */
	uint32_t (*alias)(const struct node *node);
	/*
	 * The body of the watcher, a third process that shares the table of open files, is killed at any time, and started
	 * anew: it alone tells the kernel to drop what it knows (notify_*()). It opens nothing, and closes nothing.
	 * Started where prepare() called recover_watch(); does not return.
	 */
	void (*watch)(struct recover *recover);
	/* The descriptors of its own that watch() needs, up to WATCH_FDS: it has no other. How many. */
	unsigned (*watch_fds)(struct recover *recover, int *fds);
	/*
	 * What --status and metrics say of it besides, up to RECOVER_NUMBERS, in the process that is asked, which has nothing of
	 * the mount but the state. How many.
	 */
	unsigned (*numbers)(const struct state *state, struct recover_number *numbers);
	/* The application does not want to wait for request `unique` any longer. */
	void (*interrupt)(struct recover *recover, struct worker_slot *slot, uint64_t unique);
	/*
	 * What start_worker(), the operations, drop_*() and interrupt(), and in the watcher watch(), need of the kernel besides
	 * what recover/ needs itself: all else is denied to them, and they die of it. NULL: nothing.
	 */
	const struct contain_set *server_may, *watcher_may;
};

#define HELD_FDS_OF_FS 4
#define HELD_FDS (STATE_WORKERS_MAX + 2 + HELD_FDS_OF_FS)
#define HELD_NAME_BYTES 32

/* Descriptors that somebody kept of a mount: see handover.h. */
struct held {
	unsigned n;
	bool by_manager; /* systemd, and not a holder */
	char name[HELD_NAME_BYTES];
	int fds[HELD_FDS];
};

struct recover_options {
	const char *source; /* as shown in the table of mounts */
	const char *mountpoint;
	const char *state_path; /* NULL: the default */
	const char *version;
	const char *device; /* /dev/fuse or another like it; NULL: /dev/fxfuse where it can be opened, or /dev/fuse */
	unsigned workers;   /* 0: by the number of cores */
	unsigned long mount_flags; /* MS_* of mount(2) */
	uint64_t init_flags;	   /* as those of recover_fs, by the user's choice */
	const char *cache;	   /* for --status */
	enum witness witness;
	enum wake wake;
	enum contain contain;
	unsigned watchdog;   /* seconds that a request may take; 0: any */
	const char *metrics; /* metrics.h; NULL: none */
	const char *hold;    /* the socket of a holder; NULL: none */
	bool hold_manager;   /* the service manager keeps the mount, if it has a file descriptor store */
	struct held *held;   /* what was kept of this mount; NULL: nothing was asked for */
	uint64_t source_device, source_number; /* stat(2) of the source */
	bool foreground, debug;
	/* Of main(), for the program that takes over; ends with NULL. NULL: none can, also where the monitor dies. */
	char **arguments;
	int notify_fd; /* one byte is written when the mount answers: 0, or an exit code of mount(8); -1: nobody waits */
};

/* One request, as an operation sees it. */
struct request {
	const struct fuse_in_header *in; /* as the kernel sent it, checked (request.c) */
	struct recover *recover;
	struct worker *worker;
	struct worker_slot *slot;
	struct record *record;
	uint8_t *out; /* resident memory for a reply of up to out_bytes; all but the first 4 KiB of *in may be in it */
	size_t out_bytes;
	unsigned steps; /* made so far, see request_call() */
};

/* The request that this thread is carrying out. */
struct request *request_current(void);

/* Where the arguments of the request begin (struct fuse_*_in). */
static inline const void *request_arguments(const struct request *request)
{
	return request->in + 1;
}

/* The next system call of this request that changes something: journal_call() with its step. */
long request_call(struct request *request, long number, long a, long b, long c, long d, long e, long f);

/*
 * What the next step of this request recorded in an earlier try, -ENOENT: nothing. It is forgotten: request_call() then
 * makes the call anew, for what may have been given back since.
 */
long request_take_result(struct request *request, long number);

/*
 * The next change of this request that is no system call but stores into the file system's area. STEP_DONE: it was made,
 * by an earlier server too, and `result` is what it returned. Otherwise the file system makes it, and sees to it that
 * `result` and STEP_DONE are there exactly if all of the change is: after a death no witness is asked. How that can be
 * done shows test/memfs/survive.c.
 */
struct step *request_step(struct request *request);

/* Answers without libfuse: -errno, or data. */
void request_reply(struct request *request, int err, const void *data, size_t bytes);

/* A request that is answered later, by any thread of the server. A death forgets it; the kernel sends it again. */
struct parked {
	struct recover *recover;
	struct record *record;
	uint64_t unique; /* as the kernel sent it */
	int device;
};

/* Sets the current request aside. 0, or -ENOLCK when too many are. */
int request_park(struct request *request, struct parked *parked);
void parked_reply(struct parked *parked, struct worker_slot *slot, int err);

/* CLOCK_MONOTONIC, as in worker_slot.since_ns. */
uint64_t clock_ns(void);

/* Is some worker carrying out a request of this kind? */
bool request_in_flight(struct recover *recover, uint32_t opcode);

/*
 * pthread_create(3) for a server: another thread may be in execve(2) at that moment, to become the monitor, and the
 * kernel refuses new threads (EAGAIN) until that succeeds, which ends this one, or fails. 0 or an error number.
 */
int recover_start_thread(pthread_t *thread, void *(*start)(void *), void *argument);

/* The flags of FUSE_INIT that kernel and server agreed on. */
uint64_t recover_init_flags(struct recover *recover);

/* The mount of a libfuse session's userdata. */
struct recover *worker_recover(void *userdata);

struct nodes *recover_nodes(struct recover *recover);
struct handles *recover_handles(struct recover *recover);
struct journal *recover_journal(struct recover *recover);
struct state *recover_state(struct recover *recover);

/* Does the service manager say that it keeps descriptors? (systemd 254) */
bool recover_is_offered(void);

/* Will the mount be kept by somebody when all of its processes are gone? */
bool recover_is_kept(const struct recover *recover);

/* In prepare(): the mount is to have a watcher. */
void recover_watch(struct recover *recover);

/*
 * Notifications, of the watcher only: the kernel waits in them for locks that an application holds while it waits for
 * the server. 0 or -errno; -ENOENT: the kernel knows no such thing.
 *
 * The next who uses the name asks for it again; what he finds then may be the same. Whoever is in it stays there.
 */
int notify_expire_entry(struct recover *recover, uint64_t parent, const char *name);
/* Attributes and ACLs; and the pages from `offset` on, `length` 0: to the end, if offset is not negative. */
int notify_inval_inode(struct recover *recover, uint64_t nodeid, int64_t offset, int64_t length);
/* All names at once, and who is in one, or has mounted something on it, loses that. Where notify_has_epoch(). */
int notify_inc_epoch(struct recover *recover);
bool notify_has_epoch(const struct recover *recover);

/* The file system's own: handed to recover_run(), inherited by every server. */
void *recover_private(struct recover *recover);

struct stat;

/*
 * Asks the service manager, and the holder at `holder` (NULL: none), what was kept of the mount of this source on
 * `mountpoint`. What has ended is forgotten there. Before anybody looks at the mountpoint, where nobody may answer.
 */
void recover_find_held(struct held *held, const char *holder, const struct stat *source, const char *mountpoint);

/* Mounts, or takes over what was kept, serves until unmounted or told to stop; returns an exit code of mount(8). */
int recover_run(const struct recover_fs *fs, const struct recover_options *options, void *private);

/*
 * The same for a mount that exists: its monitor died, or became this program. `state_fd` is the number in the argument
 * --adopt=; source and mountpoint are taken from there. prepare() is not called.
 */
int recover_adopt(const struct recover_fs *fs, struct recover_options *options, void *private, int state_fd);

/* Could recover_adopt() take this state? For --check-state=; 0 or an exit code. */
int recover_check(const struct recover_fs *fs, void *private, int state_fd);

/* Puts this program under the mount whose state is at `path`; waits until it serves. An exit code; says why. */
int recover_upgrade(const char *path);

#endif
