// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * crowd DIRECTORY SECONDS [SEED [WHO]]: processes and threads at work in one directory, each of which knows what it must
 * see: names of its own among those of others, locks that it must hold alone (by mkdir, O_EXCL, link, symlink, fcntl,
 * flock), records appended to one file by two, a listing while names come and go, pages of one mapping, trees that move.
 * What they know of each other goes through shared memory. Alone in DIRECTORY; leaves it empty. With WHO, only those
 * whose names begin so.
 *
 * Ends at TERM too. Prints each wrong answer and at the end `operations N wrong N longest_ms N`; exits with 1 if any
 * was wrong.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"

#define STUCK_NS INT64_C(20000000000)

enum mutex_kind { MUTEX_MKDIR, MUTEX_EXCL, MUTEX_LINK, MUTEX_SYMLINK, MUTEX_N };

#define CELLS 4
#define WRITERS 2
#define STABLE 200

static struct shared {
	int mutex_holder[MUTEX_N];
	unsigned long mutex_taken[MUTEX_N];
	int cell_writer[CELLS], cell_readers[CELLS];
	uint64_t cell_count[CELLS];
	int flock_holder;
	unsigned long appended[WRITERS];
	ino_t stable[STABLE];
} * shared;

static unsigned seed;
static int64_t end_ns;
static int self; /* number of the actor, from 1 */

static unsigned next_random(void)
{
	return (unsigned)check_random((uint64_t)seed * 64 + (unsigned)self);
}

static void fill(unsigned char *data, size_t size, unsigned of)
{
	for (size_t i = 0; i < size; i++)
		data[i] = (unsigned char)(of * 31 + i * 7 + (i >> 8));
}

static ino_t inode_of(const char *path)
{
	struct stat st;

	return IS(0, stat(path, &st)) ? 0 : st.st_ino;
}

static void make_file(const char *path)
{
	IS(0, close(OPENED(open(path, O_CREAT | O_EXCL | O_WRONLY, 0600))));
}

static int renameat2_(const char *from, const char *to, unsigned flags)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

/* --- names of its own, in the directory of all -------------------------------------------------------- */

#define CYCLE 5

static void cycle_name(char name[32], int i)
{
	snprintf(name, 32, "cycle-%d-%d", self, i);
}

static void cycle_is(const ino_t inodes[CYCLE], int turn)
{
	char name[32];

	for (int i = 0; i < CYCLE; i++) {
		cycle_name(name, i);
		IS((long)inodes[(i + turn) % CYCLE], inode_of(name));
	}
}

/* All names go one on, by plain renames through a sixth name, or by exchanging neighbours. */
static void cycle_turn(bool exchange)
{
	char from[32], to[32], spare[32];

	snprintf(spare, sizeof(spare), "spare-%d", self);
	cycle_name(to, 0);
	if (!exchange)
		IS(0, rename(to, spare));
	for (int i = 1; i < CYCLE; i++) {
		cycle_name(from, i);
		cycle_name(to, i - 1);
		IS(0, renameat2_(from, to, exchange ? RENAME_EXCHANGE : i % 2 ? RENAME_NOREPLACE : 0));
		if (!exchange)
			IS(-ENOENT, rename(from, to));
	}
	if (!exchange)
		IS(0, rename(spare, from));
}

static void cycles(void)
{
	ino_t inodes[CYCLE];
	char name[32];

	for (int i = 0; i < CYCLE; i++) {
		cycle_name(name, i);
		if (i % 2)
			IS(0, mkdir(name, 0700));
		else
			make_file(name);
		inodes[i] = inode_of(name);
	}
	for (int turn = 0; turn < 8; turn++) {
		cycle_is(inodes, turn);
		cycle_turn(turn % 2);
	}
	cycle_is(inodes, 8);
	for (int i = 0; i < CYCLE; i++) {
		cycle_name(name, i);
		IS(0, (i + 8) % CYCLE % 2 ? rmdir(name) : unlink(name));
		IS(-ENOENT, unlink(name));
	}
}

