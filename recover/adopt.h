/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A mount whose processes are all gone, from the descriptors that somebody kept of it (handover.h). */
#ifndef RECOVER_ADOPT_H
#define RECOVER_ADOPT_H

struct held;
struct recover;

/* Closes them, and removes the state's name if nobody has the mount. */
void adopt_forget(struct held *held);

/*
 * The state of the mount, locked, checked and mapped, with no descriptor in it but those of the devices and the buffers;
 * in `held` is left what may be the file system's. 0 or -errno, and what is wrong was said.
 */
int adopt_take(struct recover *recover, struct held *held);

#endif
