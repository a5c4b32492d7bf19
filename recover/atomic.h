/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Loads and stores on memory that other threads and the next server read.
 * A store_release() publishes what was written before it, also to a process
 * that starts after this one was killed: shared memory loses nothing that was
 * stored, it only never sees what was not.
 */
#ifndef RECOVER_ATOMIC_H
#define RECOVER_ATOMIC_H

#define load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define add_relaxed(p, v) __atomic_add_fetch((p), (v), __ATOMIC_RELAXED)

#endif
