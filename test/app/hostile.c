// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * hostile DEVICE TYPE MOUNTPOINT SECONDS SEED: a server that answers requests with whatever, mounted by DEVICE as file system
 * TYPE, and programs that use the mount meanwhile. What they get does not matter: the kernel must stay well. It is mounted
 * anew a few times a second, because many answers make inodes bad for good.
 *
 * hostile --tables SECONDS SEED: writes whatever into the tables of each BPF program that fxfs has loaded.
 *
 * Prints `answers N` or `stores N`.
 */
#include <dirent.h>
#include <fcntl.h>
#include <fuse_kernel.h>
#include <linux/bpf.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "check.h"

#define LIFE_NS INT64_C(300000000)

static unsigned long *answers;

static unsigned next_random(void)
{
	return (unsigned)check_random(1);
}

/* --- answers ------------------------------------------------------------------------------------------------- */

/* Mostly what is small: nodeids, sizes and flags that might mean something. */
static uint64_t some_number(void)
{
	static const uint64_t known[] = {0, 1, 2, 3, 4, 1 << 12, 1ULL << 32, 1ULL << 62, UINT64_MAX, INT64_MAX};

	return next_random() % 3 ? known[next_random() % 10] : (uint64_t)next_random() << (next_random() % 40);
}

static void fill(uint8_t *to, size_t bytes)
{
	for (size_t i = 0; i + 8 <= bytes; i += 8) {
		uint64_t number = some_number();

		memcpy(to + i, &number, sizeof(number));
	}
}

/* Attributes that pass for some, so that more than the first check is reached: of each nodeid mostly the same type. */
static void fill_attr(struct fuse_attr *attr, uint64_t nodeid)
{
	static const uint32_t modes[] = {S_IFREG | 0777, S_IFDIR | 0777, S_IFREG | 0777,
					 S_IFLNK | 0777, S_IFIFO | 0666, 0};

	attr->mode = modes[next_random() % 16 ? nodeid % 4 : next_random() % 6];
	attr->nlink = 1;
	attr->uid = attr->gid = 0;
	attr->blksize = next_random() % 2 ? 4096 : (uint32_t)some_number();
	if (next_random() % 4)
		attr->size = next_random() % 20000;
}

static void fill_entry(struct fuse_entry_out *entry)
{
	if (next_random() % 8) {
		entry->nodeid = 2 + next_random() % 8;
		entry->generation = 0;
	}
	fill_attr(&entry->attr, entry->nodeid);
}

static size_t answer(const struct fuse_in_header *in, uint8_t *out)
{
	struct fuse_out_header *header = (void *)out;
	uint8_t *body = out + sizeof(*header);
	static const size_t usual[] = {[FUSE_LOOKUP] = sizeof(struct fuse_entry_out),
				       [FUSE_GETATTR] = sizeof(struct fuse_attr_out),
				       [FUSE_SETATTR] = sizeof(struct fuse_attr_out),
				       [FUSE_OPEN] = sizeof(struct fuse_open_out),
				       [FUSE_OPENDIR] = sizeof(struct fuse_open_out),
				       [FUSE_MKDIR] = sizeof(struct fuse_entry_out),
				       [FUSE_WRITE] = sizeof(struct fuse_write_out),
				       [FUSE_STATFS] = sizeof(struct fuse_statfs_out),
				       [FUSE_GETXATTR] = sizeof(struct fuse_getxattr_out),
				       [FUSE_CREATE] = sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)};
	size_t bytes = in->opcode < sizeof(usual) / sizeof(usual[0]) ? usual[in->opcode] : 0;

	if (next_random() % 8 == 0 || !bytes)
		bytes = next_random() % 2 ? next_random() % 200 : next_random() % 8192;
	fill(body, bytes + 8);
	if (in->opcode == FUSE_LOOKUP || in->opcode == FUSE_MKDIR || in->opcode == FUSE_CREATE)
		fill_entry((struct fuse_entry_out *)body);
	if (in->opcode == FUSE_GETATTR || in->opcode == FUSE_SETATTR)
		fill_attr(&((struct fuse_attr_out *)body)->attr, in->nodeid);
	if (in->opcode == FUSE_INIT) {
		struct fuse_init_out init = {.major = 7,
					     .minor = FUSE_KERNEL_MINOR_VERSION,
					     .max_write = 65536,
					     .max_readahead = 65536,
					     .flags = FUSE_INIT_EXT | (next_random() | next_random() << 16),
					     .flags2 = next_random() | next_random() << 16,
					     .max_stack_depth = 1};

		memcpy(body, &init, sizeof(init));
		bytes = sizeof(init);
	}
	header->unique = next_random() % 50 ? in->unique : some_number();
	header->error = next_random() % 6 ? 0 : -(int)(next_random() % 140);
	if (in->opcode == FUSE_INIT)
		header->error = 0;
	if (header->error && next_random() % 4)
		bytes = 0;
	header->len = (uint32_t)(sizeof(*header) + bytes);
	if (next_random() % 30 == 0 && in->opcode != FUSE_INIT)
		header->len = next_random() % 9000;
	return sizeof(*header) + bytes;
}

