/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `fxfs --umount`: takes a mount off, served or dead, and what it left behind. */
#ifndef RECOVER_UMOUNT_H
#define RECOVER_UMOUNT_H

#include <stdbool.h>

#include "recover/limit.h"

/*
 * Unmounts what the file system `name` has at `mountpoint`, waits for its processes, and removes what it left in /run/fxfs,
 * all within `seconds`. Doing it again is no error. `force`: whoever uses the mount gets errors. The code is one of
 * mount(8).
 */
void umount_ask(const char *mountpoint, const char *name, bool force, double seconds, struct outcome *outcome);

/* Nobody answers, and nobody can any more, whatever the kernel still knows. Waits for a server that hangs. */
bool umount_is_dead(const char *path);

#endif
