/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * FORGET and BATCH_FORGET: the one kind of request that has no reply and is never sent again. A dying server
 * leaves it in its request buffer; the slot says how many of its entries are applied.
 */
#include "recover/atomic.h"
#include "recover/internal.h"

void forget_apply(struct recover *recover, const struct fuse_in_header *in, struct worker_slot *slot)
{
	if (in->opcode == FUSE_FORGET) {
		const struct fuse_forget_in *forget = (const void *)(in + 1);

		if (slot->forgets_done == 0)
			node_forget(&recover->nodes, slot, in->nodeid, forget->nlookup, 1);
	} else {
		const struct fuse_batch_forget_in *batch = (const void *)(in + 1);
		const struct fuse_forget_one *one = (const void *)(batch + 1);

		for (uint32_t i = slot->forgets_done; i < batch->count; i++)
			node_forget(&recover->nodes, slot, one[i].nodeid, one[i].nlookup, i + 1);
	}
}
