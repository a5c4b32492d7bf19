/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libfuse's private configuration: what its meson.build would have found out on Linux with musl or glibc. */
#define PACKAGE_VERSION "3.17.2"

#define HAVE_COPY_FILE_RANGE 1
#define HAVE_FALLOCATE 1
#define HAVE_FDATASYNC 1
#define HAVE_FORK 1
#define HAVE_FSTATAT 1
#define HAVE_LINUX_CLOSE_RANGE_H 1
#define HAVE_OPENAT 1
#define HAVE_PIPE2 1
#define HAVE_POSIX_FALLOCATE 1
#define HAVE_PTHREAD_SETNAME_NP 1
#define HAVE_READLINKAT 1
#define HAVE_SETXATTR 1
#define HAVE_SPLICE 1
#define HAVE_STATIC_ASSERT 1
#define HAVE_STRUCT_STAT_ST_ATIM 1
#define HAVE_UTIMENSAT 1
#define HAVE_VMSPLICE 1