/* One that nobody waits for: the kernel is to forget something. */
static size_t notification(uint8_t *out)
{
	struct fuse_out_header *header = (void *)out;
	size_t bytes = sizeof(*header) + next_random() % 100;

	fill(out, bytes + 8);
	header->unique = 0;
	header->error = (int)(next_random() % 9);
	header->len = (uint32_t)bytes;
	return bytes;
}

static void some_ioctl(int device)
{
	uint64_t argument = some_number();
	static const unsigned long known[] = {_IOW(229, 96, uint64_t), _IOW(229, 97, uint64_t), _IOW(229, 98, uint64_t),
					      FUSE_DEV_IOC_BACKING_CLOSE};

	ioctl(device, known[next_random() % 4], &argument);
}

static void serve(int device, int64_t until)
{
	static uint8_t in[1 << 18] __attribute__((aligned(8))), out[16384] __attribute__((aligned(8)));
	struct pollfd ready = {.fd = device, .events = POLLIN};

	while (now_ns() < until) {
		ssize_t got;

		if (poll(&ready, 1, 20) < 1)
			continue;
		got = read(device, in, sizeof(in));
		if (got < (ssize_t)sizeof(struct fuse_in_header))
			return;
		if (next_random() % 20 == 0)
			(void)!write(device, out, notification(out));
		if (next_random() % 20 == 0)
			some_ioctl(device);
		(void)!write(device, out, answer((void *)in, out));
		++*answers;
	}
}

/* --- who uses it --------------------------------------------------------------------------------------------- */

static void use(const char *mountpoint)
{
	static const char *const names[] = {"", "/a", "/b", "/a/c", "/d/e/f"};
	char path[256], buffer[4096];
	struct stat st;
	DIR *directory;
	int fd;

	for (;;) {
		snprintf(path, sizeof(path), "%s%s", mountpoint, names[next_random() % 5]);
		switch (next_random() % 8) {
		case 0:
			stat(path, &st);
			break;
		case 1:
			directory = opendir(path);
			while (directory && readdir(directory))
				;
			if (directory)
				closedir(directory);
			break;
		case 2:
			mkdir(path, 0700);
			break;
		case 3:
			(void)!getxattr(path, "security.capability", buffer, sizeof(buffer));
			break;
		case 4:
			(void)!readlink(path, buffer, sizeof(buffer));
			break;
		case 5:
			rename(path, mountpoint);
			break;
		default:
			fd = open(path, next_random() % 2 ? O_RDONLY : O_RDWR | O_CREAT, 0600);
			(void)!read(fd, buffer, sizeof(buffer));
			(void)!write(fd, buffer, 10);
			lseek(fd, 0, SEEK_END);
			close(fd);
		}
	}
}

