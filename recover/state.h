/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The state: what a server must know of the mount when it takes over from a dead one.
 *
 * One file, mapped shared by monitor, server and (read only) `fxfs --status`. It describes a running
 * mount, not the source: it is worthless after a reboot, is never synced and is deleted at a clean unmount.
 *
 *	offset            what                                   size
 *	0                 struct state_header                    STATE_HEADER_BYTES
 *	                  struct worker_slot[]                   STATE_SLOTS
 *	                  struct request_stats[] (stats.h)       STATE_SLOTS
 *	                  struct record[]        (journal.h)     JOURNAL_RECORDS
 *	                  uint32_t grants[][]    (journal.h)     GRANT_AREAS x GRANTS_PER_AREA
 *	                  the file system's own area             recover_fs.area_bytes
 *	                  uint32_t heads[]       (node.h)        NODE_HEADS
 *	                  uint32_t aliases[]     (node.h)        ALIAS_HEADS
 *	                  uint64_t unlinked[]    (node.h)        ALIAS_GROUPS
 *	                  struct handle[]        (handle.h)      HANDLES_MAX, grows
 *	                  struct node[]          (node.h)        NODES_MAX, grows
 *
 * Each section begins on a page. All up to the handles is allocated when the state is made; handles and
 * nodes are holes that are allocated, STATE_GROW_BYTES at a time, before they are first used: a full file
 * system is then an error of that request and never a SIGBUS.
 *
 * Request buffers are not in this file: they are a memfd, because a page of a file on disk may have to be
 * faulted in again, and a thread that is being killed cannot (shared/facts: EIO to the application).
 *
 * Rules. Fields have fixed widths, indices stand for pointers. A record is published by one store_release()
 * after all else in it was written. Whoever changes something in two stores writes down, beside those
 * stores, what a death between them leaves and who mends it (recovery.c). The reader treats the file as
 * hostile: it was written by a process that crashed.
 */
#ifndef RECOVER_STATE_H
#define RECOVER_STATE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "recover/stats.h"

#define STATE_MAGIC UINT64_C(0x6574617473667866) /* "fxfstate", little endian */
#define STATE_VERSION 4
#define STATE_HEADER_BYTES 32768
#define STATE_WORKERS_MAX 64
#define STATE_SLOTS (STATE_WORKERS_MAX + 1) /* one more for the thread that recovers */
#define STATE_GROW_BYTES (UINT64_C(256) << 10)
#define STATE_INIT_BYTES 256
#define STATE_CACHE_BYTES 32

#define NODE_HEADS (UINT32_C(1) << 20)
#define ALIAS_HEADS (UINT32_C(1) << 18)
#define ALIAS_GROUPS 64
#define NODES_MAX (UINT32_C(1) << 24)
#define HANDLES_MAX (UINT32_C(1) << 20)

/* Where the mount stands, for people (`fxfs --status`) and for the monitor that adopts it. */
enum state_phase {
	STATE_STARTING, /* no server has answered yet */
	STATE_SERVING,
	STATE_RECOVERING, /* the server died, the next one is not ready */
	STATE_STOPPING,
	STATE_BROKEN, /* no server comes up: requests are answered with EIO */
	STATE_PHASE_N
};

/* Replacing the program under the mount (`fxfs --upgrade`, SIGHUP). */
enum state_upgrade {
	UPGRADE_NONE,
	UPGRADE_ASKED,	 /* header.program says by what */
	UPGRADE_RUNNING, /* the new program has taken over, its first server is not ready yet */
	UPGRADE_BACK,	 /* it did not come up: the old one takes over again */
	UPGRADE_DONE,
	UPGRADE_FAILED,
	UPGRADE_N
};

/* Descriptors of the mount that are no orphans, by what they are for. */
enum state_keep {
	KEEP_LOG,
	KEEP_READY,
	KEEP_GO,
	KEEP_SIGNALS,
	KEEP_BUFFERS,
	KEEP_NOTIFY,
	KEEP_WAKE, /* /dev/cpu_dma_latency, see wake.h */
	KEEP_WAKE_EVENT,
	KEEP_METRICS,	 /* the socket of metrics.c */
	KEEP_CONNECTION, /* the directory of the mount's connection: mount_connection_open() */
	KEEP_PROGRAM,	 /* the program that was replaced: until the new one serves */
	KEEP_HOLD,	 /* the connection to the holder, see handover.h */
	KEEP_N
};

