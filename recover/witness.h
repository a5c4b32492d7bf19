/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The first witness: the registers of a dying thread tell whether the system call it was in happened, and with
 * what result. The monitor traces the server for that; where it may not, evidence.h is used.
 */
#ifndef RECOVER_WITNESS_H
#define RECOVER_WITNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct state;

/* Who is asked about a system call that a death interrupted. */
enum witness { WITNESS_AUTO, WITNESS_REGISTERS, WITNESS_EVIDENCE, WITNESS_N };

const char *witness_name(enum witness witness);

/* May we trace? 0, -EPERM and what else ptrace(2) says. */
int witness_probe(void);

/* Traces all threads of a process: those it has and those it will start. 0, -EPERM. */
int witness_seize(pid_t pid);

struct record;

/*
 * What the registers of a thread that dies while it carries out `record` say: its instruction pointer and the result
 * register of its architecture. False if a step was begun and they do not tell.
 */
bool witness_testify(struct record *record, uintptr_t ip, long result);

/* A traced thread stopped, as waitpid(2) said: takes its testimony if it is dying, and lets it go on. */
void witness_stopped(struct state *state, pid_t tid, int status);

#endif
