// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * filesh: holds one file, takes commands about it from standard input, one per line, and answers each with one
 * line: "ok ..." or the name of the error. So a shell script can keep a file open, mapped or locked while it does
 * something else, or have several of them.
 *
 *	open PATH FLAG,FLAG,...      rdonly wronly rdwr creat excl trunc append direct tmpfile directory path; mode 0644
 *	close
 *	read OFFSET LENGTH           answers with the text
 *	write OFFSET TEXT
 *	append TEXT                  write() at the file's own offset
 *	stat                         answers "ok ino I nlink N size S mode M"
 *	link PATH                    gives the open file a name, through /proc/self/fd
 *	map LENGTH shared|private    mmap() from offset 0, readable and writable
 *	peek OFFSET LENGTH           what the mapping holds
 *	poke OFFSET TEXT             stores into the mapping
 *	msync
 *	unmap
 *	lock flock|posix|ofd sh|ex [wait] [START LENGTH]
 *	unlock flock|posix|ofd [START LENGTH]
 *	test posix|ofd sh|ex         F_GETLK: "ok free" or "ok held"
 *	list COUNT                   the next COUNT names of the directory
 *	count                        how many names are left in the directory
 *	tell                         telldir(), remembered
 *	seek                         seekdir() to what was remembered
 *	rewind
 *	rename A B [noreplace|exchange]
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fd = -1;
static DIR *list;
static long position;
static char *map;
static size_t map_length;
static char answer[65536]; /* what follows "ok" */

static char none[1];

static char *argument(void)
{
	char *word = strtok(NULL, " ");

	return word ? word : none;
}

static long number(void)
{
	return strtol(argument(), NULL, 0);
}

/* The rest of the line, blanks included. */
static char *rest(void)
{
	char *text = strtok(NULL, "");

	return text ? text : none;
}

static int do_open(void)
{
	static const struct {
		const char *name;
		int flag;
	} names[] = {
		{"rdonly", O_RDONLY}, {"wronly", O_WRONLY},   {"rdwr", O_RDWR},		  {"creat", O_CREAT},
		{"excl", O_EXCL},     {"trunc", O_TRUNC},     {"append", O_APPEND},	  {"direct", O_DIRECT},
		{"path", O_PATH},     {"tmpfile", O_TMPFILE}, {"directory", O_DIRECTORY},
	};
	char *path = argument(), *word = strtok(NULL, " ,");
	int flags = O_CLOEXEC;

	for (; word; word = strtok(NULL, " ,"))
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (!strcmp(word, names[i].name))
				flags |= names[i].flag;
	fd = open(path, flags, 0644);
	if (fd < 0)
		return -1;
	list = (flags & O_TMPFILE) == O_DIRECTORY ? fdopendir(fd) : NULL;
	return 0;
}

static int do_close(void)
{
	int result = list ? closedir(list) : close(fd);

	list = NULL;
	fd = -1;
	return result;
}

static int do_read(void)
{
	off_t offset = number();
	size_t length = number();
	ssize_t n = pread(fd, answer, length < sizeof(answer) ? length : sizeof(answer) - 1, offset);

	answer[n > 0 ? n : 0] = 0;
	return n < 0 ? -1 : 0;
}

static int do_write(void)
{
	off_t offset = number();
	char *text = rest();

	return pwrite(fd, text, strlen(text), offset) == (ssize_t)strlen(text) ? 0 : -1;
}

static int do_append(void)
{
	char *text = rest();

	return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
}

static int do_stat(void)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -1;
	snprintf(answer, sizeof(answer), "ino %llu nlink %lu size %lld mode %o", (unsigned long long)st.st_ino,
		 (unsigned long)st.st_nlink, (long long)st.st_size, st.st_mode);
	return 0;
}

static int do_link(void)
{
	char self[32];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, self, AT_FDCWD, argument(), AT_SYMLINK_FOLLOW);
}

static int do_map(void)
{
	map_length = number();
	map = mmap(NULL, map_length, PROT_READ | PROT_WRITE, strcmp(argument(), "private") ? MAP_SHARED : MAP_PRIVATE,
		   fd, 0);
	return map == MAP_FAILED ? -1 : 0;
}

static int do_peek(void)
{
	size_t offset = number(), length = number();

	snprintf(answer, sizeof(answer), "%.*s", (int)length, map + offset);
	return 0;
}

static int do_poke(void)
{
	size_t offset = number();
	char *text = rest();

	memcpy(map + offset, text, strlen(text));
	return 0;
}

static int do_msync(void)
{
	return msync(map, map_length, MS_SYNC);
}

static int do_unmap(void)
{
	return munmap(map, map_length);
}

