/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef RECOVER_DESCRIPTORS_H
#define RECOVER_DESCRIPTORS_H

/*
 * Gives the caller, which shares the mount's table of open files, a table of its own with nothing open but 0 to 2 and
 * these; numbers below 0 are no descriptors. Nothing else is copied: it would keep files, locks and the mount for as long as
 * the caller lives. 0 or -errno of close_range(2) (Linux 5.9); then the table is still the shared one, and whole.
 */
int descriptors_own(const int *fds, unsigned n);

#endif
