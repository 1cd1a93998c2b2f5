#include "launcher/engine/chunk.h"

#include "planner/memory.h"

static const double MEMORY = 0.97; /* of a step for the one before it: some 30 steps count */

void cdp_step_cost_add(cdp_step_cost *cost, int n_rows, double seconds) {
    const double x = n_rows;
    cost->weight = MEMORY * cost->weight + 1;
    cost->rows = MEMORY * cost->rows + x;
    cost->seconds = MEMORY * cost->seconds + seconds;
    cost->rows_rows = MEMORY * cost->rows_rows + x * x;
    cost->rows_seconds = MEMORY * cost->rows_seconds + x * seconds;
}

static int clamp_rows(double rows, int max_rows) {
    const int least = CDP_KV_BLOCK_TOKENS < max_rows ? CDP_KV_BLOCK_TOKENS : max_rows;
    return rows <= least ? least : rows >= max_rows ? max_rows : (int)rows;
}

int cdp_chunk_beside(const cdp_step_cost *cost, int n_decoding, int max_rows) {
    const double spread = cost->weight * cost->rows_rows - cost->rows * cost->rows;
    if (spread <= 1e-6 * cost->weight * cost->rows_rows)
        return clamp_rows(max_rows / 4.0, max_rows);
    const double b = (cost->weight * cost->rows_seconds - cost->rows * cost->seconds) / spread;
    const double c = (cost->seconds - b * cost->rows) / cost->weight;
    if (b <= 0) /* rows cost nothing that could be seen: the weights are all */
        return max_rows;
    return clamp_rows((c > 0 ? c / b : 0) + n_decoding, max_rows);
}
