/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bpf/load.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "answer.skel.h"
#include "recover/log.h"

static int say(enum libbpf_print_level level, const char *format, va_list arguments)
{
	char line[512];
	int length = vsnprintf(line, sizeof(line), format, arguments);

	if (level == LIBBPF_DEBUG)
		return 0;
	while (length > 0 && length < (int)sizeof(line) && line[length - 1] == '\n')
		line[--length] = 0;
	log_debug("%s", line);
	return 0;
}

/* libbpf's are closed at execve(2), and when it forgets the object. */
static int fd_keep(int fd)
{
	return fcntl(fd, F_DUPFD, 3);
}

static int programs_attach(struct bpf_object *object, int32_t *links, unsigned room, const char **what)
{
	struct bpf_program *program;
	unsigned n = 0;

	bpf_object__for_each_program(program, object)
	{
		struct bpf_link *link;

		if (bpf_program__type(program) == BPF_PROG_TYPE_STRUCT_OPS)
			continue;
		*what = bpf_program__section_name(program);
		link = n < room ? bpf_program__attach(program) : NULL;
		if (!link)
			return n < room ? -errno : -E2BIG;
		links[n++] = fd_keep(bpf_link__fd(link));
		bpf_link__destroy(link);
	}
	return (int)n;
}

static int ops_attach(struct bpf_map *ops, int32_t *fd)
{
	struct bpf_link *link = bpf_map__attach_struct_ops(ops);

	if (!link)
		return -errno;
	*fd = fd_keep(bpf_link__fd(link));
	bpf_link__destroy(link);
	return 0;
}

/* Pointers to functions come first, and are libbpf's. */
static int ops_set_cookie(struct bpf_map *ops, uint64_t cookie)
{
	size_t size;
	uint8_t *value = bpf_map__initial_value(ops, &size);

	if (!value || size < sizeof(cookie))
		return -EINVAL;
	memcpy(value + size - sizeof(cookie), &cookie, sizeof(cookie));
	return 0;
}

static int object_load(struct answer *object, struct bpf_map *ops, uint64_t cookie, uint32_t sets, const char **what)
{
	int err = ops ? ops_set_cookie(ops, cookie) : -ENOENT;

	object->rodata->sets = sets;
	bpf_map__set_max_entries(object->maps.entries, sets);
	bpf_map__set_max_entries(object->maps.wholes, sets / ANSWER_PER_WHOLE);
	bpf_map__set_max_entries(object->maps.opens, sets);
	bpf_map__set_max_entries(object->maps.attrs, sets);
	*what = "the program";
	return err ? err : answer__load(object);
}

static int object_attach(struct answer *object, struct bpf_map *ops, int32_t fds[ANSWER_FDS], const char **what)
{
	struct bpf_map *const maps[] = {
		[ANSWER_FD_NAMES] = object->maps.names,	    [ANSWER_FD_INODES] = object->maps.inodes,
		[ANSWER_FD_ENTRIES] = object->maps.entries, [ANSWER_FD_WHOLES] = object->maps.wholes,
		[ANSWER_FD_ATTRS] = object->maps.attrs,	    [ANSWER_FD_OPENS] = object->maps.opens,
		[ANSWER_FD_SAMPLES] = object->maps.samples, [ANSWER_FD_WORKERS] = object->maps.workers,
		[ANSWER_FD_STATS] = object->maps.stats,	    [ANSWER_FD_CONFIG] = object->maps.bss,
	};
	int n;

	for (int i = 0; i < ANSWER_FD_LINKS; i++) {
		*what = "a descriptor";
		fds[i] = fd_keep(bpf_map__fd(maps[i]));
		if (fds[i] < 0)
			return -errno;
	}
	n = programs_attach(object->obj, fds + ANSWER_FD_LINKS, ANSWER_FDS - ANSWER_FD_LINKS - 1, what);
	if (n < 0)
		return n;
	*what = "struct_ops";
	return ops_attach(ops, &fds[ANSWER_FD_LINKS + n]);
}

