/* kernels/cuda/product.cu - products of few rows with all weights of a matrix, one kernel an operation: the
 * norm before it and what follows it (product.cuh) are part of the kernel. A tile is 16 rows of weights, as 8
 * pairs that finish together.
 *
 * Bound by the weights' bytes, each read once, 16 bytes a thread. bf16 and fp16 go through tensor cores from
 * one row on: a row's bits are the same beside any other rows. Truth: ref_product() and layer.c in
 * kernels/ref; compared in tests/kernels/test_layer.c.
 */
#include "kernels/cuda/product.cuh"

enum {
    WARPS = 8,
    THREADS = WARPS * LANES,
    NARROW_WARPS = 16, /* of a block where a grid has few of them: see is_narrow() */
    NARROW_TILES = 128,
    TILE_PAIRS = 8,
    TILE_K = 32,                /* a lane's 16 bytes: 8 values of k, four lanes side by side */
    FETCH = 4,                  /* TILE_K's a warp loads ahead: 8 loads of 16 bytes in flight a thread */
    PAD = 64,                   /* bytes behind a normed row in shared memory: two rows in different banks */
    FUSED_NORM_BYTES = 33 << 10 /* normed rows a block keeps; more are normed once by a kernel of their own */
};

/* the norm before ---------------------------------------------------------------------------------------- */

/* Rows [first, first + n) of those there are normed into shared memory, row_bytes apart; ends with a barrier.
 * Every block does it again for its own rows: they come from L2, and a kernel of its own costs more. */
__device__ __forceinline__ void norm_rows(const product_args &a, int first, int n, const cuda_rows &out,
                                          float *partial) {
    for (int row = first; row < first + n && row < a.n_rows; row++) {
        norm_row<THREADS>(out, row, a.norm_in, a.norm_in_dtype, row, a.k, a.norm, a.eps, partial);
        __syncthreads();
    }
}

/* bf16 and fp16: tensor cores ---------------------------------------------------------------------------- */

/* 16 rows of weights times TILES * 8 rows of activations, for 32 values of k. The order of k inside a product
 * is free, so a lane's eight neighbouring values serve as two fragments: k 8t..8t+3 in the first, 8t+4..8t+7
 * in the second. */
template <cdp_dtype W>
__device__ __forceinline__ void multiply(float (&d)[4], uint4 first, uint4 second, uint4 x) {
    const unsigned one[4] = {first.x, second.x, first.y, second.y},
                   two[4] = {first.z, second.z, first.w, second.w};
    mma<W>(d, one, x.x, x.y);
    mma<W>(d, two, x.z, x.w);
}

/* d[row, pair] of a tile of weights, finished by `finish`.
 *
 * A block is a tile of 8 pairs and all its k: warp w takes k in steps of FETCH * TILE_K, w, w + N, ... (N
 * warps); their sums are added in the order of the warps. The weights of the next step, and of the first step
 * before the previous kernel's results are waited for, are loaded ahead. Shapes: weights (n_out, k) W, k a
 * multiple of 8; rows (n_rows, k).
 */