/* Several names of one file, one replaced by another, one by itself. */
static void hard_links(void)
{
	char a[32], b[32], c[32];
	struct stat st;

	snprintf(a, sizeof(a), "a-%d", self);
	snprintf(b, sizeof(b), "b-%d", self);
	snprintf(c, sizeof(c), "c-%d", self);
	make_file(a);
	IS(0, link(a, b));
	IS(0, rename(a, b)); /* one file: both names stay */
	IS(0, link(b, c));
	IS(0, unlink(a));
	IS(0, link(c, a));
	IS(0, stat(a, &st));
	IS(3, st.st_nlink);
	make_file("own"); /* no other actor makes it: one calls this */
	IS(0, rename("own", a));
	IS(-ENOENT, rename("own", a));
	IS(0, stat(b, &st));
	IS(2, st.st_nlink);
	IS(0, unlink(a));
	IS(0, unlink(b));
	IS(0, unlink(c));
	IS(-ENOENT, unlink(c));
}

static void actor_names(void)
{
	cycles();
	if (self == 1)
		hard_links();
}

/* --- who makes the name has the lock ------------------------------------------------------------------ */

static int mutex_try(enum mutex_kind kind, const char *name, const char *own)
{
	int fd;

	switch (kind) {
	case MUTEX_MKDIR:
		return mkdir(name, 0700);
	case MUTEX_EXCL:
		fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
		return fd < 0 ? -1 : close(fd);
	case MUTEX_LINK:
		return link(own, name);
	default:
		return symlink("somewhere", name);
	}
}

/* Tries until it has it. An EEXIST without anybody who ever gives it back is a wrong one. */
static bool mutex_take(enum mutex_kind kind, const char *name, const char *own)
{
	int64_t since = now_ns();
	unsigned long taken = shared->mutex_taken[kind];

	while (mutex_try(kind, name, own)) {
		int error = errno;

		if (error != EEXIST) {
			check_complain(__LINE__, name, -1, error, 0);
			return false;
		}
		if (taken != __atomic_load_n(&shared->mutex_taken[kind], __ATOMIC_SEQ_CST)) {
			taken = shared->mutex_taken[kind];
			since = now_ns();
		}
		if (now_ns() - since > STUCK_NS) {
			check_complain(__LINE__, "a lock that nobody has", -1, error, 0);
			return false;
		}
		usleep(next_random() % 300);
	}
	return true;
}

static void actor_mutex(void)
{
	enum mutex_kind kind = next_random() % MUTEX_N;
	char name[32], own[32];

	snprintf(name, sizeof(name), "mutex-%d", (int)kind);
	snprintf(own, sizeof(own), "own-%d", self);
	if (check_round == 0)
		make_file(own);
	if (mutex_take(kind, name, own)) {
		IS(0, __atomic_exchange_n(&shared->mutex_holder[kind], self, __ATOMIC_SEQ_CST));
		__atomic_add_fetch(&shared->mutex_taken[kind], 1, __ATOMIC_SEQ_CST);
		IS(-EEXIST, mutex_try(kind, name, own));
		usleep(next_random() % 100);
		IS(self, __atomic_exchange_n(&shared->mutex_holder[kind], 0, __ATOMIC_SEQ_CST));
		IS(0, kind == MUTEX_MKDIR ? rmdir(name) : unlink(name));
	}
}

/* --- fcntl and flock locks, with waiting ---------------------------------------------------------------- */

static int lock(int fd, int command, short type, off_t start, off_t size)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = size};

	return fcntl(fd, command, &lock);
}

/*
 * Cells are far apart, and read without readahead: without passthrough the kernel's FUSE client drops a file's pages at
 * each open, also those whose write is on its way, and whoever reads such a page at that moment has it keep what was
 * before the write. It does so with any server that is slow to write, without a death.
 */
#define CELL_BYTES (1 << 20)

/* Under the write lock of cell i: the count in the file is the one that all know. */
static void cell_write(int fd, int i)
{
	uint64_t count = 0;

	IS(0, __atomic_exchange_n(&shared->cell_writer[i], self, __ATOMIC_SEQ_CST));
	IS(0, __atomic_load_n(&shared->cell_readers[i], __ATOMIC_SEQ_CST));
	IS(8, pread(fd, &count, 8, i * CELL_BYTES));
	IS((long)shared->cell_count[i], count);
	count++;
	IS(8, pwrite(fd, &count, 8, i * CELL_BYTES));
	shared->cell_count[i]++;
	usleep(next_random() % 200);
	IS(self, __atomic_exchange_n(&shared->cell_writer[i], 0, __ATOMIC_SEQ_CST));
}