int answer_load(uint64_t cookie, uint32_t sets, int32_t fds[ANSWER_FDS], const char **what)
{
	struct answer *object;
	struct bpf_map *ops;
	int err;

	for (int i = 0; i < ANSWER_FDS; i++)
		fds[i] = -1;
	*what = "the object";
	libbpf_set_print(say);
	object = answer__open();
	if (!object)
		return -errno;
	ops = bpf_object__find_map_by_name(object->obj, "ops");
	err = object_load(object, ops, cookie, sets, what);
	if (!err)
		err = object_attach(object, ops, fds, what);
	answer__destroy(object);
	for (int i = 0; err && i < ANSWER_FDS; i++)
		if (fds[i] >= 0) {
			close(fds[i]);
			fds[i] = -1;
		}
	return err;
}

/* The descriptor may be anything: -EBADMSG if it is no array of so many bytes. */
static int table_map(int fd, size_t bytes, int protection, void *at)
{
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);
	void *mapped;

	if (bpf_map_get_info_by_fd(fd, &info, &size))
		return -errno;
	if (info.type != BPF_MAP_TYPE_ARRAY || (size_t)info.max_entries * info.value_size != bytes)
		return -EBADMSG;
	mapped = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		return -errno;
	memcpy(at, &mapped, sizeof(mapped));
	return 0;
}

int answer_map(const int32_t fds[ANSWER_FDS], uint32_t sets, struct answer_tables *tables)
{
	const struct {
		int fd;
		size_t bytes;
		void *at;
	} maps[] = {
		{fds[ANSWER_FD_NAMES], ANSWER_SLOTS * sizeof(*tables->names), &tables->names},
		{fds[ANSWER_FD_INODES], ANSWER_SLOTS * sizeof(*tables->inodes), &tables->inodes},
		{fds[ANSWER_FD_ENTRIES], sets * sizeof(*tables->entries), &tables->entries},
		{fds[ANSWER_FD_WHOLES], sets / ANSWER_PER_WHOLE * sizeof(*tables->wholes), &tables->wholes},
		{fds[ANSWER_FD_OPENS], sets * sizeof(*tables->opens), &tables->opens},
		{fds[ANSWER_FD_ATTRS], sets * sizeof(*tables->attrs), &tables->attrs},
		{fds[ANSWER_FD_SAMPLES], ANSWER_SAMPLES * sizeof(*tables->samples), &tables->samples},
		{fds[ANSWER_FD_CONFIG], sizeof(*tables->config), &tables->config},
	};
	int err = 0;

	for (size_t i = 0; !err && i < sizeof(maps) / sizeof(maps[0]); i++)
		err = table_map(maps[i].fd, maps[i].bytes, PROT_READ | PROT_WRITE, maps[i].at);
	return err;
}

int answer_add_worker(int32_t workers_fd, pid_t thread, uint32_t place)
{
	uint32_t key = (uint32_t)thread;

	return bpf_map_update_elem(workers_fd, &key, &place, BPF_ANY) ? -errno : 0;
}

void answer_clear_workers(int32_t workers_fd)
{
	uint32_t key;

	while (bpf_map_get_next_key(workers_fd, NULL, &key) == 0)
		if (bpf_map_delete_elem(workers_fd, &key))
			return;
}

uint32_t answer_map_id(int32_t fd)
{
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);

	return bpf_map_get_info_by_fd(fd, &info, &size) ? 0 : info.id;
}

static void stats_add(struct answer_stats *sum, const struct answer_stats *more)
{
	sum->names += more->names;
	sum->names_unknown += more->names_unknown;
	sum->names_stale += more->names_stale;
	sum->attrs += more->attrs;
	sum->attrs_unknown += more->attrs_unknown;
	sum->attrs_stale += more->attrs_stale;
	sum->absent += more->absent;
	sum->absent_unknown += more->absent_unknown;
	sum->together += more->together;
	sum->missing += more->missing;
	sum->opens += more->opens;
	sum->opens_unknown += more->opens_unknown;
}

int answer_read_stats(uint32_t id, struct answer_stats *sum)
{
	const struct answer_stats *each;
	int fd = bpf_map_get_fd_by_id(id), err;

	memset(sum, 0, sizeof(*sum));
	if (fd < 0)
		return -errno;
	err = table_map(fd, ANSWER_STATS * sizeof(*each), PROT_READ, &each);
	close(fd);
	if (err)
		return err;
	for (int i = 0; i < ANSWER_STATS; i++)
		stats_add(sum, &each[i]);
	munmap((void *)each, ANSWER_STATS * sizeof(*each));
	return 0;
}