template <cdp_dtype W, int TILES, int N, class Finish>
__global__ static void __launch_bounds__(N *LANES, 2 * WARPS / N)
    product_tiles_kernel(const product_args a, const Finish finish) {
    enum { PARTS = W == CDP_F16 ? 2 : 1, ROWS = TILES * 8 };
    __shared__ float sums[N][ROWS][TILE_PAIRS][2], partial[N];
    CDP_DYNAMIC_SHARED(unsigned char, normed);
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES, g = lane / 4, t = lane % 4;
    const int n_steps = (a.k + FETCH * TILE_K - 1) / (FETCH * TILE_K);
    const int first_row = blockIdx.y * ROWS;

    /* Rows past the end are read as row 0 and dropped at the end: no branch in the loop. */
    const int pair = blockIdx.x * TILE_PAIRS + g, first = first_of(a, pair), second = first + a.half;
    const uint16_t *w = static_cast<const uint16_t *>(a.weights);
    const uint16_t *w_first = w + (size_t)(first < a.n_out ? first : 0) * a.k;
    const uint16_t *w_second = w + (size_t)(second < a.n_out ? second : 0) * a.k;

    const uint4 zero = make_uint4(0, 0, 0, 0);
    uint4 next[FETCH][2];
#pragma unroll
    for (int f = 0; f < FETCH; f++) {
        const int k = (warp * FETCH + f) * TILE_K + t * 8;
        next[f][0] = k < a.k ? ptx_load16_early(w_first + k) : zero;
        next[f][1] = k < a.k ? ptx_load16_early(w_second + k) : zero;
    }

    ptx_wait_previous();
    ptx_launch_next();
    cuda_rows rows = a.rows;
    if (N == WARPS && a.norm_in != NULL) {
        rows.data = normed;
        rows.row_bytes = PARTS * ((size_t)a.k * 2 + PAD);
        /* Blocks of 16 rows hardly ever begin elsewhere than at row 0, and have no register left for it. */
        norm_rows(a, TILES == 1 ? first_row : 0, TILES == 1 ? ROWS : a.n_rows, rows, partial);
    }

    float d[TILES][PARTS][4] = {};
    for (int step = warp; step < n_steps; step += N) {
        uint4 now[FETCH][2];
#pragma unroll
        for (int f = 0; f < FETCH; f++) {
            now[f][0] = next[f][0];
            now[f][1] = next[f][1];
        }
#pragma unroll
        for (int f = 0; f < FETCH; f++) {
            const int k = ((step + N) * FETCH + f) * TILE_K + t * 8;
            next[f][0] = k < a.k ? ptx_load16_nc(w_first + k) : zero;
            next[f][1] = k < a.k ? ptx_load16_nc(w_second + k) : zero;
        }
#pragma unroll
        for (int f = 0; f < FETCH; f++) {
            const int k = (step * FETCH + f) * TILE_K + t * 8;
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                const int row = first_row + tile * 8 + g;
                const bool is_there = row < a.n_rows && k < a.k;
#pragma unroll
                for (int part = 0; part < PARTS; part++)
                    multiply<W>(d[tile][part], now[f][0], now[f][1],
                                is_there ? ptx_load16(row_of(rows, row) + part * (rows.row_bytes / 2) + k * 2)
                                         : zero);
            }
        }
    }

#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float sum = PARTS == 1
                                  ? d[tile][0][i]
                                  : SPLIT_HIGH * (d[tile][0][i] + d[tile][PARTS - 1][i] * (1.0f / SPLIT_LOW));
            sums[warp][tile * 8 + 2 * t + i % 2][g][i / 2] = sum;
        }
    __syncthreads();
    for (int x = threadIdx.x; x < ROWS * TILE_PAIRS; x += N * LANES) {
        const int row = x / TILE_PAIRS, p = x % TILE_PAIRS, out = first_of(a, blockIdx.x * TILE_PAIRS + p);
        float one = 0.0f, two = 0.0f;
        for (int i = 0; i < N; i++) {
            one += sums[i][row][p][0];
            two += sums[i][row][p][1];
        }
        if (first_row + row < a.n_rows && (int)blockIdx.x * TILE_PAIRS + p < a.n_pairs && out < a.n_out)
            finish(a, first_row + row, out, one, two);
    }
}

/* fp32, and widths that are no multiple of 16 bytes ------------------------------------------------------ */

/* The same by multiply and add in f32: a warp is one pair, its lanes share out k, sums by one tree. IS_WIDE:
 * f32 weights, 16 bytes a load; else any dtype, value by value. ROWS rows a block; more rows read the weights
 * again. */
