/* bench_gpu [SHAPE...]: what the operations of the CUDA device reach on whole models with random weights.
 *
 *     # copy 3012.4 GB/s, matrix 712.3 TFLOP/s
 *     8B   op=gate_up  rows=1    us=81.4   share=0.93 copy
 *     8B   op=gate_up  rows=512  us=210.1  share=0.81 matrix
 *     8B   decode      batch=1   ctx=512   tokens/s=182.1  share=0.91 copy
 *     8B   decode      batch=1   ctx=512   tokens/s=171.0  share=0.86 copy, no kernel begins early
 *     8B   prefill     tokens=4096 chunk=512 tokens/s=31022 share=0.78 matrix
 *
 * Timed: the operation queued once for each layer, so that weights come from memory and not from the cache;
 * one warm-up turn, then the median of five turns. A share is bytes of weights and KV a second by the
 * measured copy, or products' operations by cuBLASLt's bf16 product of three sides of 8192. Decoding is
 * replayed from its graph and holds head and embedding, as does a prompt's last chunk; sampling and transport
 * are not in it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/device.h"
#include "kernels/cuda/early.h"
#include "kernels/cuda/inside.h"
#include "tests/gpu/fill.h"

enum {
    TURNS = 5,
    CTX = 4096 + 64,
    CHUNK = 512, /* what runs take without --chunk */
    LONG_CHUNK = 2048,
    ROWS = LONG_CHUNK, /* of the buffers */
    MOST_BATCH = 16,
    MOST_LAYERS = 64
};

typedef struct bench_shape {
    const char *name;
    int hidden, n_heads, n_kv_heads, head_dim, ffn, layers, vocab;
    bool is_tied;
} bench_shape;

static const bench_shape shapes[] = {
    {"tiny", 64, 4, 2, 16, 128, 2, 256, true}, /* for the stand-in */
    {"135M", 576, 9, 3, 64, 1536, 30, 49152, true},
    {"1.24B", 2048, 32, 8, 64, 8192, 16, 128256, true},
    {"8B", 4096, 32, 8, 128, 14336, 32, 128256, false},
};

typedef struct bench_model {
    const bench_shape *s;
    cdp_device *device;
    const cdp_ops *ops;
    cdp_shape shape;
    cdp_layer layers[MOST_LAYERS];
    cdp_vocab_weights vocab;
    cdp_buffers buffers;
    double inv[128];
    int32_t *arrays; /* (5, ROWS) on the device */
    int32_t *host;   /* the same, pinned */
    void *hidden;
    float *logits;
    cdp_step_view view;
    uint32_t seed;
    double copy, matrix; /* ceilings */
    double weight_bytes; /* of the layers and the head */
    bool is_plain;       /* no kernel begins before the one ahead of it is done (kernels/cuda/early.h) */
} bench_model;

