/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this kernel can do for us, asked of the kernel and not of its version. */
#ifndef KERNEL_PROBE_H
#define KERNEL_PROBE_H

#include <stdbool.h>

/* Can look-ups be answered by BPF inside the kernel? If not, `why` says what is missing. */
bool probe_bpf(const char **why);

#endif
