/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What process 1 of a pid namespace does, as fxfs is in a container. */
#ifndef RECOVER_INIT_H
#define RECOVER_INIT_H

struct recover;

/*
 * In process 1: returns 0 in a child, which is to be the monitor, and ends with its code when nobody has the mount any
 * more. Elsewhere: 0, and nothing happens. -errno: there is no child. The state is there, nothing else of the mount yet.
 */
int init_start(struct recover *recover);

#endif