/* Every failure of the device is the end of this shape. */
#define CHECKED(call)                                                                                        \
    do {                                                                                                     \
        if ((call) != CDP_OK) {                                                                              \
            printf("%s: FAILED: %s\n", m->s->name, cdp_error_message());                                     \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static void *take(bench_model *m, size_t n_bytes) {
    void *memory = NULL;
    CHECKED(cdp_device_alloc(m->device, &memory, n_bytes));
    return memory;
}

static cdp_tensor tensor(bench_model *m, cdp_dtype dtype, int rows, int cols, float around) {
    cdp_tensor t = {take(m, (size_t)rows * (size_t)cols * cdp_dtype_bytes(dtype)), dtype, rows, cols, NULL};
    const float by = around != 0 ? 0.1f : 1.0f / sqrtf((float)cols);
    CHECKED(fill_tensor(&t, around, by, ++m->seed, cdp_cuda_stream(m->device)));
    if (dtype != CDP_F32)
        m->weight_bytes += (double)rows * (double)cols * 2;
    return t;
}

static void make_layer(bench_model *m, cdp_layer *l) {
    const bench_shape *s = m->s;
    const int q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    *l = (cdp_layer){.attn_norm = tensor(m, CDP_F32, 1, s->hidden, 1),
                     .qkv = tensor(m, CDP_BF16, q + 2 * kv, s->hidden, 0),
                     .attn_out = tensor(m, CDP_BF16, s->hidden, q, 0),
                     .ffn_norm = tensor(m, CDP_F32, 1, s->hidden, 1),
                     .gate_up = tensor(m, CDP_BF16, 2 * s->ffn, s->hidden, 0),
                     .down = tensor(m, CDP_BF16, s->hidden, s->ffn, 0),
                     .has_rope = true};
    /* MOST_BATCH sequences of 512, or one of CTX. */
    l->kv = take(m, (size_t)(MOST_BATCH * 40 + CTX / CDP_BLOCK_TOKENS) * m->ops->kv_block_bytes(&m->shape));
}

static void make_buffers(bench_model *m) {
    const bench_shape *s = m->s;
    const size_t width = (size_t)((s->n_heads + 2 * s->n_kv_heads) * s->head_dim), slots = MOST_BATCH + 1;
    const int max_blocks = CTX / CDP_BLOCK_TOKENS;
    m->buffers = (cdp_buffers){.rows = ROWS,
                               .normed = take(m, ROWS * (size_t)s->hidden * 4),
                               .qkv = take(m, ROWS * width * 4),
                               .context = take(m, ROWS * (size_t)(s->n_heads * s->head_dim) * 4),
                               .ffn = take(m, ROWS * 2 * (size_t)s->ffn * 4),
                               .rope = take(m, ROWS * (size_t)(s->head_dim + 2) * 4),
                               .tables = take(m, slots * (size_t)max_blocks * 4),
                               .max_blocks = max_blocks};
    int32_t *tables = calloc(slots * (size_t)max_blocks, 4);
    for (int slot = 0; slot < MOST_BATCH; slot++)
        for (int i = 0; i < 40; i++)
            tables[slot * max_blocks + i] = slot * 40 + i;
    for (int i = 0; i < max_blocks; i++)
        tables[MOST_BATCH * max_blocks + i] = MOST_BATCH * 40 + i;
    CHECKED(cdp_device_copy_in(m->device, m->buffers.tables, tables, slots * (size_t)max_blocks * 4));
    cdp_device_drain(m->device);
    free(tables);
    m->hidden = take(m, ROWS * (size_t)s->hidden * 4);
    m->logits = take(m, MOST_BATCH * (size_t)s->vocab * 4);
    m->arrays = take(m, (size_t)5 * ROWS * 4);
    CHECKED(cdp_device_host_alloc(m->device, (void **)&m->host, (size_t)5 * ROWS * 4));
}

static bool is_tiny(const bench_shape *s) {
    return strcmp(s->name, "tiny") == 0;
}

static void make_model(bench_model *m, const bench_shape *s) {
    m->s = s;
    CHECKED(cdp_device_open_cuda(&m->device, &(cdp_cuda_options){.index = 0}));
    m->ops = cdp_device_ops(m->device);
    m->copy = m->matrix = 1e12; /* emulated ceilings would say nothing, and take long */
    if (!is_tiny(s))
        CHECKED(cdp_device_measure(m->device, CDP_BF16, &m->copy, &m->matrix));
    for (int i = 0; i < s->head_dim / 2; i++)
        m->inv[i] = pow(500000.0, -2.0 * i / s->head_dim);
    m->shape = (cdp_shape){.hidden = s->hidden,
                           .n_heads = s->n_heads,
                           .n_kv_heads = s->n_kv_heads,
                           .head_dim = s->head_dim,
                           .ffn = s->ffn,
                           .vocab = s->vocab,
                           .hidden_dtype = CDP_BF16,
                           .kv_dtype = CDP_BF16,
                           .norm_eps = 1e-5f,
                           .attn_scale = 1.0f / sqrtf((float)s->head_dim),
                           .embed_scale = 1,
                           .residual_scale = 1,
                           .logit_scale = 1,
                           .rope_dim = s->head_dim,
                           .rope_inv = {m->inv, m->inv},
                           .rope_factor = {1, 1}};
    for (int i = 0; i < s->layers; i++)
        make_layer(m, &m->layers[i]);
    const double layers_only = m->weight_bytes;
    m->vocab.embed = tensor(m, CDP_BF16, s->vocab, s->hidden, 0);
    m->vocab.final_norm = tensor(m, CDP_F32, 1, s->hidden, 1);
    m->vocab.head = m->vocab.embed;
    if (!s->is_tied)
        m->vocab.head = tensor(m, CDP_BF16, s->vocab, s->hidden, 0);
    m->weight_bytes = layers_only + 2.0 * s->vocab * s->hidden;
    make_buffers(m);
}

/* A step of n rows: one row of each of n sequences at `position`, or a chunk of the long sequence from there
 * on. */
static void set_step(bench_model *m, int n, int position, bool is_chunk) {
    for (int i = 0; i < n; i++) {
        m->host[i] = is_chunk ? MOST_BATCH : i;
        m->host[ROWS + i] = is_chunk ? position + i : position;
        m->host[2 * ROWS + i] = (i * 31 + position) % m->s->vocab;
        m->host[3 * ROWS + i] = 0;
        m->host[4 * ROWS + i] = i;
    }
    CHECKED(cdp_device_copy_in(m->device, m->arrays, m->host, (size_t)5 * ROWS * 4));
    cdp_device_drain(m->device);
    m->view = (cdp_step_view){.n_rows = n,
                              .n_home = is_chunk ? 1 : n,
                              .slot = m->arrays,
                              .position = m->arrays + ROWS,
                              .token = m->arrays + 2 * ROWS,
                              .rope_list = m->arrays + 3 * ROWS,
                              .home = m->arrays + 4 * ROWS,
                              .hidden = m->hidden};
}

typedef cdp_status layer_op(cdp_device *device, const cdp_shape *shape, const cdp_layer *layer,
                            const cdp_step_view *step, const cdp_buffers *buffers);

static cdp_status queue_layers(bench_model *m) {
    CDP_TRY(m->ops->rope(m->device, &m->shape, &m->view, &m->buffers));
    for (int i = 0; i < m->s->layers; i++) {
        const cdp_layer *l = &m->layers[i];
        CDP_TRY(m->ops->qkv(m->device, &m->shape, l, &m->view, &m->buffers));
        CDP_TRY(m->ops->attend(m->device, &m->shape, l, &m->view, &m->buffers));
        CDP_TRY(m->ops->attn_out(m->device, &m->shape, l, &m->view, &m->buffers));
        CDP_TRY(m->ops->gate_up(m->device, &m->shape, l, &m->view, &m->buffers));
        CDP_TRY(m->ops->down(m->device, &m->shape, l, &m->view, &m->buffers));
    }
    return CDP_OK;
}

/* NULL: the whole step, embedding and head included, as a stage runs it. */
static void run_once(bench_model *m, layer_op *op) {
    if (op != NULL) {
        for (int i = 0; i < m->s->layers; i++)
            CHECKED(op(m->device, &m->shape, &m->layers[i], &m->view, &m->buffers));
        return;
    }
    bool is_replayed = false, is_queued = true;
    const void *const owner = m->is_plain ? (const void *)&m->is_plain : m; /* of recorded steps */
    CHECKED(m->ops->embed(m->device, &m->shape, &m->vocab, &m->view));
    CHECKED(m->ops->record_begin(m->device, owner, &m->view, &is_replayed));
    if (!is_replayed)
        CHECKED(m->ops->record_end(m->device, queue_layers(m), &is_queued));
    if (!is_queued) {
        printf("%s: FAILED: steps of %d rows cannot be recorded, and are queued launch by launch\n",
               m->s->name, m->view.n_rows);
        CHECKED(queue_layers(m));
    }
    if (m->view.n_home > 0)
        CHECKED(m->ops->logits(m->device, &m->shape, &m->vocab, m->hidden, m->view.n_home, &m->buffers,
                               m->buffers.normed, m->logits));
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of `repeat` runs: the median turn. */
static double time_of(bench_model *m, layer_op *op, int repeat) {
    double seconds[TURNS];
    for (int i = 0; i < 3; i++) /* plainly, while recording, replayed */
        run_once(m, op);
    cdp_device_drain(m->device);
    for (int turn = 0; turn < TURNS; turn++) {
        const int64_t began = cdp_now_ns();
        for (int i = 0; i < repeat; i++)
            run_once(m, op);
        cdp_device_drain(m->device);
        CHECKED(cdp_device_check(m->device));
        seconds[turn] = 1e-9 * (double)(cdp_now_ns() - began);
    }
    qsort(seconds, TURNS, sizeof seconds[0], ascending);
    return seconds[TURNS / 2];
}

/* Bytes of one sequence's cache up to a position, in one layer. */
static double kv_bytes(const bench_model *m, int n) {
    return 4.0 * n * m->s->n_kv_heads * m->s->head_dim;
}

static void time_ops(bench_model *m, int rows, int position, bool is_chunk) {
    const bench_shape *s = m->s;
    const double q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim, d = s->hidden, f = s->ffn;
    const struct {
        const char *name;
        layer_op *op;
        double weights, attended; /* elements of the matrices; keys a row looks at */
    } ops[] = {{"qkv", m->ops->qkv, (q + 2 * kv) * d, 0},
               {"attend", m->ops->attend, 0, is_chunk ? position + rows / 2.0 : position + 1},
               {"attn_out", m->ops->attn_out, q * d, 0},
               {"gate_up", m->ops->gate_up, 2 * f * d, 0},
               {"down", m->ops->down, f * d, 0}};
    set_step(m, rows, position, is_chunk);
    run_once(m, NULL);
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        const double one = time_of(m, ops[i].op, 2) / (2.0 * s->layers);
        const double bytes = 2 * ops[i].weights + (ops[i].weights > 0 ? 0 : rows * kv_bytes(m, position + 1));
        const double flop = 2 * rows * ops[i].weights + 4 * rows * q * ops[i].attended;
        const bool by_bytes = rows <= MOST_BATCH;
        printf("%-6s op=%-9s rows=%-5d us=%-9.2f share=%.3f %s\n", s->name, ops[i].name, rows, 1e6 * one,
               by_bytes ? bytes / one / m->copy : flop / one / m->matrix, by_bytes ? "copy" : "matrix");
        fflush(stdout);
    }
}

static void time_decode(bench_model *m, int batch, int position) {
    set_step(m, batch, position, batch == 1 && position >= 600);
    const double step = time_of(m, NULL, 4) / 4;
    const double bytes = m->weight_bytes + batch * m->s->layers * kv_bytes(m, position);
    printf("%-6s decode  batch=%-3d ctx=%-5d tokens/s=%-9.1f share=%.3f copy%s\n", m->s->name, batch,
           position, batch / step, bytes / step / m->copy, m->is_plain ? ", no kernel begins early" : "");
    fflush(stdout);
}

static void time_prefill(bench_model *m, int n, int chunk) {
    double seconds = 0, flop = 0;
    for (int at = 0; at < n; at += chunk) {
        set_step(m, chunk, at, true);
        m->view.n_home = at + chunk >= n; /* only the last row of the prompt wants logits */
        seconds += time_of(m, NULL, 1);
        flop += chunk * (m->weight_bytes - 2.0 * m->s->vocab * m->s->hidden) +
                4.0 * chunk * m->s->layers * m->s->n_heads * m->s->head_dim * (at + chunk / 2.0);
    }
    printf("%-6s prefill tokens=%d chunk=%d tokens/s=%-9.0f share=%.3f matrix\n", m->s->name, n, chunk,
           n / seconds, flop / seconds / m->matrix);
    fflush(stdout);
}

static void bench(const bench_shape *s) {
    bench_model *m = calloc(1, sizeof *m);
    make_model(m, s);
    printf("# %s: copy %.1f GB/s, matrix %.1f TFLOP/s\n", s->name, m->copy * 1e-9, m->matrix * 1e-12);
    time_ops(m, 1, is_tiny(s) ? 20 : 511, false);
    if (!is_tiny(s)) {
        time_ops(m, MOST_BATCH, 511, false);
        time_ops(m, CHUNK, 2048, true);
        time_decode(m, 1, 4000);
        time_prefill(m, 4096, CHUNK);
        time_prefill(m, 4096, LONG_CHUNK);
        time_decode(m, MOST_BATCH, 512);
    }
    for (int i = 0; i < 2; i++) {
        m->is_plain = i == 1;
        cdp_launch_early(!m->is_plain);
        time_decode(m, 1, is_tiny(s) ? 20 : 512);
    }
    cdp_launch_early(true);
    cdp_device_host_free(m->device, m->host);
    cdp_device_close(m->device); /* its buffers go with the process */
    free(m);
}

int main(int argc, char **argv) {
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess) {
        printf("no GPU: %s\n", cudaGetErrorString(cudaGetLastError()));
        return 77;
    }
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int k = 1; k < argc; k++)
            if (strcmp(argv[k], shapes[i].name) == 0)
                bench(&shapes[i]);
    return 0;
}
