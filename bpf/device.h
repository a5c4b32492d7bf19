/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What /dev/fxfuse has besides /dev/fuse: kernel/module/bpf.h. */
#ifndef BPF_DEVICE_H
#define BPF_DEVICE_H

#include <stdint.h>
#include <sys/ioctl.h>

#define FXFUSE_DEV_IOC_KNOWN _IOW(229, 96, uint64_t)  /* is there an inode with this nodeid? 1 or 0 */
#define FXFUSE_DEV_IOC_ATTACH _IOW(229, 97, uint64_t) /* the program with this cookie answers */
#define FXFUSE_DEV_IOC_OPEN _IOW(229, 98, uint64_t)   /* are files of this nodeid open that BPF opened? 1 or 0 */

#endif