static void cell_read(int fd, int i)
{
	uint64_t count = 0;

	__atomic_add_fetch(&shared->cell_readers[i], 1, __ATOMIC_SEQ_CST);
	IS(0, __atomic_load_n(&shared->cell_writer[i], __ATOMIC_SEQ_CST));
	IS(8, pread(fd, &count, 8, i * CELL_BYTES));
	IS((long)shared->cell_count[i], count);
	usleep(next_random() % 200);
	__atomic_sub_fetch(&shared->cell_readers[i], 1, __ATOMIC_SEQ_CST);
}

static void actor_locks(void)
{
	int fd = OPENED(open("locked", O_RDWR));

	IS(0, posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM));
	for (int n = 0; n < 10; n++) {
		int i = (int)(next_random() % CELLS);
		bool writes = next_random() % 2, waits = next_random() % 4;

		if (lock(fd, waits ? F_SETLKW : F_SETLK, writes ? F_WRLCK : F_RDLCK, i, 1)) {
			int error = errno;

			IS(0, waits);
			IS(EAGAIN, error);
			continue;
		}
		(writes ? cell_write : cell_read)(fd, i);
		if (next_random() % 4)
			IS(0, lock(fd, F_SETLK, F_UNLCK, i, 1));
		else
			IS(0, close(OPENED(open("locked", O_RDONLY)))); /* any close gives all back */
	}
	IS(0, flock(fd, LOCK_EX));
	IS(0, __atomic_exchange_n(&shared->flock_holder, self, __ATOMIC_SEQ_CST));
	usleep(next_random() % 200);
	IS(self, __atomic_exchange_n(&shared->flock_holder, 0, __ATOMIC_SEQ_CST));
	IS(0, close(fd));
}

/* --- two append to one file ------------------------------------------------------------------------------- */

#define APPEND_HEAD 16
#define APPEND_MAX 1024

static size_t append_record(unsigned char *record, int writer, unsigned long number)
{
	size_t size = APPEND_HEAD + number * 37 % (APPEND_MAX - APPEND_HEAD);

	fill(record, size, (unsigned)number);
	snprintf((char *)record, APPEND_HEAD, "%c %08u", '0' + writer, (unsigned)number % 100000000);
	return size;
}

static void append(int writer)
{
	unsigned char record[APPEND_MAX];
	int fd = OPENED(open("log", O_WRONLY | O_APPEND));

	for (int n = 0; n < 50; n++) {
		size_t size = append_record(record, writer, shared->appended[writer]);

		IS((long)size, write(fd, record, size));
		shared->appended[writer]++;
	}
	IS(0, close(fd));
	usleep(20000);
}

static void actor_append(void)
{
	append(self % WRITERS);
}

/* Each record once, whole, and those of one writer in order. */
static void append_verify(void)
{
	unsigned char wanted[APPEND_MAX], got[APPEND_MAX];
	unsigned long next[WRITERS] = {0};
	int fd = OPENED(open("log", O_RDONLY));

	for (off_t at = 0; tally->wrong < WRONG_MAX;) {
		ssize_t n = pread(fd, got, sizeof(got), at);
		int writer = got[0] - '0';
		size_t size;

		if (n == 0)
			break;
		if (n < APPEND_HEAD || writer < 0 || writer >= WRITERS) {
			check_complain(__LINE__, "no record begins here", at, errno, n);
			break;
		}
		size = append_record(wanted, writer, next[writer]++);
		IS(1, (size_t)n >= size);
		if (IS(0, memcmp(wanted, got, size)))
			printf("  at %lld: %.15s for %.15s\n", (long long)at, got, wanted);
		at += (off_t)size;
	}
	for (int i = 0; i < WRITERS; i++)
		IS((long)shared->appended[i], next[i]);
	IS(0, close(fd));
}

/* --- a listing while names come and go ------------------------------------------------------------------- */

static void stable_make(void)
{
	char name[32];

	IS(0, mkdir("stable", 0700));
	for (int i = 0; i < STABLE; i++) {
		snprintf(name, sizeof(name), "stable/name-%d", i);
		make_file(name);
		shared->stable[i] = inode_of(name);
	}
}

static void stable_remove(void)
{
	char name[32];

	for (int i = 0; i < STABLE; i++) {
		snprintf(name, sizeof(name), "stable/name-%d", i);
		IS(0, unlink(name));
	}
	IS(0, rmdir("stable"));
}

