/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Questions to the running kernel.
 */
#include "kernel/probe.h"

#include <bpf/libbpf.h>
#include <unistd.h>

static int quiet(enum libbpf_print_level level, const char *format, va_list arguments)
{
	(void)level, (void)format, (void)arguments;
	return 0;
}

bool probe_bpf(const char **why)
{
	libbpf_set_print(quiet);
	if (access("/dev/fxfuse", F_OK)) {
		*why = "the kernel module fxfuse is not loaded";
		return false;
	}
	if (libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_STRUCT_OPS, NULL) != 1) {
		*why = "the kernel or a missing permission refuses BPF struct_ops";
		return false;
	}
	*why = "this version of fxfs has no program for it yet";
	return false;
}
