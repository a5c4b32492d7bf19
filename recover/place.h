/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where states stand, for those who look for them from outside: `fxfs --status`, --umount. */
#ifndef RECOVER_PLACE_H
#define RECOVER_PLACE_H

#include <dirent.h>
#include <limits.h>
#include <stddef.h>

#include "recover/state.h"

/* Where the state of the mount with this number is, if it is anywhere. Writes at most `size` bytes. */
void place_find(uint32_t device_minor, char *path, size_t size);

/* A state that has a name in /run/fxfs. */
struct place {
	char name[64];
	char path[PATH_MAX]; /* the file: the name, or where the name leads */
	struct state state;
};

/* The directory of the names, and a lock: none is given or taken until it is closed. */
struct places {
	DIR *directory;
	int lock;
};

/* 0 or -errno; -ENOENT: there are no names. */
int places_open(struct places *places);

/* The next state that is one; the caller closes it with state_close(). */
bool places_next(struct places *places, struct place *place);

void places_close(struct places *places);

/* The connection of a device by its fdinfo, which says so since Linux 6.16, else 0. */
unsigned place_connection(int device);

/* Removes the names of a state, where it is still what they lead to. */
void place_remove(const struct state *state);

/* Removes the name and the file. */
void place_forget(const struct place *place);

#endif
