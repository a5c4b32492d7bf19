/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * call_witnessed() by architecture. STEP_STARTED is 1 and STEP_DONE is 2 in the 32-bit word at offset 0 of
 * struct step, the result is the 64-bit word at offset 8 (checked below and in journal.c).
 */
#include "recover/call.h"

#include <stddef.h>

#include "recover/journal.h"

_Static_assert(STEP_STARTED == 1 && STEP_DONE == 2, "written below");
_Static_assert(offsetof(struct step, state) == 0 && offsetof(struct step, result) == 8, "written below");

#if defined(__x86_64__)
/* rdi: step, rsi: arguments. The kernel clobbers rcx and r11 and keeps the rest. */
__asm__(".text\n"
	".globl call_witnessed, call_before, call_after, call_end\n"
	".type call_witnessed, @function\n"
	"call_witnessed:\n"
	"	.cfi_startproc\n"
	"	push %rbx\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset rbx, 0\n"
	"	mov %rdi, %rbx\n"
	"	mov %rsi, %r11\n"
	"	mov (%r11), %rax\n"
	"	mov 8(%r11), %rdi\n"
	"	mov 16(%r11), %rsi\n"
	"	mov 24(%r11), %rdx\n"
	"	mov 32(%r11), %r10\n"
	"	mov 40(%r11), %r8\n"
	"	mov 48(%r11), %r9\n"
	"	movl $1, (%rbx)\n"
	"call_before:\n"
	"	syscall\n"
	"call_after:\n"
	"	mov %rax, 8(%rbx)\n"
	"	movl $2, (%rbx)\n"
	"call_end:\n"
	"	pop %rbx\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore rbx\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size call_witnessed, . - call_witnessed\n");
#elif defined(__aarch64__)
/* x0: step, x1: arguments. The kernel keeps all but x0. */
__asm__(".text\n"
	".globl call_witnessed, call_before, call_after, call_end\n"
	".type call_witnessed, %function\n"
	"call_witnessed:\n"
	"	mov x9, x0\n"
	"	mov x10, x1\n"
	"	ldr x8, [x10]\n"
	"	ldp x0, x1, [x10, #8]\n"
	"	ldp x2, x3, [x10, #24]\n"
	"	ldp x4, x5, [x10, #40]\n"
	"	mov w11, #1\n"
	"	str w11, [x9]\n"
	"call_before:\n"
	"	svc #0\n"
	"call_after:\n"
	"	str x0, [x9, #8]\n"
	"	mov w11, #2\n"
	"	stlr w11, [x9]\n"
	"call_end:\n"
	"	ret\n"
	".size call_witnessed, . - call_witnessed\n");
#else
#error "call_witnessed() is not written for this architecture"
#endif