static bool mounted_once(const char *device_path, const char *type, const char *mountpoint)
{
	int device = open(device_path, O_RDWR | O_CLOEXEC);
	pid_t users[3], server;
	char data[128];

	if (device < 0)
		err(2, "%s", device_path);
	snprintf(data, sizeof(data), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other%s", device,
		 next_random() % 2 ? ",default_permissions" : "");
	if (mount("hostile", mountpoint, type, 0, data))
		err(2, "%s", mountpoint);
	server = fork();
	if (!server) {
		serve(device, now_ns() + LIFE_NS);
		_exit(0);
	}
	close(device);
	for (int i = 0; i < 3; i++) {
		next_random();
		users[i] = fork();
		if (!users[i]) {
			for (int skip = 0; skip < i * 7; skip++)
				next_random();
			use(mountpoint);
		}
	}
	waitpid(server, NULL, 0); /* the connection ends with it */
	for (int i = 0; i < 3; i++) {
		kill(users[i], SIGKILL);
		waitpid(users[i], NULL, 0);
	}
	return !umount2(mountpoint, MNT_DETACH);
}

/* --- tables -------------------------------------------------------------------------------------------------- */

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

struct table {
	uint8_t *at;
	size_t bytes;
};

/* The tables of fxfs that can be mapped. How many. */
static unsigned tables_map(struct table *tables, unsigned most)
{
	static const char *const names[] = {"entries", "attrs", "wholes", "opens", "names", "inodes"};
	union bpf_attr next = {0};
	unsigned n = 0;

	while (n < most && bpf(BPF_MAP_GET_NEXT_ID, &next) == 0) {
		union bpf_attr by_id = {.map_id = next.next_id}, info = {0};
		struct bpf_map_info map = {0};
		int fd = (int)bpf(BPF_MAP_GET_FD_BY_ID, &by_id);

		next.start_id = next.next_id;
		info.info.bpf_fd = (unsigned)fd;
		info.info.info_len = sizeof(map);
		info.info.info = (uintptr_t)&map;
		if (fd < 0 || bpf(BPF_OBJ_GET_INFO_BY_FD, &info))
			continue;
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (!strcmp(map.name, names[i])) {
				tables[n].bytes = (size_t)map.max_entries * map.value_size;
				tables[n].at = mmap(NULL, tables[n].bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
				n += tables[n].at != MAP_FAILED;
			}
		close(fd);
	}
	return n;
}

/* Words of an entry that is in use become others, of another entry or whatever. */
static unsigned long tables_spoil(int64_t until)
{
	struct table tables[64];
	unsigned n = tables_map(tables, 64);
	unsigned long stores = 0;

	if (!n)
		errx(2, "there are no tables");
	while (now_ns() < until) {
		struct table *table = &tables[next_random() % n];
		uint64_t *words = (uint64_t *)table->at;
		size_t count = table->bytes / 8, at = (((uint64_t)next_random() << 31) ^ next_random()) % count;

		for (size_t tries = 0; tries < 4096 && !words[at]; tries++)
			at = (at + 1) % count;
		words[at] = next_random() % 2 ? some_number() : words[(at + next_random() % 64) % count];
		stores++;
		if (stores % 64 == 0)
			usleep(100);
	}
	return stores;
}

int main(int argc, char **argv)
{
	int64_t until;

	if (argc == 4 && !strcmp(argv[1], "--tables")) {
		check_random((uint64_t)atoi(argv[3]));
		printf("stores %lu\n", tables_spoil(now_ns() + atoi(argv[2]) * INT64_C(1000000000)));
		return 0;
	}
	if (argc != 6)
		errx(2, "usage: hostile DEVICE TYPE MOUNTPOINT SECONDS SEED | hostile --tables SECONDS SEED");
	answers = mmap(NULL, sizeof(*answers), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check_random((uint64_t)atoi(argv[5]));
	until = now_ns() + atoi(argv[4]) * INT64_C(1000000000);
	while (now_ns() < until)
		if (!mounted_once(argv[1], argv[2], argv[3]))
			err(1, "umount");
	printf("answers %lu\n", *answers);
	return *answers < 100;
}