/* The kind of lock that the next word names, and the range after it; `type` is F_RDLCK, F_WRLCK or F_UNLCK. */
static int lock(const char *kind, int type, int wait, struct flock *range)
{
	range->l_type = type;
	range->l_whence = SEEK_SET;
	range->l_start = number();
	range->l_len = number();
	if (!strcmp(kind, "flock"))
		return flock(fd, (type == F_UNLCK   ? LOCK_UN
				  : type == F_RDLCK ? LOCK_SH
						    : LOCK_EX) |
					 (wait ? 0 : LOCK_NB));
	if (!strcmp(kind, "posix"))
		return fcntl(fd, wait ? F_SETLKW : F_SETLK, range);
	return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, range);
}

static int do_lock(void)
{
	struct flock range = {0};
	const char *kind = argument();
	int type = strcmp(argument(), "sh") ? F_WRLCK : F_RDLCK;
	char *more = rest(), words[64];
	int wait = !strncmp(more, "wait", 4);

	/* strtok() goes on in what follows "wait". */
	snprintf(words, sizeof(words), "- %s", wait ? more + 4 : more);
	strtok(words, " ");
	return lock(kind, type, wait, &range);
}

static int do_unlock(void)
{
	struct flock range = {0};
	const char *kind = argument();

	return lock(kind, F_UNLCK, 0, &range);
}

static int do_test(void)
{
	struct flock range = {.l_whence = SEEK_SET};
	int command = strcmp(argument(), "posix") ? F_OFD_GETLK : F_GETLK;

	range.l_type = strcmp(argument(), "sh") ? F_WRLCK : F_RDLCK;
	if (fcntl(fd, command, &range) < 0)
		return -1;
	strcpy(answer, range.l_type == F_UNLCK ? "free" : "held");
	return 0;
}

static int do_list(void)
{
	long count = number();
	struct dirent *entry;

	for (errno = 0; count > 0 && (entry = readdir(list)); count--) {
		size_t used = strlen(answer);

		snprintf(answer + used, sizeof(answer) - used, "%s%s", used ? " " : "", entry->d_name);
	}
	return errno ? -1 : 0;
}

static int do_count(void)
{
	long count = 0;

	for (errno = 0; readdir(list);)
		count++;
	snprintf(answer, sizeof(answer), "%ld", count);
	return errno ? -1 : 0;
}

static int do_tell(void)
{
	position = telldir(list);
	return position < 0 ? -1 : 0;
}

static int do_seek(void)
{
	seekdir(list, position);
	return 0;
}

static int do_rewind(void)
{
	rewinddir(list);
	return 0;
}

static int do_rename(void)
{
	const char *from = argument(), *to = argument(), *how = argument();
	unsigned int flags = !strcmp(how, "noreplace") ? 1 : !strcmp(how, "exchange") ? 2 : 0;

	return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static const struct {
	const char *name;
	int (*run)(void);
} commands[] = {
	{"open", do_open},     {"close", do_close}, {"read", do_read}, {"write", do_write},   {"append", do_append},
	{"stat", do_stat},     {"link", do_link},   {"map", do_map},   {"peek", do_peek},     {"poke", do_poke},
	{"msync", do_msync},   {"unmap", do_unmap}, {"lock", do_lock}, {"unlock", do_unlock}, {"test", do_test},
	{"list", do_list},     {"count", do_count}, {"tell", do_tell}, {"seek", do_seek},     {"rewind", do_rewind},
	{"rename", do_rename},
};

/* musl has no strerrorname_np(); these are what scripts ask for, the rest comes as its number. */
static const char *error_name(int error)
{
	static char other[32];

	switch (error) {
	case EACCES:
		return "EACCES";
	case EAGAIN:
		return "EAGAIN";
	case EBADF:
		return "EBADF";
	case EDEADLK:
		return "EDEADLK";
	case EDQUOT:
		return "EDQUOT";
	case EEXIST:
		return "EEXIST";
	case EINTR:
		return "EINTR";
	case EINVAL:
		return "EINVAL";
	case EIO:
		return "EIO";
	case EMFILE:
		return "EMFILE";
	case ENFILE:
		return "ENFILE";
	case ENOENT:
		return "ENOENT";
	case ENOLCK:
		return "ENOLCK";
	case ENOSPC:
		return "ENOSPC";
	case ENOTCONN:
		return "ENOTCONN";
	case EOPNOTSUPP:
		return "EOPNOTSUPP";
	case EPERM:
		return "EPERM";
	case EROFS:
		return "EROFS";
	case ESTALE:
		return "ESTALE";
	}
	snprintf(other, sizeof(other), "error %d", error);
	return other;
}

int main(void)
{
	char line[65536];

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		const char *word;
		size_t i;

		line[strcspn(line, "\n")] = 0;
		word = strtok(line, " ");
		answer[0] = 0;
		for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
			if (word && !strcmp(word, commands[i].name))
				break;
		if (i == sizeof(commands) / sizeof(commands[0]))
			errx(2, "unknown command");
		if (commands[i].run() < 0)
			puts(error_name(errno));
		else
			printf("ok%s%s\n", *answer ? " " : "", answer);
	}
	return 0;
}
