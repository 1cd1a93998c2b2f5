/* kernels/cuda/attend_prompt.cu - attention of many rows, on tensor cores.
 *
 * A block = query vectors of neighbouring rows and one KV head; keys are taken in tiles, whose numbers are
 * absolute, so that a row's sums do not depend on chunk or company:
 *
 *               tile 0   tile 1   tile 2   tile 3 ...
 *     team 0    x                 x                     four warps, each 32 vectors (16 of wide heads)
 *     team 1             x                 x            four more, the same vectors
 *
 * In the end team 0 merges both results. Two teams keep a multiprocessor's tensor cores busy where a prompt's
 * chunk has too few vectors for two blocks: one computes powers while the other multiplies. Each fetches its
 * own tiles, the next while it works on one, and meets at a barrier of its own.
 *
 *     shared    queries as a fragments (FRAGMENTS, 128 lanes)
 *               keys, values of a tile (teams, stages)
 *               the last position that each vector sees (teams, vectors)
 *
 * A fragment of keys or values serves two tiles of 16 vectors. Bound by tensor cores; the notebook in
 * tests/bench has the count.
 */
#include "kernels/cuda/attend_prompt.cuh"

/* Where a thread stands. */
typedef struct prompt_place {
    int team, thread, warp, g, t; /* thread, warp: of the team */
    int kv_head, begin;           /* the block's first vector, numbered (row, head of the group) */
} prompt_place;

/* Rows [row, next) are of one slot and see positions [first, last] between them. */
typedef struct row_run {
    int slot, row, next, first, last;
} row_run;

__device__ __forceinline__ row_run run_of(const attend_args &a, int row, int end) {
    const int lane = threadIdx.x % LANES;
    row_run run = {a.slot[row], row, row, INT_MAX, -1};
    unsigned same;
    do {
        const int r = run.next + lane;
        same = __ballot_sync(ALL_LANES, r < end && a.slot[r] == run.slot);
        const int n = same == ALL_LANES ? (int)LANES : __ffs((int)~same) - 1;
        if (lane < n) {
            run.first = min(run.first, first_visible(a, a.position[r]));
            run.last = max(run.last, a.position[r]);
        }
        run.next += n;
    } while (same == ALL_LANES);
    for (int m = LANES / 2; m > 0; m >>= 1) {
        run.first = min(run.first, __shfl_xor_sync(ALL_LANES, run.first, m));
        run.last = max(run.last, __shfl_xor_sync(ALL_LANES, run.last, m));
    }
    return run;
}

/* Number of this lane's vector v among all of the KV head. */
template <class Shape> __device__ __forceinline__ int vector_at(const prompt_place &at, int v) {
    return at.begin + at.warp * Shape::WARP_VECTORS + v / 2 * TILE + v % 2 * 8 + at.g;
}

/* The queries of the block as a fragments; every lane finds its own in its column. */
template <cdp_dtype KV, int D>
__device__ __forceinline__ void put_queries(const attend_args &a, const prompt_place &at, uint4 *queries) {
    typedef prompt_shape<KV, D> shape;
    for (int n = at.team; n < shape::TILES * shape::PIECES; n += shape::TEAMS) {
        const int tile = n / shape::PIECES, piece = n % shape::PIECES;
        const int i = piece / 2 * 32 + at.t * 8 + piece % 2 * 4; /* the first of four dimensions */
        unsigned parts[2][4];
#pragma unroll
        for (int which = 0; which < 2; which++) {
            const int vector = vector_at<shape>(at, tile * 2 + which), row = vector / a.group;
            const int head = at.kv_head * a.group + vector % a.group;
            const bool is_there = row < a.n_rows && i < D;
            const uint4 q = is_there ? ptx_load16(a.qkv + (size_t)row * a.qkv_cols + head * D + i)
                                     : make_uint4(0, 0, 0, 0);
            pack_two<KV>(__uint_as_float(q.x), __uint_as_float(q.y), &parts[0][which], &parts[1][which]);
            pack_two<KV>(__uint_as_float(q.z), __uint_as_float(q.w), &parts[0][2 + which],
                         &parts[1][2 + which]);
        }
#pragma unroll
        for (int part = 0; part < shape::Q_PARTS; part++)
            ptx_store16(queries + (n * shape::Q_PARTS + part) * TEAM_THREADS,
                        make_uint4(parts[part][0], parts[part][1], parts[part][2], parts[part][3]));
    }
}

