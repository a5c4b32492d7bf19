/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The workers' buffers: one memfd, mapped shared, resident in every process that uses it. The kernel copies
 * requests into them while a server may be dying, and a dying thread cannot fault a page in: the request would end
 * with EIO. Neither mlock(2) nor page tables are inherited, so each worker populates its own anew before it reads.
 *
 * No request has both much to say and a long answer: the answer stands in the same buffer, behind whatever such a request
 * has to say.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "recover/internal.h"
#include "recover/log.h"

#ifndef MADV_POPULATE_WRITE /* Linux 5.14, musl 1.2.5 has no name for it */
#define MADV_POPULATE_WRITE 23
#endif

#define WRITE_MAX (1u << 20) /* what libfuse and the default of fs.fuse.max_pages_limit allow */
#define WRITE_MIN (128u << 10)

static size_t buffer_bytes(uint32_t max_write)
{
	return REQUEST_HEADROOM + max_write + REQUEST_HEADROOM;
}

static size_t buffers_total(unsigned workers, uint32_t max_write)
{
	return workers * buffer_bytes(max_write);
}

/* Not mlock(3): in a sanitizer's build that does nothing and succeeds. */
static int buffers_lock(const void *at, size_t bytes)
{
	return (int)syscall(SYS_mlock, at, bytes);
}

/* The largest max_write whose buffers may be locked; what cannot be locked at all is populated only. */
static uint32_t buffers_choose(unsigned workers)
{
	struct rlimit limit;
	uint32_t max_write = WRITE_MAX;
	void *probe;
	bool may_lock;

	/* with CAP_IPC_LOCK the limit does not count; trying is the only portable question */
	probe = mmap(NULL, buffers_total(workers, max_write), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (probe == MAP_FAILED)
		return WRITE_MIN;
	may_lock = mlock2(probe, buffers_total(workers, max_write), MLOCK_ONFAULT) == 0;
	munmap(probe, buffers_total(workers, max_write));
	if (may_lock || getrlimit(RLIMIT_MEMLOCK, &limit))
		return max_write;
	while (max_write > WRITE_MIN && buffers_total(workers, max_write) > limit.rlim_cur)
		max_write /= 2;
	return max_write;
}

static int buffers_map(struct recover *recover)
{
	uint32_t max_write = recover->max_write = recover->state.header->max_write;
	uint8_t *at = mmap(NULL, recover->buffers_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, recover->buffers_fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	recover->buffers = at;
	for (unsigned i = 0; i < recover->workers_n; i++) {
		recover->workers[i].in = at + REQUEST_OFFSET;
		recover->workers[i].out = at + 2 * REQUEST_HEADROOM;
		at += buffer_bytes(max_write);
	}
	recover->buffers_locked = buffers_lock(recover->buffers, recover->buffers_bytes) == 0;
	if (!recover->buffers_locked)
		log_warning(
			"request buffers cannot be locked in memory (%s): a server that dies while the machine swaps "
			"may cost a request",
			strerror(errno));
	return 0;
}

int buffers_create(struct recover *recover)
{
	uint32_t max_write = buffers_choose(recover->workers_n);

	recover->state.header->max_write = max_write;
	recover->buffers_bytes = buffers_total(recover->workers_n, max_write);
	recover->buffers_fd = memfd_create("fxfs-buffers", 0);
	if (recover->buffers_fd < 0)
		return -errno;
	if (ftruncate(recover->buffers_fd, (off_t)recover->buffers_bytes))
		return -errno;
	return buffers_map(recover);
}

int buffers_attach(struct recover *recover)
{
	struct stat st;

	recover->buffers_bytes = buffers_total(recover->workers_n, recover->state.header->max_write);
	if (fstat(recover->buffers_fd, &st))
		return -errno;
	return (size_t)st.st_size == recover->buffers_bytes ? buffers_map(recover) : -EBADMSG;
}

/* Locked where permitted; in any case every page is written to (its own byte), so that it is mapped writable. */
int buffers_populate(const struct worker *worker)
{
	size_t bytes = buffer_bytes(worker->recover->max_write);
	uint8_t *at = worker->in - REQUEST_OFFSET;

	if (buffers_lock(at, bytes) == 0 || madvise(at, bytes, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL) /* a kernel before 5.14 */
		return -errno;
	for (size_t i = 0; i < bytes; i += 4096)
		__atomic_fetch_or(&at[i], 0, __ATOMIC_RELAXED);
	return 0;
}
