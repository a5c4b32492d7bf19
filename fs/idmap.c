/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ranges of ids, and values of extended attributes that have ids in them: ACLs (linux/posix_acl_xattr.h) and file
 * capabilities (linux/capability.h). All numbers in them are little endian.
 */
#include "fs/idmap.h"

#include <endian.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

/* --- ranges ------------------------------------------------------------------------------------------------- */

/* A number of 32 bits at *text, which then stands behind it. */
static bool number_parse(const char **text, uint32_t *number)
{
	char *end;
	unsigned long long n;

	if (**text < '0' || **text > '9')
		return false;
	errno = 0;
	n = strtoull(*text, &end, 10);
	if (errno || n > UINT32_MAX)
		return false;
	*text = end;
	*number = (uint32_t)n;
	return true;
}

static bool colon_parse(const char **text)
{
	return *(*text)++ == ':';
}

/* IDMAP_NONE is in no range. */
static bool range_parse(struct idmap_range *range, const char *text)
{
	range->count = 1;
	if (!number_parse(&text, &range->source) || !colon_parse(&text) || !number_parse(&text, &range->mount))
		return false;
	if (*text && (!colon_parse(&text) || !number_parse(&text, &range->count) || *text))
		return false;
	return range->count > 0 && range->count <= IDMAP_NONE - range->source &&
	       range->count <= IDMAP_NONE - range->mount;
}

static bool overlap(uint32_t a, uint32_t a_count, uint32_t b, uint32_t b_count)
{
	return a < b ? b - a < a_count : a - b < b_count;
}

int idmap_add(struct idmap *map, const char *text)
{
	struct idmap_range range;

	if (!range_parse(&range, text))
		return -EINVAL;
	for (unsigned i = 0; i < map->n; i++) {
		const struct idmap_range *other = &map->ranges[i];

		if (overlap(range.source, range.count, other->source, other->count) ||
		    overlap(range.mount, range.count, other->mount, other->count))
			return -EEXIST;
	}
	if (map->n == IDMAP_RANGES)
		return -E2BIG;
	map->ranges[map->n++] = range;
	return 0;
}

uint32_t idmap_find_mount(const struct idmap *map, uint32_t source)
{
	for (unsigned i = 0; i < map->n; i++)
		if (source - map->ranges[i].source < map->ranges[i].count)
			return source - map->ranges[i].source + map->ranges[i].mount;
	return IDMAP_NONE;
}

uint32_t idmap_find_source(const struct idmap *map, uint32_t mount)
{
	for (unsigned i = 0; i < map->n; i++)
		if (mount - map->ranges[i].mount < map->ranges[i].count)
			return mount - map->ranges[i].mount + map->ranges[i].source;
	return IDMAP_NONE;
}

/* --- ACLs --------------------------------------------------------------------------------------------------- */

#define ACL_USER 0x02
#define ACL_GROUP 0x08

struct acl_entry {
	uint16_t tag, permissions;
	uint32_t id;
};

#define ACL_HEADER_BYTES 4

typedef uint32_t idmap_way(const struct idmap *map, uint32_t id);

/* False: it has an id, and none on the other side. */
static bool acl_map_entry(const struct idmaps *maps, struct acl_entry *entry, idmap_way *way)
{
	uint16_t tag = le16toh(entry->tag);
	uint32_t id;

	if (tag != ACL_USER && tag != ACL_GROUP)
		return true;
	id = way(tag == ACL_USER ? &maps->uids : &maps->gids, le32toh(entry->id));
	entry->id = htole32(id);
	return id != IDMAP_NONE;
}

/* `all`: each entry must have an id on the other side. What is not the shape of an ACL stays as it is. */
static ssize_t acl_map(const struct idmaps *maps, uint8_t *value, size_t size, idmap_way *way, bool all)
{
	size_t kept = ACL_HEADER_BYTES;

	if (size < ACL_HEADER_BYTES || (size - ACL_HEADER_BYTES) % sizeof(struct acl_entry))
		return (ssize_t)size;
	for (size_t at = ACL_HEADER_BYTES; at < size; at += sizeof(struct acl_entry)) {
		struct acl_entry entry;
		bool mapped;

		memcpy(&entry, value + at, sizeof(entry));
		mapped = acl_map_entry(maps, &entry, way);
		if (!mapped && all)
			return -EINVAL;
		if (!mapped)
			continue;
		memcpy(value + kept, &entry, sizeof(entry));
		kept += sizeof(entry);
	}
	return (ssize_t)kept;
}

/* --- capabilities ------------------------------------------------------------------------------------------- */

/*
 * They are of the user namespace whose root gave them. Revision 2 has no id: root's own; revision 3 has one behind it. Of
 * `none` nobody is root.
 */
static ssize_t capability_map(const struct idmaps *maps, uint8_t *value, size_t size, idmap_way *way, int none)
{
	struct vfs_ns_cap_data data = {0};
	uint32_t magic, root;

	if (size != XATTR_CAPS_SZ_2 && size != XATTR_CAPS_SZ_3)
		return (ssize_t)size;
	memcpy(&data, value, size);
	magic = le32toh(data.magic_etc) & ~(uint32_t)VFS_CAP_REVISION_MASK;
	root = way(&maps->uids, le32toh(data.rootid));
	if (root == IDMAP_NONE)
		return none;
	data.magic_etc = htole32(magic | (root ? VFS_CAP_REVISION_3 : VFS_CAP_REVISION_2));
	data.rootid = htole32(root);
	size = root ? XATTR_CAPS_SZ_3 : XATTR_CAPS_SZ_2;
	memcpy(value, &data, size);
	return (ssize_t)size;
}

/* --- both --------------------------------------------------------------------------------------------------- */

static bool is_acl(const char *xattr)
{
	return strcmp(xattr, "system.posix_acl_access") == 0 || strcmp(xattr, "system.posix_acl_default") == 0;
}

bool idmap_has_ids(const char *xattr)
{
	return is_acl(xattr) || strcmp(xattr, "security.capability") == 0;
}

ssize_t idmap_value_mount(const struct idmaps *maps, const char *xattr, uint8_t *value, size_t size)
{
	return is_acl(xattr) ? acl_map(maps, value, size, idmap_mount, false)
			     : capability_map(maps, value, size, idmap_mount, -ENODATA);
}

ssize_t idmap_value_source(const struct idmaps *maps, const char *xattr, uint8_t *value, size_t size)
{
	return is_acl(xattr) ? acl_map(maps, value, size, idmap_source, true)
			     : capability_map(maps, value, size, idmap_source, -EINVAL);
}

bool idmap_hides(const struct idmaps *maps, const char *xattr, uint8_t *value, size_t size)
{
	return is_acl(xattr) && acl_map(maps, value, size, idmap_mount, false) < (ssize_t)size;
}