/* The numbers of the KV blocks of the tile at `position`, -1 where the run has none. */
template <class Shape>
__device__ __forceinline__ void find_blocks(const attend_args &a, const row_run &run, int position,
                                            int (&blocks)[Shape::KEYS / CDP_BLOCK_TOKENS]) {
    const int32_t *table = a.kv.tables + run.slot * a.kv.max_blocks;
#pragma unroll
    for (int b = 0; b < Shape::KEYS / CDP_BLOCK_TOKENS; b++) {
        const int first = position + b * CDP_BLOCK_TOKENS;
        const bool is_there = first + CDP_BLOCK_TOKENS > run.first && first <= run.last;
        blocks[b] = is_there ? table[(unsigned)first / CDP_BLOCK_TOKENS] : -1;
    }
}

/* Start to fetch a tile: its blocks, zeros for those that are not there. Keys are laid so that the lanes of a
 * product read different banks, values as they are. */
template <cdp_dtype KV, int D>
__device__ __forceinline__ void fetch_tile(const attend_args &a, const prompt_place &at,
                                           const int (&blocks)[prompt_shape<KV, D>::KEYS / CDP_BLOCK_TOKENS],
                                           uint4 *stage) {
    typedef prompt_shape<KV, D> shape;
    const uint4 *cache = static_cast<const uint4 *>(a.kv.data) + at.kv_head * 2 * D + at.thread;
    const int key_place = at.thread ^ at.thread / CDP_BLOCK_TOKENS % QUAD * 2; /* token ^ chunk % 4 * 2 */
#pragma unroll
    for (int b = 0; b < shape::KEYS / CDP_BLOCK_TOKENS; b++) {
        const bool is_there = blocks[b] >= 0;
        const size_t block = is_there ? (unsigned)blocks[b] : 0u;
        const uint4 *keys = cache + block * (unsigned)(a.kv.n_kv_heads * 4 * D); /* pieces of a block */
        const uint4 *values = keys + a.kv.n_kv_heads * 2 * D;
        uint4 *to = stage + b * 2 * D;
#pragma unroll
        for (int p = 0; p < 2 * D; p += TEAM_THREADS) {
            if (2 * D % TEAM_THREADS != 0 && p + at.thread >= 2 * D)
                break;
            ptx_copy16_async(to + p + key_place, keys + p, is_there);
            ptx_copy16_async(to + p + shape::HALF + at.thread, values + p, is_there);
        }
    }
    ptx_copy_commit();
}

/* Values at positions outside the run become 0; each thread does those it has fetched itself. */
template <cdp_dtype KV, int D>
__device__ __forceinline__ void clear_unwritten(const prompt_place &at, const row_run &run, int position,
                                                uint4 *stage) {
    typedef prompt_shape<KV, D> shape;
#pragma unroll 1
    for (int n = 0; n < shape::KEYS / CDP_BLOCK_TOKENS; n++)
        for (int p = at.thread; p < 2 * D; p += TEAM_THREADS) {
            uint4 *piece = stage + shape::HALF + n * 2 * D + p;
            const int j = position + n * CDP_BLOCK_TOKENS + p % QUAD * 2; /* tokens j, j+1, j+8, j+9 */
            uint4 v = ptx_load16(piece);
            v.x = keep_written(v.x, j, run.first, run.last);
            v.y = keep_written(v.y, j + 8, run.first, run.last);
            v.z = keep_written(v.z, j, run.first, run.last);
            v.w = keep_written(v.w, j + 8, run.first, run.last);
            ptx_store16(piece, v);
        }
}

/* The last position that each of the warp's vectors sees in the run, into `lasts`, -1 for those of other
 * rows; and the smallest and the largest of them. `lasts` is read behind the next barrier. */
template <class Shape>
__device__ __forceinline__ void put_lasts(const attend_args &a, const prompt_place &at, const row_run &run,
                                          int *lasts, int *lowest, int *highest) {
    *lowest = INT_MAX;
    *highest = -1;
#pragma unroll
    for (int v = 0; v < Shape::VECTORS; v++) {
        const int row = vector_at<Shape>(at, v) / a.group;
        const int last = row >= run.row && row < run.next ? a.position[row] : -1;
        if (at.t == 0)
            lasts[v * 8] = last;
        *lowest = min(*lowest, last);
        *highest = max(*highest, last);
    }
    for (int m = LANES / 2; m >= QUAD; m >>= 1) {
        *lowest = min(*lowest, __shfl_xor_sync(ALL_LANES, *lowest, m));
        *highest = max(*highest, __shfl_xor_sync(ALL_LANES, *highest, m));
    }
}

