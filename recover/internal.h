/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of recover/ share and a file system does not see: the mount as its processes know it.
 * Filled in by the monitor, inherited by each server as a private copy; what must outlive a server is in the state.
 */
#ifndef RECOVER_INTERNAL_H
#define RECOVER_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "recover/readers.h"
#include "recover/recover.h"

struct iovec;

/* A thread of the server: its clone of /dev/fuse, its libfuse session, its buffers. */
struct worker {
	struct recover *recover;
	struct worker_slot *slot;
	struct record *record; /* its own, used again for each request */
	struct fuse_session *session;
	int device;
	bool swallow;	   /* INIT is played again: no reply leaves */
	uint8_t *in, *out; /* request: at in; reply data: at out, page aligned */
	pthread_t thread;
	struct request request;
};

struct recover {
	const struct recover_fs *fs;
	const struct recover_options *options;
	void *private;
	struct state state;
	struct journal journal;
	struct nodes nodes;
	struct handles handles;
	unsigned workers_n;
	struct worker workers[STATE_WORKERS_MAX];
	uint8_t *buffers; /* a memfd, see state.h */
	size_t buffers_bytes;
	uint32_t max_write;  /* as in the state */
	bool buffers_locked; /* else populated only: see buffers.c */
	int buffers_fd;
	int ready_fd;	   /* eventfd: the server says that it serves */
	int go_fd;	   /* eventfd: the monitor says that the server may start */
	int wake_event_fd; /* eventfd: the server asks that cores be kept awake; -1: never */
	char **exec_arguments;
	char adopt_argument[24];
	bool unannounced;     /* whoever started us waits until a server is ready */
	bool hold_lost;	      /* and it was said */
	int64_t hold_next_ms; /* when the holder is looked for again; 0: it is there, or none is wanted */
	/* of the server */
	struct readers readers;
	pthread_mutex_t drain;
	sem_t settled; /* what the last server left: descriptors may be opened again */
	atomic_bool drained;
	_Atomic uint64_t wake_since_ns; /* see wake_count() */
	atomic_bool leaving;		/* workers begin no call that changes something */
};

/* A request is read so that the data of a FUSE_WRITE begins on a page: O_DIRECT needs that. */
#define REQUEST_HEADROOM 4096
#define REQUEST_OFFSET (REQUEST_HEADROOM - sizeof(struct fuse_in_header) - sizeof(struct fuse_write_in))

/*
 * request.c: is this a request that libfuse and the operations can take apart without reading beyond it? `init_flags`:
 * recover_init_flags().
 */
bool request_valid(const struct fuse_in_header *in, size_t bytes, uint64_t init_flags);

/* mount(8) */
enum { EXIT_OK = 0, EXIT_USAGE = 1, EXIT_SYSTEM = 2, EXIT_BUG = 4, EXIT_MOUNT = 32 };

/* place.c */
int place_make(struct recover *recover);
void place_describe(struct recover *recover);
void place_name(struct recover *recover);
void place_adopt(struct recover *recover);

/* session.c */
int session_open_all(struct recover *recover);
int session_open_again(struct recover *recover);
/* A clone of a device, or -errno. */
int session_clone(int device);
void session_undo(struct worker *worker, struct record *record);
ssize_t session_reply(struct worker *worker, const struct iovec *iov, int n);
void session_dispatch(struct worker *worker, size_t bytes);

/* forget.c: applies the FORGETs in a worker's buffer from where the slot says. */
void forget_apply(struct recover *recover, const struct fuse_in_header *in, struct worker_slot *slot);

/* recovery.c */
void recovery_settle(struct recover *recover);
void recovery_claim(struct recover *recover, uint64_t unique);
void recovery_collect(struct recover *recover);
int recovery_resend(struct recover *recover);

/* server.c: the body of a server process; does not return. */
__attribute__((noreturn)) void server_run(struct recover *recover);

#define SERVER_EXIT_UNMOUNTED 0
#define SERVER_EXIT_FAILED 1

/* monitor.c: a process of its own with our table of open files, on a stack of SERVER_STACK_BYTES, which is not shared. */
pid_t monitor_clone(int (*entry)(void *recover), struct recover *recover, void *stack);
int64_t clock_ms(void); /* CLOCK_MONOTONIC */

/* buffers.c */
int buffers_create(struct recover *recover);
int buffers_attach(struct recover *recover);
int buffers_populate(const struct worker *worker);

/* mount.c */
/* The device, into header.device[0]: 0 or -errno. */
int mount_open_device(struct recover *recover);
int mount_attach(const struct recover *recover);
int mount_detach(const struct recover *recover, bool force);
/* Another open of the device that `device` is: what FUSE_DEV_IOC_CLONE makes a clone of. A descriptor or -errno. */
int mount_reopen(int device);

/*
 * The directory of the mount's connection (waiting, abort), by a fusectl of our own that is mounted nowhere: whether there
 * is another, and where, does not matter then. systemd mounts that of fuse, nobody that of fxfuse. -1: not permitted.
 */
int mount_connection_open(const struct recover *recover);

/* The path of `file` in that directory; without it, where systemd mounts it. */
void mount_connection_path(const struct recover *recover, const char *file, char *path, size_t size);

/* Is the mountpoint a descriptor of /dev/fuse that somebody else has mounted? */
bool mount_is_passed(const struct recover *recover);

#endif
