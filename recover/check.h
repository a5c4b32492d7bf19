/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a new server asks of the state before it follows any number in it: the one before may have died of having
 * written anywhere.
 */
#ifndef RECOVER_CHECK_H
#define RECOVER_CHECK_H

struct state;

/*
 * Drops what cannot be: records of the journal, steps of threads, handles. Each costs its request, or its open file, and
 * a line in the log. 0, or -EBADMSG: the header itself cannot be.
 */
int check_state(struct state *state);

#endif