static void actor_lister(void)
{
	unsigned char seen[STABLE] = {0};
	struct dirent *entry;
	DIR *dir = opendir("stable");
	int error;

	IS(1, dir != NULL);
	while ((errno = 0, entry = readdir(dir), error = errno, entry) != NULL) {
		int i = strncmp(entry->d_name, "name-", 5) == 0 ? atoi(entry->d_name + 5) : -1;

		if (i < 0)
			continue;
		seen[i]++;
		IS((long)shared->stable[i], entry->d_ino);
	}
	IS(0, error);
	for (int i = 0; i < STABLE; i++)
		IS(1, seen[i]);
	IS(0, closedir(dir));
}

static void actor_changer(void)
{
	char from[32], to[32];

	for (int i = 0; i < 20; i++) {
		snprintf(from, sizeof(from), "stable/x-%u", next_random() % 1000);
		snprintf(to, sizeof(to), "stable/y-%u", next_random() % 1000);
		make_file(from);
		IS(0, rename(from, to));
		IS(0, unlink(to));
		IS(-ENOENT, unlink(from));
	}
}

/* --- pages of one mapping -------------------------------------------------------------------------------- */

#define PAGES 64

static void actor_mapper(void)
{
	unsigned char wanted[4096], got[4096];
	int fd = OPENED(open("mapped", O_RDWR));
	unsigned char *map = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	IS(1, map != MAP_FAILED);
	for (int n = 0; n < 8 && map != MAP_FAILED; n++) {
		unsigned page = next_random() % (PAGES / WRITERS) * WRITERS + (unsigned)self % WRITERS;

		fill(wanted, sizeof(wanted), next_random());
		memcpy(map + page * 4096, wanted, 4096);
		IS(0, msync(map + page * 4096, 4096, MS_SYNC));
		IS(4096, pread(fd, got, 4096, page * 4096));
		IS(0, memcmp(wanted, got, 4096));
		IS(0, memcmp(wanted, map + page * 4096, 4096));
	}
	IS(0, munmap(map, PAGES * 4096));
	IS(0, close(fd));
}

/* --- threads ---------------------------------------------------------------------------------------------- */

#define THREADS 4
#define THREAD_DATA 12000

static void thread_round(int number)
{
	unsigned char out[THREAD_DATA], in[THREAD_DATA];
	char name[32], other[32];
	struct stat st;
	size_t at = 0;
	int fd;

	snprintf(name, sizeof(name), "thread-%d", number);
	snprintf(other, sizeof(other), "thread-%d-other", number);
	fd = OPENED(open(name, O_CREAT | O_EXCL | O_RDWR, 0600));
	fill(out, sizeof(out), (unsigned)number + (unsigned)check_round);
	while (at < sizeof(out)) {
		size_t n = 1 + (check_round * 131 + at) % 5000;

		n = n > sizeof(out) - at ? sizeof(out) - at : n;
		IS((long)n, pwrite(fd, out + at, n, (off_t)at));
		at += n;
	}
	IS(0, rename(name, other));
	IS(0, stat(other, &st));
	IS(THREAD_DATA, st.st_size);
	IS(THREAD_DATA, pread(fd, in, sizeof(in), 0));
	IS(0, memcmp(in, out, sizeof(in)));
	IS(0, unlink(other));
	IS(0, fstat(fd, &st));
	IS(0, st.st_nlink);
	IS(0, close(fd));
}

static void *thread_main(void *argument)
{
	char who[32];

	snprintf(who, sizeof(who), "thread %d, ", (int)(intptr_t)argument);
	check_who = who;
	for (; check_goes_on(end_ns); check_round++)
		thread_round((int)(intptr_t)argument);
	return NULL;
}

static void actor_threads(void)
{
	pthread_t threads[THREADS];

	for (intptr_t i = 0; i < THREADS; i++)
		IS(0, pthread_create(&threads[i], NULL, thread_main, (void *)i));
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* --- trees that move --------------------------------------------------------------------------------------- */

#define DEPTH 24

/* Where the kernel says that a descriptor is, below the directory of all. */
static void stands_at(int fd, const char *top, const char *wanted)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n < 0 ? 0 : n] = 0;
	IS(0, strncmp(path, top, strlen(top)));
	IS(0, strcmp(path + strlen(top), wanted));
}