/* The team's tiles of one run of rows. */
template <cdp_dtype KV, int D>
__device__ __forceinline__ void attend_run(const attend_args &a, const prompt_place &at, const row_run &run,
                                           prompt_state<KV, D> &u, const uint4 *queries, uint4 *stages,
                                           int *lasts) {
    typedef prompt_shape<KV, D> shape;
    constexpr int apart = shape::TEAMS * shape::KEYS; /* the team's tiles */
    const int window = a.window > 0 ? a.window : INT_MAX / 2;
    int position = run.first / shape::KEYS;
    position = (position + (position % shape::TEAMS == at.team ? 0 : 1)) * shape::KEYS;
    ptx_part_sync(1 + at.team, TEAM_THREADS); /* nobody reads what is there of the run before */
    int lowest, highest;
    put_lasts<shape>(a, at, run, lasts, &lowest, &highest);
    int blocks[shape::KEYS / CDP_BLOCK_TOKENS];
    if (position <= run.last) {
        find_blocks<shape>(a, run, position, blocks);
        fetch_tile<KV, D>(a, at, blocks, stages + position / apart % STAGES * 2 * shape::HALF);
    }
    for (; position <= run.last; position += apart) {
        uint4 *here = stages + position / apart % STAGES * 2 * shape::HALF;
        find_blocks<shape>(a, run, position + apart, blocks); /* on their way while this tile is waited for */
        ptx_copy_wait<0>();
        if (position < run.first || position + shape::KEYS - 1 > run.last)
            clear_unwritten<KV, D>(at, run, position, here);
        ptx_part_sync(1 + at.team, TEAM_THREADS); /* the tile is there, and nobody reads the one before */
        if (position + apart <= run.last)
            fetch_tile<KV, D>(a, at, blocks, stages + (position / apart + 1) % STAGES * 2 * shape::HALF);
        const int end = position + shape::KEYS - 1;
        if (highest < position || lowest - window >= end)
            continue; /* nobody of this warp sees it */
        float s[shape::TILES][shape::KEYS / 8][4] = {};
        score_tile<KV, D>(s, queries, here + at.t * CDP_BLOCK_TOKENS + (at.g ^ at.t * 2), at.t);
        if (lowest < end || highest - window >= position)
            mask_tile<KV, D>(s, lasts, window, position + at.t * 2);
        weigh_tile(u, s, a.scale);
        add_values<KV, D>(u, s, here + shape::HALF + at.g * QUAD + at.t);
    }
}

/* Team 1 leaves its result in `results`, team 0 adds it to its own. Called by all; starts with a barrier. */
template <cdp_dtype KV, int D>
__device__ __forceinline__ void merge_teams(prompt_state<KV, D> &u, const prompt_place &at, uint4 *results) {
    typedef prompt_shape<KV, D> shape;
    float4 *mine = reinterpret_cast<float4 *>(results) + at.thread; /* (RESULT, TEAM_THREADS) */
    float4 *scores = mine + shape::TILES * D / 8 * TEAM_THREADS;
    __syncthreads(); /* all tiles are done with */
    if (at.team == 1) {
#pragma unroll
        for (int m = 0; m < shape::TILES; m++) {
            scores[m * TEAM_THREADS] =
                make_float4(u.most[2 * m], u.total[2 * m], u.most[2 * m + 1], u.total[2 * m + 1]);
#pragma unroll
            for (int j = 0; j < D / 8; j++)
                mine[(m * D / 8 + j) * TEAM_THREADS] =
                    make_float4(u.sums[m][j][0], u.sums[m][j][1], u.sums[m][j][2], u.sums[m][j][3]);
        }
    }
    __syncthreads();
    if (at.team == 1)
        return;
#pragma unroll
    for (int m = 0; m < shape::TILES; m++) {
        const float4 its = scores[m * TEAM_THREADS];
        float weight[2], its_weight[2];
#pragma unroll
        for (int which = 0; which < 2; which++) {
            const float its_most = which == 0 ? its.x : its.z;
            const float most = fmaxf(u.most[2 * m + which], its_most);
            weight[which] = ptx_exp2(u.most[2 * m + which] - most);
            its_weight[which] = ptx_exp2(its_most - most);
            u.total[2 * m + which] =
                weight[which] * u.total[2 * m + which] + its_weight[which] * (which == 0 ? its.y : its.w);
        }
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
            const float4 sum = mine[(m * D / 8 + j) * TEAM_THREADS];
            u.sums[m][j][0] = weight[0] * u.sums[m][j][0] + its_weight[0] * sum.x;
            u.sums[m][j][1] = weight[0] * u.sums[m][j][1] + its_weight[0] * sum.y;
            u.sums[m][j][2] = weight[1] * u.sums[m][j][2] + its_weight[1] * sum.z;
            u.sums[m][j][3] = weight[1] * u.sums[m][j][3] + its_weight[1] * sum.w;
        }
    }
}