/* A change of one node's nlookup in progress; see node.c. */
struct node_step {
	uint32_t kind; /* enum node_step_kind; 0: none; stored last, cleared last */
	uint32_t node;
	uint64_t nlookup;    /* what it becomes */
	uint32_t record;     /* NODE_STEP_REVOKE: the record whose grant is taken back */
	uint32_t done;	     /* the progress counter (forgets or grants) after this step */
	uint32_t generation; /* of the node: freed by the step, it may be another already */
	uint32_t freeing;    /* nobody wants to keep it: it may be half free */
};

/* One thread of the server. Written by that thread only; read by recovery when it is dead. */
struct worker_slot {
	struct node_step step;
	uint32_t forgets_done; /* of the FORGETs in the request buffer, how many are applied */
	uint32_t busy;	       /* a request was read and is not finished */
	uint32_t calling;      /* a system call that changes something is being made: see guardian.c */
	uint32_t unused;
	uint64_t unique;   /* that request, for people and the watchdog */
	uint64_t since_ns; /* CLOCK_MONOTONIC */
	int32_t tid;
	uint32_t opcode; /* of that request */
};

/* For tests: see crash.h. */
struct crash_arm {
	uint32_t point;	 /* the number of the point that strikes, from 1; 0: none */
	uint32_t opcode; /* only while a request of this kind is carried out; 0: any */
	uint32_t passes; /* it strikes when it is passed for the so manieth time */
	uint32_t next;	 /* the point that is armed then */
	uint32_t signal; /* a fault of the thread; 0: SIGKILL, of the process */
	uint32_t struck; /* how often */
	uint32_t again;	 /* the same point strikes so many times more, in the same kind of request */
	uint32_t unused;
};

struct state_counters {
	uint64_t requests;
	uint64_t resent;
	uint64_t replayed; /* resent requests answered with the stored reply */
	uint64_t redone;   /* resent requests carried out (again) */
	uint64_t forgets_recovered;
	uint64_t grants_revoked;
	uint64_t orphans_closed; /* ranges of descriptor numbers closed at recoveries */
	uint64_t reply_errors;
	uint64_t poisoned;     /* requests answered EIO because each server died of them */
	uint64_t hangs;	       /* servers that the watchdog ended */
	uint64_t watch_events; /* changes of the file system underneath that the watcher was told of */
	uint64_t watch_overflows;
	uint64_t holds;	       /* how often the cores were kept awake */
	uint64_t handovers;    /* starts after all processes of the mount were gone */
	uint64_t lost_handles; /* open files that such a start could not open again */
	uint64_t lost_locks;   /* and locks that it could not take again */
};