template <bool IS_WIDE, int ROWS, class Finish>
__global__ static void __launch_bounds__(THREADS)
    product_rows_kernel(const product_args a, const Finish finish) {
    __shared__ float partial[WARPS];
    CDP_DYNAMIC_SHARED(unsigned char, normed);
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int pair = blockIdx.x * WARPS + warp, first = first_of(a, pair), second = first + a.half;
    const int first_row = blockIdx.y * ROWS,
              n_here = a.n_rows - first_row < ROWS ? a.n_rows - first_row : ROWS;
    const size_t at_first = (size_t)(first < a.n_out ? first : 0) * a.k;
    const size_t at_second = (size_t)(second < a.n_out ? second : 0) * a.k;

    ptx_wait_previous();
    ptx_launch_next();
    cuda_rows rows = a.rows;
    if (a.norm_in != NULL) {
        rows.data = normed;
        rows.row_bytes = (size_t)a.k * sizeof(float) + PAD;
        norm_rows(a, first_row, ROWS, rows, partial);
    }

    float one[ROWS] = {}, two[ROWS] = {};
    if (IS_WIDE) {
        const float *w = static_cast<const float *>(a.weights);
#pragma unroll 4
        for (int k = lane * 4; k < a.k; k += LANES * 4) {
            const uint4 u = ptx_load16_nc(w + at_first + k), v = ptx_load16_nc(w + at_second + k);
            const unsigned us[4] = {u.x, u.y, u.z, u.w}, vs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                if (r >= n_here)
                    break;
                const uint4 x = ptx_load16(row_of(rows, first_row + r) + k * sizeof(float));
                const unsigned xs[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    one[r] += __uint_as_float(us[i]) * __uint_as_float(xs[i]);
                    two[r] += __uint_as_float(vs[i]) * __uint_as_float(xs[i]);
                }
            }
        }
    } else {
        for (int k = lane; k < a.k; k += LANES) {
            const float u = load(a.weights, a.dtype, at_first + k),
                        v = load(a.weights, a.dtype, at_second + k);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                if (r >= n_here)
                    break;
                const float x = load_activation(rows, first_row + r, k);
                one[r] += u * x;
                two[r] += v * x;
            }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (r >= n_here)
            break;
        const float x = warp_sum(one[r]), y = warp_sum(two[r]);
        if (lane == r && pair < a.n_pairs && first < a.n_out)
            finish(a, first_row + r, first, x, y);
    }
}

/* launchers ---------------------------------------------------------------------------------------------- */

static bool is_wide(const cdp_tensor *w) {
    return w->cols % (int)(16 / cdp_dtype_bytes(w->dtype)) == 0;
}

/* Long rows of few outputs (down of small models) make few blocks: with 8 warps a block's multiprocessor has
 * 32 KiB on their way, half of what it takes to be as fast as memory. Twice the warps share out k. By the
 * shape of the matrix and what the operation is alone: a row's bits are the same in any step. */
static bool is_narrow(const product_args &a, bool has_norm) {
    return !has_norm && a.n_pairs <= NARROW_TILES * TILE_PAIRS && a.k > WARPS * FETCH * TILE_K;
}

template <int N, class Finish>
static cdp_status launch_tiles(const product_args &a, const Finish &finish, size_t shared,
                               cudaStream_t stream) {
    const unsigned n_tiles = (unsigned)(a.n_pairs + TILE_PAIRS - 1) / TILE_PAIRS, rows = (unsigned)a.n_rows;
    const unsigned threads = N * LANES;
    if (a.dtype == CDP_BF16 && rows <= 8)
        return CDP_LAUNCH_PDL((product_tiles_kernel<CDP_BF16, 1, N, Finish>), n_tiles, threads, shared,
                              stream, a, finish);
    if (a.dtype == CDP_BF16)
        return CDP_LAUNCH_PDL((product_tiles_kernel<CDP_BF16, 2, N, Finish>), dim3(n_tiles, (rows + 15) / 16),
                              threads, shared, stream, a, finish);
    if (rows <= 8)
        return CDP_LAUNCH_PDL((product_tiles_kernel<CDP_F16, 1, N, Finish>), n_tiles, threads, shared, stream,
                              a, finish);
    return CDP_LAUNCH_PDL((product_tiles_kernel<CDP_F16, 2, N, Finish>), dim3(n_tiles, (rows + 15) / 16),
                          threads, shared, stream, a, finish);
}

template <class Finish>
static cdp_status launch_rows(const product_args &a, const Finish &finish, bool wide, size_t shared,
                              cudaStream_t stream) {
    const unsigned n_blocks = (unsigned)(a.n_pairs + WARPS - 1) / WARPS, rows = (unsigned)a.n_rows;
    if (!wide)
        return CDP_LAUNCH_PDL((product_rows_kernel<false, 4, Finish>), dim3(n_blocks, (rows + 3) / 4),
                              THREADS, shared, stream, a, finish);
    if (rows == 1)
        return CDP_LAUNCH_PDL((product_rows_kernel<true, 1, Finish>), n_blocks, THREADS, shared, stream, a,
                              finish);
    return CDP_LAUNCH_PDL((product_rows_kernel<true, 8, Finish>), dim3(n_blocks, (rows + 7) / 8), THREADS,
                          shared, stream, a, finish);
}

