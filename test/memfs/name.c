/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names in directories. Loops, and what is a directory and what is not, the kernel has checked.
 */
#include <errno.h>
#include <linux/fs.h>
#include <string.h>

#include "test/memfs/memfs.h"

static struct inode *inode_of(struct memfs *fs, uint32_t ino)
{
	return &fs->area->inodes[ino];
}

static bool is_directory(struct memfs *fs, uint32_t ino)
{
	return S_ISDIR(inode_of(fs, ino)->mode);
}

static struct entry *entry_find(struct memfs *fs, uint32_t directory, const char *name)
{
	for (uint32_t i = 1; i <= fs->entries_high; i++) {
		struct entry *entry = &fs->area->entries[i];

		if (entry->directory == directory && strcmp(entry->name, name) == 0)
			return entry;
	}
	return NULL;
}

static bool directory_empty(struct memfs *fs, uint32_t directory)
{
	for (uint32_t i = 1; i <= fs->entries_high; i++)
		if (fs->area->entries[i].directory == directory)
			return false;
	return true;
}

/* A free entry becomes a name of `ino`. 0 or -ENOSPC. */
static int entry_make(struct memfs *fs, uint32_t directory, const char *name, uint32_t ino)
{
	struct entry *entry;
	uint32_t i = 1;

	while (i < ENTRIES && fs->area->entries[i].directory)
		i++;
	if (i == ENTRIES)
		return -ENOSPC;
	if (i > fs->entries_high)
		fs->entries_high = i;
	entry = &fs->area->entries[i];
	entry->ino = ino;
	strncpy(entry->name, name, NAME_BYTES_MAX);
	SET(fs, entry->directory, directory);
	inode_touch(fs, directory, true);
	return 0;
}

static void link_count(struct memfs *fs, uint32_t ino, int by)
{
	SET(fs, inode_of(fs, ino)->nlink, inode_of(fs, ino)->nlink + (uint32_t)by);
}

/* What the entry names has one name less; a directory has no other. */
static void unlink_inode(struct memfs *fs, const struct entry *entry)
{
	link_count(fs, entry->ino, is_directory(fs, entry->ino) ? -2 : -1);
	if (is_directory(fs, entry->ino))
		link_count(fs, entry->directory, -1);
	inode_touch(fs, entry->ino, false);
}

int64_t name_lookup(struct memfs *fs, struct arguments *arguments)
{
	const struct entry *entry = entry_find(fs, arguments->ino, arguments->name);

	return entry ? (int64_t)entry->ino : -ENOENT;
}

