/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The passthrough file system: what its files share. struct fs is made by the monitor and inherited by each
 * server; struct fs_area is its part of the state and outlives them.
 */
#ifndef FS_FS_H
#define FS_FS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bpf/load.h"
#include "fs/idmap.h"
#include "recover/recover.h"

#define FS_PINS 4
#define TTL_UNLIMITED 1e9
#define FS_TEMPORARY 4
#define FS_GROUPS 2
#define FD_CACHE_MAX 262144
#define MOUNTS_MAX 256
#define LOCK_OWNERS_MAX 8192
#define LOCK_RANGES 4
#define WATCH_ASKED 512
#define WATCH_EVENTS 65536
#define WATCH_AGAIN 262144
#define QUIET_MAX 16

/* What the node table keeps for an inode of the source. */
struct inode {
	int32_t fd;	  /* O_PATH, a cache over the file handle; -1: none now. Guarded by fds.lock (fds.c) */
	uint32_t fd_slot; /* where fds.slots names this inode */
	int32_t backing_id;
	uint32_t backing_opens; /* open handles with passthrough; stripe lock (passthrough.c) */
	uint16_t mount;		/* index of fs_area.mounts */
	uint8_t handle_bytes;	/* 0: no file handle, fd is held for good */
	uint8_t flags;		/* INODE_* */
	uint32_t served_opens;	/* open handles that must not be mixed with those; the same */
	uint32_t type;		/* S_IFMT of its mode */
	int32_t handle_type;
	uint8_t handle[48]; /* struct file_handle.f_handle */
};

#define INODE_HANDLE_BYTES 48
#define INODE_HELD 1 /* its last name is gone, or it is in another mount: no way to it but its descriptor */
#define INODE_RECENT 2
#define INODE_EXACT 4	  /* a directory in which names are found by these bytes only */
#define INODE_FOLDS 8	  /* one in which they may be found by others: upper and lower case */
#define INODE_SUBMOUNT 16 /* another file system begins here: the kernel has two inodes with this nodeid */
#define INODE_MAPPED 32	  /* was open so that it may be written through a mapping, of which nobody is told */
#define INODE_GIVEN 64	  /* BPF may have told the kernel of it: answer.c */

/* One file system at or below SOURCE. */
struct fs_mount {
	uint64_t device;      /* st_dev */
	uint64_t mount_id;    /* statx(2), where `fd` is: it may be mounted elsewhere too, with other flags */
	int32_t fd;	      /* open(2)ed, not O_PATH: open_by_handle_at(2) wants that; -1: no file handles */
	uint32_t asked;	      /* whether it gives file handles is known */
	uint32_t passthrough; /* 1: its files take kernel passthrough, 2: refused once */
	uint32_t traits;      /* MOUNT_*, once it was asked */
	uint32_t fsid[2];     /* of its file handles in events (watch.c) */
	uint64_t watched_ns;  /* CLOCK_MONOTONIC, since when its changes are told; 0: they are not. Stored last */
};

#define MOUNT_EXACT 1	 /* a name is found by these bytes only, unless a directory says otherwise */
#define MOUNT_NO_FLUSH 2 /* close(2) never reports an error */

/* What is noted of locks for a start after a hand-over, which has to take them again: lock.c. */
struct lock_range {
	uint64_t start; /* and LOCK_RANGE_WRITE */
	int64_t length; /* 0: to the end */
};

#define LOCK_RANGE_WRITE (UINT64_C(1) << 63)
#define LOCK_RANGES_UNKNOWN UINT16_MAX /* more than there is room for */

/* handle.lock: of flock(2). */
enum handle_lock { HANDLE_LOCK_NONE, HANDLE_LOCK_SHARED, HANDLE_LOCK_EXCLUSIVE, HANDLE_LOCK_LOST };

/* A lock owner (a process, or an open file for OFD locks) that holds POSIX locks on an inode. */
struct lock_owner {
	uint32_t state; /* 0: free, 1: in use. Stored last */
	uint32_t node;
	uint64_t owner; /* as the kernel names it */
	uint64_t handle;
	int32_t fd; /* an open file of its own: the OFD locks on it are the owner's */
	uint32_t pid;
	uint16_t ranges_n[2]; /* of each copy */
	uint32_t copy;	      /* which one is true; stored when the other one is written */
	struct lock_range ranges[2][LOCK_RANGES];
};

/*
 * What the watcher must not lose when it is killed (watch.c), and how the others reach it. Written by the watcher alone
 * but for the descriptors.
 */