struct state_header {
	uint64_t magic;
	uint32_t version;
	uint32_t layout; /* folded from all sizes: state_layout_word() */
	uint64_t bytes;	 /* of the whole file */
	uint64_t area_bytes;
	uint64_t started_realtime_ns; /* of the mount */
	int32_t monitor_pid;
	int32_t server_pid;
	uint32_t life;	   /* starts of the server; 1 is the first */
	uint32_t restarts; /* deaths that were recovered from */
	uint32_t phase;	   /* enum state_phase */
	uint32_t workers;
	uint32_t max_write;
	uint32_t detached;     /* messages go to syslog (log.h) */
	uint32_t device_minor; /* of the mount's st_dev: names the connection, mount_connection_path() */
	uint32_t witness;      /* enum witness: who is asked about an interrupted system call */
	uint32_t upgrade;      /* enum state_upgrade */
	uint32_t upgrades;
	uint32_t wake;	       /* enum wake_phase */
	uint32_t records_high; /* records[0 .. records_high - 1] have been in use */
	uint32_t watched;      /* the file system wants a watcher (recover_watch()) */
	int32_t watcher_pid;
	int32_t checked;       /* the process that last said that its program could take over: exec_check_start() */
	int32_t oom_score_adj; /* of the monitor: proc(5) */
	uint32_t evidence;     /* is taken besides registers, for a start after a hand-over */
	uint32_t held_by_manager;
	uint64_t source_device, source_number; /* stat(2) of SOURCE */
	uint64_t nodes_high;		       /* nodes[1 .. nodes_high] have been in use */
	uint64_t handles_high;
	uint64_t nodes_bytes; /* allocated for the table so far */
	uint64_t handles_bytes;
	uint64_t nodes_used; /* hints: exact but for deaths between two stores */
	uint64_t handles_used;
	int32_t device[STATE_WORKERS_MAX]; /* [0] the mount's /dev/fuse (or /dev/fxfuse), the others its clones */
	int32_t keep[KEEP_N];		   /* enum state_keep; -1: none */
	uint32_t init_in_bytes, init_out_bytes;
	uint8_t init_in[STATE_INIT_BYTES], init_out[STATE_INIT_BYTES]; /* the FUSE_INIT exchange */
	struct state_counters counters;
	struct recovery_stats recovery;
	struct crash_arm crash;
	char device_path[32]; /* what the mount was made with: /dev/fuse, /dev/fxfuse */
	char version_text[32];
	char cache[STATE_CACHE_BYTES];
	char passthrough[128]; /* on, or off and why */
	char wake_text[128];   /* hold, or plain and why */
	char hold_text[128];   /* who keeps the mount, or why nobody does */
	char source[PATH_MAX];
	char mountpoint[PATH_MAX];
	char path[PATH_MAX];	/* of this file; empty: it has no name */
	char program[PATH_MAX]; /* what an upgrade starts */
	/* Of versions after 0.1.0, whose states, and programs, share these: zero where nobody has said anything. */
	char contain_text[128]; /* on, or off or in part and why */
	int32_t forbidden;	/* the system call that a server died of last: contain.h */
	uint32_t unused;
};

/* What all versions have that can follow each other. */
#define STATE_HEADER_COMMON offsetof(struct state_header, contain_text)

/* A mapped state. Pointers are this process's; everything they point to is shared. */
struct state {
	int fd;
	bool writable;
	struct state_header *header;
	struct worker_slot *slots;
	struct request_stats *stats;
	struct record *records;
	uint32_t *grants;
	uint8_t *area;
	uint32_t *heads;
	uint32_t *aliases;
	uint64_t *unlinked;
	struct handle *handles;
	struct node *nodes;
	uint64_t handles_offset, nodes_offset, bytes;
};

/*
 * Makes a state for a file system whose area has `area_bytes` bytes at `path` (created, 0600, must not exist), or
 * in memory where `path` is NULL. 0 or -errno; -EEXIST names something that is there already.
 */
int state_create(struct state *state, const char *path, uint64_t area_bytes);

/*
 * Maps an existing state, read only, after checking that it is one: a regular file of ours (uid, 0600, not a
 * link), magic, version, layout word and size. 0 or -errno: -EPROTO another version or layout, -EBADMSG torn or
 * foreign. `why` says it in words.
 */
int state_open(struct state *state, const char *path, const char **why);

/* The numbers and texts of a header that has our version and layout: 0, or -EBADMSG and why. */
int state_check_numbers(const struct state_header *header, const char **why);

void state_close(struct state *state);

/*
 * Does anybody have the mount? Its processes share one open file of the state, which is locked with flock(2): the lock falls
 * with the last of them, and unlike a process id it means the same in each pid namespace. `state` is one of state_open().
 */
bool state_held(const struct state *state);

/*
 * What the monitor reads while a server dies (header, slots, stats, records) stays in this process's memory once it was
 * used: oom_lock_program() says why. 0, -errno of mlock2(2).
 */
int state_keep_in_memory(const struct state *state);

/* A name that no two mounts share: /run/fxfs/<minor>.state. Writes at most `size` bytes. */
void state_default_path(uint32_t device_minor, char *path, size_t size);

/* Makes sure that `bytes` of the table at `offset` are allocated, `*have` being what was. 0 or -errno (ENOSPC). */
int state_grow(struct state *state, uint64_t offset, uint64_t *have, uint64_t bytes);

/* Maps the state that is open as `fd` for a program that takes over, after the same checks. `fd` is the caller's still. */
int state_adopt(struct state *state, int fd, const char **why);

#endif
