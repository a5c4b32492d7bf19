/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ids of SOURCE's files, and those that the mount has for them (-o uidmap, gidmap). As with an idmapped mount
 * (mount_setattr(2)) an id that no range has is nobody: the kernel shows it as the overflow id, and no process is it.
 */
#ifndef FS_IDMAP_H
#define FS_IDMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define IDMAP_RANGES 32
#define IDMAP_NONE UINT32_MAX /* what the protocol has for no id, and chown(2) */
#define IDMAP_OVERFLOW 65534  /* whom one acts as who has no id in SOURCE */

struct idmap_range {
	uint32_t source, mount, count;
};

/* Without ranges each id is itself. */
struct idmap {
	unsigned n;
	struct idmap_range ranges[IDMAP_RANGES];
};

struct idmaps {
	struct idmap uids, gids;
};

/*
 * One more range, "SOURCE:MOUNT" or "SOURCE:MOUNT:COUNT". -EINVAL: it is none; -EEXIST: ids of it are in another one, on
 * either side; -E2BIG: there are IDMAP_RANGES.
 */
int idmap_add(struct idmap *map, const char *text);

/* IDMAP_NONE: there is none. */
uint32_t idmap_find_mount(const struct idmap *map, uint32_t source);
uint32_t idmap_find_source(const struct idmap *map, uint32_t mount);

/* The id by which the mount knows one of SOURCE, or the other way round. */
static inline uint32_t idmap_mount(const struct idmap *map, uint32_t source)
{
	return map->n ? idmap_find_mount(map, source) : source;
}

static inline uint32_t idmap_source(const struct idmap *map, uint32_t mount)
{
	return map->n ? idmap_find_source(map, mount) : mount;
}

static inline bool idmap_is_on(const struct idmaps *maps)
{
	return maps->uids.n || maps->gids.n;
}

/* Has the extended attribute ids in its value? */
bool idmap_has_ids(const char *xattr);

/* As much as the kernel takes of one that has. */
#define IDMAP_VALUE_BYTES 65536

/*
 * The value of such an attribute, changed in place; room for IDMAP_VALUE_BYTES. Returns its new size.
 *
 * For the mount: entries of an ACL that are of no id there are left out: they give nothing to anybody, and take nothing.
 * -ENODATA: capabilities that an id gave which is none there.
 * For SOURCE: -EINVAL: an id has none there.
 */
ssize_t idmap_value_mount(const struct idmaps *maps, const char *xattr, uint8_t *value, size_t size);
ssize_t idmap_value_source(const struct idmaps *maps, const char *xattr, uint8_t *value, size_t size);

/* Is something left out of this value for the mount? The value is changed too. */
bool idmap_hides(const struct idmaps *maps, const char *xattr, uint8_t *value, size_t size);

#endif
