/* launcher/text/merge.h - the loop inside bpe.c: symbols merge until no pair of them is in the table. */
#pragma once

#include "launcher/text/bpe.h"

/* Merge the n ids in work->ids; returns how many are left. n = 0 is fine. -1: no memory. */
int64_t cdp_merge_ids(const cdp_bpe *bpe, cdp_bpe_work *work, size_t n);

/* The slot of a pair in the table; the pair there is the one asked for, or the slot is free. */
uint32_t cdp_merge_slot(const cdp_bpe *bpe, int32_t left, int32_t right);
#define CDP_FREE_SLOT UINT64_MAX
