/* kernels/cuda/move.cu - operations that move bytes: embedding, picked rows, rope tables, block commands.
 * Truth: kernels/cpu/move.c and rope_job() in kernels/ref/layer.c.
 */
#include "kernels/cuda/values.cuh"

enum { THREADS = 256 };

/* hidden[r, i] = R1(embed[token[r], i] * scale); one block a row, bound by the row's bytes. Padding rows hold
 * token 0. */
__global__ static void embed_kernel(void *hidden, cdp_dtype hidden_dtype, const void *embed, cdp_dtype dtype,
                                    const int32_t *token, int n, float scale) {
    ptx_wait_previous();
    ptx_launch_next();
    const size_t from = (size_t)token[blockIdx.x] * n, to = (size_t)blockIdx.x * n;
    for (int i = threadIdx.x; i < n; i += THREADS)
        store(hidden, hidden_dtype, to + i, load(embed, dtype, from + i) * scale);
}

extern "C" cdp_status cuda_embed(const cdp_shape *shape, const cdp_tensor *embed, const cdp_step_view *step,
                                 cudaStream_t stream) {
    if (step->n_rows == 0)
        return CDP_OK;
    return CDP_LAUNCH_PDL(embed_kernel, (unsigned)step->n_rows, THREADS, 0, stream, step->hidden,
                          shape->hidden_dtype, embed->data, embed->dtype, step->token, shape->hidden,
                          shape->embed_scale);
}

/* picked[r] = hidden[home[r]]; one block a row of n_words 16-bit words. */
__global__ static void pick_kernel(uint16_t *picked, const uint16_t *hidden, const int32_t *home,
                                   int n_words) {
    ptx_wait_previous();
    ptx_launch_next();
    const uint16_t *from = hidden + (size_t)home[blockIdx.x] * n_words;
    for (int i = threadIdx.x; i < n_words; i += THREADS)
        picked[(size_t)blockIdx.x * n_words + i] = from[i];
}

extern "C" cdp_status cuda_pick(const cdp_shape *shape, const cdp_step_view *step, void *picked,
                                cudaStream_t stream) {
    if (step->n_home == 0)
        return CDP_OK;
    const int n_words = shape->hidden * (int)(cdp_dtype_bytes(shape->hidden_dtype) / sizeof(uint16_t));
    return CDP_LAUNCH_PDL(pick_kernel, (unsigned)step->n_home, THREADS, 0, stream,
                          static_cast<uint16_t *>(picked), static_cast<const uint16_t *>(step->hidden),
                          step->home, n_words);
}

/* Radians per position of one launch, by value: they lie in the model card on the host. */
enum { ROPE_PAIRS = 128 };
typedef struct rope_args {
    double inv[2][ROPE_PAIRS];
    float factor[2];
    int first, n, half; /* pairs [first, first + n) of half */
} rope_args;

/* rope[r, 0, i] = cos(position * inv_i) * factor, rope[r, 1, i] = sin: angles in double, as in ref. One block
 * a row. */
__global__ static void rope_kernel(float *rope, const int32_t *position, const int32_t *list,
                                   const rope_args a) {
    ptx_wait_previous();
    ptx_launch_next();
    const int l = list[blockIdx.x];
    float *cosine = rope + (size_t)blockIdx.x * 2 * a.half + a.first, *sine = cosine + a.half;
    for (int i = threadIdx.x; i < a.n; i += ROPE_PAIRS) {
        const double angle = position[blockIdx.x] * a.inv[l][i];
        cosine[i] = (float)cos(angle) * a.factor[l];
        sine[i] = (float)sin(angle) * a.factor[l];
    }
}

extern "C" cdp_status cuda_rope(const cdp_shape *shape, const cdp_step_view *step, float *rope,
                                cudaStream_t stream) {
    const int n_pairs = shape->rope_dim / 2;
    for (int first = 0; step->n_rows > 0 && first < n_pairs; first += ROPE_PAIRS) {
        rope_args a = {};
        a.first = first;
        a.n = n_pairs - first < ROPE_PAIRS ? n_pairs - first : ROPE_PAIRS;
        a.half = n_pairs;
        for (int list = 0; list < 2; list++) {
            a.factor[list] = shape->rope_factor[list];
            for (int i = 0; i < a.n; i++)
                a.inv[list][i] = shape->rope_inv[list][first + i];
        }
        CDP_TRY(CDP_LAUNCH_PDL(rope_kernel, (unsigned)step->n_rows, ROPE_PAIRS, 0, stream, rope,
                               step->position, step->rope_list, a));
    }
    return CDP_OK;
}

/* APPEND: table[slot][index] = block, in the order of the commands. One block; a thread owns every THREADS-th
 * slot and walks all commands, so that the later of two appends to a place is the one that stays. */
__global__ static void append_kernel(int32_t *tables, int max_blocks, const cdp_kv_command *commands, int n) {
    ptx_wait_previous();
    ptx_launch_next();
    for (int c = 0; c < n; c++) {
        const cdp_kv_command command = commands[c];
        if (command.verb == CDP_KV_APPEND && command.slot % THREADS == (int)threadIdx.x)
            tables[(size_t)command.slot * max_blocks + command.index] = command.block;
    }
}

/* COPY: block `from` to `block`, in each layer. Blocks of the grid share out the words of a KV block, y the
 * layers; a thread walks all commands over its words, so that a chain of copies stays in order. */
enum { COPY_LAYERS = 64, COPY_BLOCKS = 8 };
typedef struct copy_args {
    void *kv[COPY_LAYERS];
    uint64_t block_words; /* 16 bits each */
} copy_args;

__global__ static void copy_kernel(const copy_args a, const cdp_kv_command *commands, int n) {
    ptx_wait_previous();
    ptx_launch_next();
    uint16_t *kv = static_cast<uint16_t *>(a.kv[blockIdx.y]);
    for (int c = 0; c < n; c++) {
        const cdp_kv_command command = commands[c];
        if (command.verb != CDP_KV_COPY)
            continue;
        const uint16_t *from = kv + (size_t)command.from * a.block_words;
        uint16_t *to = kv + (size_t)command.block * a.block_words;
        for (uint64_t i = blockIdx.x * THREADS + threadIdx.x; i < a.block_words; i += COPY_BLOCKS * THREADS)
            to[i] = from[i];
    }
}

extern "C" cdp_status cuda_kv_update(uint64_t block_bytes, const cdp_layer *layers, int n_layers,
                                     const cdp_kv_command *commands, int n_commands,
                                     const cdp_buffers *buffers, cudaStream_t stream) {
    if (n_commands == 0)
        return CDP_OK;
    CDP_TRY(CDP_LAUNCH_PDL(append_kernel, 1, THREADS, 0, stream, buffers->tables, buffers->max_blocks,
                           commands, n_commands));
    for (int first = 0; first < n_layers; first += COPY_LAYERS) {
        const int n = n_layers - first < COPY_LAYERS ? n_layers - first : COPY_LAYERS;
        copy_args a = {};
        a.block_words = block_bytes / sizeof(uint16_t);
        for (int i = 0; i < n; i++)
            a.kv[i] = layers[first + i].kv;
        CDP_TRY(CDP_LAUNCH_PDL(copy_kernel, dim3(COPY_BLOCKS, (unsigned)n), THREADS, 0, stream, a, commands,
                               n_commands));
    }
    return CDP_OK;
}