struct fs_watch {
	int32_t group;		     /* of fanotify(7); -1: nothing is watched */
	int32_t ask[2];		     /* a pipe of nodeids whose attributes are not to be kept any longer */
	int32_t mounts;		     /* the table of mounts (mountinfo.c) */
	int32_t quiet_ask[2];	     /* a pipe of nodeids of files that are written all the time (quiet.c) */
	uint32_t quiet_high;	     /* quiet[0 .. high - 1] may be in use */
	uint32_t quiet[QUIET_MAX];   /* node indices of files whose writes are ignored; 0: none */
	uint64_t quiet_ended_ns;     /* CLOCK_MONOTONIC: when one of them was last heard again */
	uint32_t ask_lost;	     /* one did not fit */
	uint64_t asked[WATCH_ASKED]; /* read from it and not done yet, then 0 */
	uint64_t first, end;	     /* of the events to be sent again: bytes since the mount, modulo WATCH_AGAIN */
	uint8_t events[WATCH_EVENTS] __attribute__((aligned(8))); /* read and not dealt with yet; ends with zeroes */
	uint8_t again[WATCH_AGAIN] __attribute__((aligned(8)));
};

/* cache=bpf: answer.c */
struct fs_answer {
	uint32_t on;
	uint32_t sets;		 /* of the tables */
	int32_t fds[ANSWER_FDS]; /* enum answer_fd */
	uint32_t stats_id;	 /* the map's, for --status */
	uint64_t cookie;	 /* what the module knows the program by */
	uint64_t stamp;		 /* of the last entry written: never the same again */
	uint64_t entries, evictions;
};

struct fs_area {
	uint32_t mounts_n;
	uint32_t no_open; /* noopen.c; set before the mount, the kernel holds to it until its end */
	struct fs_mount mounts[MOUNTS_MAX];
	uint32_t fd_slots[FD_CACHE_MAX]; /* inode indices; true where the inode says so too */
	uint32_t fd_slots_high;		 /* fd_slots[0 .. high - 1] may be in use */
	uint32_t lock_owners_high;	 /* lock_owners[0 .. high - 1] may be in use */
	struct lock_owner lock_owners[LOCK_OWNERS_MAX];
	struct fs_watch watch;
	struct fs_answer answer;
	uint32_t passthrough_wanted; /* when the mount was made */
	uint32_t answered;	     /* BPF may have opened files that are still open: without handles, see noopen.c */
};

/* A worker thread as the file system sees it. */
struct fs_thread {
	_Atomic uint32_t pinned[FS_PINS]; /* inodes whose descriptor is in use */
	unsigned pinned_n;
	int temporary[FS_TEMPORARY]; /* descriptors to close when the request is done */
	unsigned temporary_n;
	uint32_t uid, gid, umask; /* what the thread acts with, see creds.c */
	uint32_t caps_off, caps_permitted[2], caps_inheritable[2];
	uint32_t groups[FS_GROUPS]; /* its supplementary groups */
	unsigned groups_n;
};

struct fds {
	pthread_mutex_t lock;
	unsigned room; /* slots in use: bounded by RLIMIT_NOFILE */
	unsigned hand;
};

struct parked_lock;

struct fs {
	int source_fd;
	/* by the user's choice */
	double ttl; /* seconds; names and attributes, where nothing better is known */
	bool watch_wanted;
	int bpf; /* BPF_*: answer.h */
	unsigned bpf_entries;
	bool passthrough_wanted;
	bool locks_local; /* left to the kernel, and not known in the source */
	bool read_only;	  /* the mount is made so */
	struct idmaps ids;
	bool idmap_wanted;
	/* of this server */
	bool backing;	  /* the kernel takes backing ids */
	bool passthrough; /* and data is to go through them */
	bool acts;	  /* as callers: it may change its ids */
	bool foreign;	  /* in a user namespace, that may lack some */
	struct fs_area *area;
	struct nodes *nodes;
	struct handles *handles;
	struct recover *recover;
	int proc_fd;		  /* /proc/self/fd */
	_Atomic uint32_t workers; /* that have started */
	struct fds fds;
	pthread_mutex_t mounts_lock;
	struct fs_thread threads[STATE_WORKERS_MAX + 1];
	pthread_mutex_t lock_lock; /* lock.c */
	pthread_cond_t lock_retry;
	struct parked_lock *parked_locks;
	bool lock_thread;
};

extern const struct recover_fs fxfs;

/* The source is opened by the caller: `source_fd` is a descriptor of its directory (O_RDONLY). */
struct fs *fs_new(int source_fd);

static inline struct fs *fs_of(const struct request *request)
{
	return recover_private(request->recover);
}

/* Nothing that is cached is ever asked for again: what of it the kernel would drop at the next open(2) may be kept. */
static inline bool fs_caches_always(const struct fs *fs)
{
	return fs->ttl >= TTL_UNLIMITED;
}

struct fs_thread *fs_thread(const struct request *request);

/* Somebody keeps the mount for a start after all of its processes are gone. */
static inline bool fs_is_kept(const struct fs *fs)
{
	return load_relaxed(&fs->nodes->state->header->evidence);
}

/* adopt.c: opens again what the state says was open; `kept`: recover_fs.adopt(). 0 or -errno. */
int adopt_descriptors(struct fs *fs, int *kept, unsigned n);

#endif