static void actor_tree(void)
{
	char left[32], right[32], path[2 * DEPTH + 64], top[PATH_MAX], wanted[PATH_MAX];
	size_t length;
	int fd, file;

	IS(1, getcwd(top, sizeof(top)) != NULL);
	snprintf(left, sizeof(left), "left/%d", self);
	snprintf(right, sizeof(right), "right/%d", self);
	IS(0, mkdir(left, 0700));
	length = (size_t)snprintf(path, sizeof(path), "%s", left);
	for (int i = 0; i < DEPTH; i++) {
		length += (size_t)snprintf(path + length, sizeof(path) - length, "/%c", 'a' + i);
		IS(0, mkdir(path, 0700));
	}
	fd = OPENED(open(path, O_RDONLY | O_DIRECTORY));
	for (int move = 0; move < 4; move++) {
		IS(0, rename(move % 2 ? right : left, move % 2 ? left : right));
		IS(-ENOENT, rename(move % 2 ? right : left, move % 2 ? left : right));
		file = OPENED(openat(fd, "file", O_CREAT | O_EXCL | O_RDWR, 0600));
		snprintf(wanted, sizeof(wanted), "/%s%s/file", move % 2 ? left : right, path + strlen(left));
		stands_at(file, top, wanted);
		IS(0, access(wanted + 1, F_OK));
		IS(0, unlinkat(fd, "file", 0));
		IS(-ENOENT, access(wanted + 1, F_OK));
		IS(0, close(file));
	}
	IS(-EINVAL, rename(left, path));
	IS(0, close(fd));
	for (int i = 0; i <= DEPTH; i++) {
		IS(0, rmdir(path));
		IS(-ENOENT, rmdir(path));
		*strrchr(path, '/') = 0;
	}
}

/* --- all together -------------------------------------------------------------------------------------------- */

static const struct actor {
	const char *who;
	void (*act)(void);
} actors[] = {
	{"names, ", actor_names},   {"names, ", actor_names},	  {"mutex, ", actor_mutex},
	{"mutex, ", actor_mutex},   {"locks, ", actor_locks},	  {"locks, ", actor_locks},
	{"locks, ", actor_locks},   {"append, ", actor_append},	  {"append, ", actor_append},
	{"lister, ", actor_lister}, {"changer, ", actor_changer}, {"mapper, ", actor_mapper},
	{"mapper, ", actor_mapper}, {"threads, ", actor_threads}, {"tree, ", actor_tree},
	{"tree, ", actor_tree},
};

#define ACTORS (sizeof(actors) / sizeof(actors[0]))

static void act(size_t number)
{
	self = (int)number + 1;
	check_who = actors[number].who;
	do {
		actors[number].act();
		check_round++;
	} while (check_goes_on(end_ns));
	_exit(0);
}

static void prepare(void)
{
	make_file("locked");
	IS(0, truncate("locked", CELLS * CELL_BYTES));
	make_file("log");
	make_file("mapped");
	IS(0, truncate("mapped", PAGES * 4096));
	IS(0, mkdir("left", 0700));
	IS(0, mkdir("right", 0700));
	stable_make();
}

static void clean(void)
{
	char own[32];

	stable_remove();
	IS(0, rmdir("left"));
	IS(0, rmdir("right"));
	IS(0, unlink("locked"));
	IS(0, unlink("log"));
	IS(0, unlink("mapped"));
	for (size_t i = 0; i < ACTORS; i++)
		if (actors[i].act == actor_mutex) {
			snprintf(own, sizeof(own), "own-%zu", i + 1);
			IS(1, unlink(own) == 0 || errno == ENOENT); /* it may not have been among them */
		}
}

int main(int argc, char **argv)
{
	pid_t pids[ACTORS];
	int status;

	if (argc < 3)
		errx(2, "usage: crowd DIRECTORY SECONDS [SEED [WHO]]");
	seed = argc > 3 ? (unsigned)atoi(argv[3]) : (unsigned)getpid();
	if (chdir(argv[1]))
		err(2, "%s", argv[1]);
	check_start();
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		err(2, "mmap");
	end_ns = now_ns() + (int64_t)(atof(argv[2]) * 1e9);
	prepare();
	fflush(stdout);
	for (size_t i = 0; i < ACTORS; i++) {
		pids[i] = 0;
		if (argc > 4 && strncmp(actors[i].who, argv[4], strlen(argv[4])) != 0)
			continue;
		pids[i] = fork();
		if (pids[i] == 0)
			act(i);
		IS(1, pids[i] > 0);
	}
	for (size_t i = 0; i < ACTORS; i++) {
		if (!pids[i])
			continue;
		pid_t ended = waitpid(pids[i], &status, 0);

		IS(1, ended == pids[i] && status == 0);
	}
	append_verify();
	clean();
	return check_end();
}