/* Of any kind, by mode. With data: a symbolic link to that. */
int64_t name_make(struct memfs *fs, struct arguments *arguments)
{
	int64_t ino, done = 0;

	if (strlen(arguments->name) > NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	if (entry_find(fs, arguments->ino, arguments->name))
		return -EEXIST;
	ino = inode_make(fs, arguments);
	if (ino < 0)
		return ino;
	if (arguments->data)
		done = data_write(fs, &(struct arguments){
					      .ino = (uint32_t)ino, .data = arguments->data, .size = arguments->size});
	if (done >= 0)
		done = entry_make(fs, arguments->ino, arguments->name, (uint32_t)ino);
	if (done < 0)
		return done;
	if (S_ISDIR(arguments->mode))
		link_count(fs, arguments->ino, 1);
	return ino;
}

int64_t name_create(struct memfs *fs, struct arguments *arguments)
{
	const struct entry *entry = entry_find(fs, arguments->ino, arguments->name);
	int64_t err = 0;

	if (!entry)
		return name_make(fs, arguments);
	if (arguments->flags & O_EXCL)
		return -EEXIST;
	if (arguments->flags & O_TRUNC)
		err = data_truncate(fs, &(struct arguments){.ino = entry->ino});
	return err ? err : entry->ino;
}

int64_t name_link(struct memfs *fs, struct arguments *arguments)
{
	int err;

	if (strlen(arguments->new_name) > NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	if (entry_find(fs, arguments->other, arguments->new_name))
		return -EEXIST;
	err = entry_make(fs, arguments->other, arguments->new_name, arguments->ino);
	if (err)
		return err;
	link_count(fs, arguments->ino, 1);
	inode_touch(fs, arguments->ino, false);
	return arguments->ino;
}

int64_t name_unlink(struct memfs *fs, struct arguments *arguments)
{
	struct entry *entry = entry_find(fs, arguments->ino, arguments->name);

	if (!entry)
		return -ENOENT;
	unlink_inode(fs, entry);
	SET(fs, entry->directory, 0);
	inode_touch(fs, arguments->ino, true);
	return 0;
}

int64_t name_rmdir(struct memfs *fs, struct arguments *arguments)
{
	const struct entry *entry = entry_find(fs, arguments->ino, arguments->name);

	if (entry && !directory_empty(fs, entry->ino))
		return -ENOTEMPTY;
	return name_unlink(fs, arguments);
}

/* What an entry names was brought from one directory to another. */
static void moved(struct memfs *fs, uint32_t ino, uint32_t from, uint32_t to)
{
	inode_touch(fs, ino, false);
	if (!is_directory(fs, ino) || from == to)
		return;
	link_count(fs, from, -1);
	link_count(fs, to, 1);
	SET(fs, inode_of(fs, ino)->parent, to);
}

static void exchange(struct memfs *fs, struct entry *a, struct entry *b)
{
	uint32_t of_a = a->ino, of_b = b->ino;

	SET(fs, a->ino, of_b);
	SET(fs, b->ino, of_a);
	moved(fs, of_a, a->directory, b->directory);
	moved(fs, of_b, b->directory, a->directory);
}

int64_t name_rename(struct memfs *fs, struct arguments *arguments)
{
	struct entry *from = entry_find(fs, arguments->ino, arguments->name);
	struct entry *to = entry_find(fs, arguments->other, arguments->new_name);

	if (arguments->flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if (strlen(arguments->new_name) > NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	if (!from || (!to && arguments->flags & RENAME_EXCHANGE))
		return -ENOENT;
	if (to && arguments->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (arguments->flags & RENAME_EXCHANGE) {
		exchange(fs, from, to);
	} else {
		if (to && !directory_empty(fs, to->ino))
			return -ENOTEMPTY;
		if (to) {
			unlink_inode(fs, to);
			SET(fs, to->directory, 0);
		}
		change(fs, from->name, arguments->new_name, strlen(arguments->new_name) + 1);
		SET(fs, from->directory, arguments->other);
		moved(fs, from->ino, arguments->ino, arguments->other);
	}
	inode_touch(fs, arguments->ino, true);
	inode_touch(fs, arguments->other, true);
	return 0;
}

/* Adds an entry to a listing; false: it is full. */
static bool list_add(struct memfs *fs, struct arguments *arguments, size_t *used, const char *name, uint32_t ino,
		     uint64_t next)
{
	struct stat st = {.st_ino = ino, .st_mode = inode_of(fs, ino)->mode};
	size_t room = arguments->size - *used;
	size_t bytes = fuse_add_direntry(NULL, (char *)arguments->out + *used, room, name, &st, (off_t)next);

	if (bytes > room)
		return false;
	*used += bytes;
	return true;
}

/* Positions: 1 after ".", 2 after "..", 2 + n after entry n. An entry stays where it is. */
int64_t name_list(struct memfs *fs, struct arguments *arguments)
{
	uint64_t at = arguments->offset;
	size_t used = 0;

	if (at == 0 && list_add(fs, arguments, &used, ".", arguments->ino, 1))
		at = 1;
	if (at == 1 && list_add(fs, arguments, &used, "..", inode_of(fs, arguments->ino)->parent, 2))
		at = 2;
	for (uint64_t i = at - 1; at >= 2 && i <= fs->entries_high; i++) {
		const struct entry *entry = &fs->area->entries[i];

		if (entry->directory == arguments->ino &&
		    !list_add(fs, arguments, &used, entry->name, entry->ino, i + 2))
			break;
	}
	return (int64_t)used;
}
