/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `fxfs --status` says: read from the state alone; the mount is never touched. */
#ifndef RECOVER_STATUS_H
#define RECOVER_STATUS_H

#include <stdbool.h>
#include <stddef.h>

struct recover_fs;

/* Prints the status of the mount at `mountpoint` (or of the state at `state_path`); an exit code of mount(8). */
int status_print(const struct recover_fs *fs, const char *mountpoint, const char *state_path, bool json);

/* Where the state of the mount at `mountpoint` is, without touching the mount. 0, or 1 after having said why not. */
int status_path(const char *mountpoint, char *path, size_t size);

#endif
