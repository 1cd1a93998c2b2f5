/* kernels/cuda/attend_sizes.h - how attention of few rows is divided on a GPU, and the scratch that follows
 * from it.
 *
 * The keys of a row are taken in n_splits parts by as many blocks; each leaves a partial result (largest
 * score, sum, head_dim sums), and the last one to finish merges them in ascending order. Parts depend on the
 * model, the longest sequence of the run and the row's position alone, so a row's bits do not depend on its
 * company.
 *
 *     scratch    counters (CUDA_SPLIT_ROWS, n_heads)    CUDA_COUNTER_BYTES, zero between launches
 *                partial results (rows, n_heads, n_splits)
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    CUDA_SPLIT_ROWS = 64,  /* up to here attention is split over the keys of a row, above over the rows */
    CUDA_SPLIT_GRID = 128, /* blocks of one row at most: about the multiprocessors of the largest GPUs */
    CUDA_MOST_SPLITS = 32,
    CUDA_SPLIT_BLOCKS = 4, /* KV blocks of a part at least, so that its warps have one each */
    CUDA_COUNTER_BYTES = 1 << 20,
    CUDA_PARTIAL_EXTRA = 2, /* floats beside the sums of a partial result */
};

/* Parts of a row at most; max_blocks: KV blocks of the longest sequence. */
static inline int cuda_attend_splits(int n_kv_heads, int max_blocks) {
    const int fill = CUDA_SPLIT_GRID / n_kv_heads,
              useful = (max_blocks + CUDA_SPLIT_BLOCKS - 1) / CUDA_SPLIT_BLOCKS;
    const int n = fill < useful ? fill : useful;
    return n > CUDA_MOST_SPLITS ? CUDA_MOST_SPLITS : n < 1 ? 1 : n;
}

/* Rows whose partial results fit in n_bytes of scratch, CUDA_SPLIT_ROWS at most. */
static inline int cuda_attend_split_rows(int n_heads, int n_splits, int head_dim, size_t n_bytes) {
    const size_t partial = (size_t)(head_dim + CUDA_PARTIAL_EXTRA) * sizeof(float);
    const size_t row = (size_t)n_heads * (size_t)n_splits * partial;
    const size_t n = (n_bytes - CUDA_COUNTER_BYTES) / row;
    return n > CUDA_SPLIT_ROWS ? CUDA_SPLIT_ROWS : (int)n;
}
