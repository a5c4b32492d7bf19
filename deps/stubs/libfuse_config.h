/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libfuse's public configuration, installed beside its headers. */
#ifndef LIBFUSE_CONFIG_H
#define LIBFUSE_CONFIG_H

#define FUSE_MAJOR_VERSION 3
#define FUSE_MINOR_VERSION 17
#define FUSE_HOTFIX_VERSION 2
#define FUSE_RC_VERSION ""

#endif
