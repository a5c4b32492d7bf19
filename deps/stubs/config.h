/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What elfutils' configure would have found out, as far as libelf/*.c and lib/eu-search.c ask. It answers for
 * musl, and for glibc where that differs.
 */
#include <features.h>

#define SIZEOF_LONG __SIZEOF_LONG__
#define HAVE_ERR_H 1
#define HAVE_VISIBILITY 1

/* lib/system.h defines the functions that are not declared. */
#define HAVE_DECL_POWEROF2 1
#define HAVE_DECL_MEMPCPY 1
#define HAVE_DECL_REALLOCARRAY 1
#ifdef __GLIBC__
#define HAVE_DECL_RAWMEMCHR 1
#else
#define HAVE_DECL_RAWMEMCHR 0
#endif

#include <eu-config.h>