/* The norm goes into the kernel where its rows fit; else it runs first, once. */
template <class Finish>
static cdp_status launch(const cdp_tensor *w, int apart, const cuda_input *in, const cdp_shape *shape,
                         int n_rows, const Finish &finish, cudaStream_t stream) {
    if (n_rows == 0)
        return CDP_OK;
    product_args a = {};
    a.weights = w->data;
    a.dtype = w->dtype;
    a.n_out = w->rows;
    a.k = w->cols;
    a.half = apart;
    a.n_pairs =
        apart == TILE_PAIRS ? (w->rows + 2 * TILE_PAIRS - 1) / (2 * TILE_PAIRS) * TILE_PAIRS : w->rows / 2;
    a.n_rows = n_rows;
    a.rows = in->rows;
    a.norm = in->norm;
    a.norm_in_dtype = shape->hidden_dtype;
    a.eps = shape->norm_eps;
    const bool wide = is_wide(w);
    const bool tiles = wide && w->dtype != CDP_F32;
    const size_t value = w->dtype == CDP_BF16 && tiles ? 2 : 4,
                 row = (size_t)a.k * value + (tiles ? 2 : 1) * PAD;
    size_t shared = 0;
    if (in->norm_in != NULL && row * (size_t)n_rows <= FUSED_NORM_BYTES) {
        a.norm_in = in->norm_in;
        shared = row * (size_t)n_rows;
    } else if (in->norm_in != NULL) {
        CDP_TRY(cuda_norm(in->rows, in->norm_in, shape->hidden_dtype, in->norm, shape, n_rows, stream));
    }
    if (!tiles)
        return launch_rows(a, finish, wide, shared, stream);
    return is_narrow(a, in->norm_in != NULL) ? launch_tiles<NARROW_WARPS>(a, finish, shared, stream)
                                             : launch_tiles<WARPS>(a, finish, shared, stream);
}

extern "C" cdp_status cuda_product(float *out, int out_cols, const cdp_tensor *w, const float *bias,
                                   float scale, const cuda_input *in, const cdp_shape *shape, int n_rows,
                                   cudaStream_t stream) {
    const finish_store finish = {out, bias, scale, out_cols};
    return launch(w, TILE_PAIRS, in, shape, n_rows, finish, stream);
}

extern "C" cdp_status cuda_product_add(void *hidden, const cdp_tensor *w, const float *bias,
                                       const cuda_input *in, const cdp_shape *shape, int n_rows,
                                       cudaStream_t stream) {
    const finish_add finish = {hidden, shape->hidden_dtype, bias, shape->residual_scale};
    return launch(w, TILE_PAIRS, in, shape, n_rows, finish, stream);
}

extern "C" bool cuda_can_fuse_qkv(const cdp_shape *shape, const cdp_layer *layer) {
    return shape->head_norm == CDP_HEAD_NORM_NONE && shape->head_dim % 2 == 0 &&
           (!layer->has_rope || shape->rope_dim == shape->head_dim);
}

extern "C" cdp_status cuda_product_qkv(const cdp_layer *layer, const cuda_input *in, const cdp_shape *shape,
                                       const cdp_step_view *step, const cdp_buffers *buffers,
                                       cudaStream_t stream) {
    const finish_qkv finish = {kv_cache_of(shape, layer, buffers),
                               buffers->qkv,
                               static_cast<const float *>(layer->qkv_bias.data),
                               layer->has_rope ? buffers->rope : NULL,
                               step->slot,
                               step->position,
                               shape->n_heads,
                               (shape->n_heads + 2 * shape->n_kv_heads) * shape->head_dim,
                               shape->hidden_dtype == CDP_BF16};
    return launch(&layer->qkv, shape->head_dim / 2, in, shape, step->n_rows, finish, stream);
}

extern "C" cdp_status cuda_product_gate_up(cuda_rows out, const cdp_layer *layer, const cuda_input *in,
                                           const cdp_shape *shape, int n_rows, cudaStream_t stream) {
    const finish_silu finish = {out, static_cast<const float *>(layer->gate_up_bias.data)};
    return launch(&layer->gate_up, shape->ffn, in, shape, n_rows, finish, stream);
}