template <cdp_dtype KV, int D>
__device__ __forceinline__ void store_contexts(const attend_args &a, const prompt_place &at,
                                               const prompt_state<KV, D> &u) {
    typedef prompt_shape<KV, D> shape;
#pragma unroll
    for (int v = 0; v < shape::VECTORS; v++) {
        float total = u.total[v];
        total += __shfl_xor_sync(ALL_LANES, total, 1);
        total += __shfl_xor_sync(ALL_LANES, total, 2);
        const int vector = vector_at<shape>(at, v), row = vector / a.group;
        const int head = at.kv_head * a.group + vector % a.group;
        if (row >= a.n_rows || a.slot[row] < 0)
            continue;
        const float scale = 1.0f / total;
#pragma unroll
        for (int j = 0; j < D / 16; j++) {
            float x[4];
#pragma unroll
            for (int e = 0; e < 4; e++)
                x[e] = u.sums[v / 2][2 * j + e % 2][v % 2 * 2 + e / 2] * scale;
            store_activations(a.out, row, head * D + 16 * j + 4 * at.t, x);
        }
    }
}

/* Neighbouring rows are mostly one sequence; where they are not, a block takes one sequence after the other,
 * the others' vectors masked. The last rows of a prompt have the most keys and start first. */
template <cdp_dtype KV, int D>
__global__ static void __launch_bounds__((prompt_shape<KV, D>::THREADS), 1)
    attend_prompt_kernel(const attend_args a) {
    typedef prompt_shape<KV, D> shape;
    CDP_DYNAMIC_SHARED(uint4, shared);
    ptx_wait_previous();
    ptx_launch_next();
    const int lane = threadIdx.x % LANES, thread = threadIdx.x % TEAM_THREADS;
    const prompt_place at = {(int)threadIdx.x / TEAM_THREADS,
                             thread,
                             thread / LANES,
                             lane / QUAD,
                             lane % QUAD,
                             (int)blockIdx.y,
                             (int)(gridDim.x - 1 - blockIdx.x) * shape::BLOCK_VECTORS};
    uint4 *queries = shared + thread;
    put_queries<KV, D>(a, at, queries);
    __syncthreads();

    prompt_state<KV, D> u;
#pragma unroll
    for (int v = 0; v < shape::VECTORS; v++) {
        u.most[v] = LEAST;
        u.total[v] = 0.0f;
    }
#pragma unroll
    for (int m = 0; m < shape::TILES; m++)
#pragma unroll
        for (int j = 0; j < D / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                u.sums[m][j][i] = 0.0f;

    uint4 *stages = shared + (shape::Q_BYTES + at.team * STAGES * shape::STAGE_BYTES) / 16;
    int *lasts = reinterpret_cast<int *>(shared + shape::TILE_BYTES / 16) + at.team * shape::BLOCK_VECTORS +
                 at.warp * shape::WARP_VECTORS + at.g;
    const int end_row = min(a.n_rows, (at.begin + shape::BLOCK_VECTORS - 1) / a.group + 1);
    row_run run;
    for (int row = at.begin / a.group; row < end_row; row = run.next) {
        run = run_of(a, row, end_row);
        if (run.slot >= 0)
            attend_run<KV, D>(a, at, run, u, queries, stages, lasts);
    }
    if (shape::TEAMS == 2)
        merge_teams<KV, D>(u, at, shared);
    if (at.team == 0)
        store_contexts<KV, D>(a, at, u);
}

struct prompt_launcher {
    const attend_args &a;
    cudaStream_t stream;
    template <cdp_dtype KV, int D> cdp_status go() const {
        typedef prompt_shape<KV, D> shape;
        const unsigned n_vectors = (unsigned)a.n_rows * (unsigned)a.group;
        return CDP_LAUNCH_PDL(
            (attend_prompt_kernel<KV, D>),
            dim3((n_vectors + shape::BLOCK_VECTORS - 1) / shape::BLOCK_VECTORS, (unsigned)a.kv.n_kv_heads),
            shape::THREADS, (size_t)shape::SHARED_BYTES, stream, a);
    }
};

cdp_status cuda_attend_prompt(const attend_args &a, cudaStream_t stream) {
    return attend_with_cache(prompt_launcher{a, stream}, a.kv);
}
