#include "tests/support/layer_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/device.h"
#include "tests/support/random.h"

enum { SLOTS = TEST_LAYER_SLOTS, MAX_BLOCKS = TEST_LAYER_BLOCKS, MAX_ROWS = TEST_LAYER_ROWS };

#define NONE CDP_HEAD_NORM_NONE
#define EACH CDP_HEAD_NORM_EACH
#define ALL CDP_HEAD_NORM_ALL
const layer_spec test_layer_specs[] = {
    /* name, hidden, heads, kv heads, head_dim, ffn, vocab, rope, window, weights, cache, q/k norm, bias,
       norms */
    {"bf16_gqa", 64, 4, 2, 16, 136, 97, 16, 0, CDP_BF16, CDP_BF16, NONE, false, true, false, 1},
    {"f32_gqa", 64, 4, 2, 16, 136, 97, 16, 0, CDP_F32, CDP_F32, NONE, false, true, false, 1},
    {"f16_gqa", 64, 4, 2, 16, 136, 97, 16, 0, CDP_F16, CDP_F16, NONE, false, true, false, 1},
    {"one_vector", 16, 1, 1, 16, 16, 16, 16, 0, CDP_F32, CDP_F32, NONE, false, true, false, 1},
    {"one_more", 17, 1, 1, 18, 17, 33, 18, 0, CDP_F32, CDP_F32, NONE, false, true, false, 1},
    {"one_less", 15, 3, 3, 14, 31, 31, 6, 0, CDP_BF16, CDP_BF16, NONE, true, true, false, 1},
    {"odd_heads", 63, 9, 3, 22, 65, 130, 22, 0, CDP_F32, CDP_F32, EACH, false, true, false, 1},
    {"window_cuts_a_block", 48, 6, 2, 8, 40, 50, 8, 20, CDP_F32, CDP_BF16, NONE, true, true, false, 1},
    {"norms_after", 64, 4, 2, 16, 72, 64, 16, 0, CDP_F32, CDP_F32, ALL, false, false, true, 1},
    {"no_rope_scaled", 64, 4, 4, 24, 72, 64, 0, 16, CDP_BF16, CDP_BF16, NONE, false, true, false, 0.6f},
    {"heads_32_norm_each", 64, 4, 2, 32, 72, 64, 32, 16, CDP_BF16, CDP_BF16, EACH, false, true, false, 1},
    {"heads_64_partial_rope", 96, 3, 1, 64, 88, 40, 32, 0, CDP_BF16, CDP_BF16, NONE, true, true, false, 1},
    {"heads_80_norms_after", 64, 2, 2, 80, 40, 24, 80, 33, CDP_BF16, CDP_BF16, ALL, false, false, true, 1},
    {"heads_96_f16", 72, 4, 1, 96, 40, 24, 96, 0, CDP_F16, CDP_F16, NONE, true, true, false, 1},
    {"heads_128", 128, 2, 1, 128, 68, 24, 128, 40, CDP_BF16, CDP_BF16, NONE, false, true, false, 1},
    {"heads_256_f16_cache", 64, 1, 1, 256, 40, 24, 256, 0, CDP_BF16, CDP_F16, NONE, false, true, false, 1},
    {"heads_256", 32, 2, 1, 256, 40, 24, 256, 40, CDP_BF16, CDP_BF16, NONE, false, true, false, 1},
    {"twenty_heads_one_kv", 44, 20, 1, 32, 40, 24, 32, 0, CDP_BF16, CDP_BF16, NONE, false, true, false, 1},
    {"f16_f32_cache", 64, 4, 2, 16, 72, 40, 16, 0, CDP_F16, CDP_F32, NONE, true, true, false, 1},
    {"f16_odd_width", 30, 2, 1, 16, 33, 40, 16, 0, CDP_F16, CDP_BF16, EACH, true, true, true, 1},
};
const int test_n_layer_specs = sizeof test_layer_specs / sizeof test_layer_specs[0];

static void *grab(layer_case *c, size_t n_bytes) {
    void *memory = NULL;
    assert_int_equal(cdp_device_alloc(c->device, &memory, n_bytes), CDP_OK);
    return memory;
}

static void upload(const layer_case *c, void *to, const void *from, size_t n_bytes) {
    assert_int_equal(cdp_device_copy_in(c->device, to, from, n_bytes), CDP_OK);
    cdp_device_drain(c->device);
}

static void download(const layer_case *c, void *to, const void *from, size_t n_bytes) {
    assert_int_equal(cdp_device_copy_out(c->device, to, from, n_bytes), CDP_OK);
    cdp_device_drain(c->device);
}

static cdp_tensor weight(layer_case *c, test_random *r, cdp_dtype dtype, int rows, int cols, float around) {
    const size_t n = (size_t)rows * (size_t)cols, n_bytes = n * cdp_dtype_bytes(dtype);
    const cdp_tensor t = {grab(c, n_bytes), dtype, rows, cols, NULL};
    void *values = malloc(n_bytes);
    for (size_t i = 0; i < n; i++)
        cdp_store(values, dtype, i, around + test_random_signed(r) * (around != 0 ? 0.3f : 0.25f));
    upload(c, t.data, values, n_bytes);
    free(values);
    return t;
}

static cdp_tensor vector(layer_case *c, test_random *r, bool is_there, int n, float around) {
    return is_there ? weight(c, r, CDP_F32, 1, n, around) : (cdp_tensor){0};
}

static void fill_layer(layer_case *c, test_random *r) {
    const layer_spec *s = c->spec;
    const int q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    const bool each = s->head_norm == EACH, normed = s->head_norm != NONE;
    c->layer = (cdp_layer){
        .attn_norm = vector(c, r, s->norm_before, s->hidden, 1),
        .qkv = weight(c, r, s->dtype, q + 2 * kv, s->hidden, 0),
        .qkv_bias = vector(c, r, s->has_bias, q + 2 * kv, 0),
        .q_norm = vector(c, r, normed, each ? s->head_dim : q, 1),
        .k_norm = vector(c, r, normed, each ? s->head_dim : kv, 1),
        .attn_out = weight(c, r, s->dtype, s->hidden, q, 0),
        .attn_out_bias = vector(c, r, s->has_bias, s->hidden, 0),
        .attn_post_norm = vector(c, r, s->norm_after, s->hidden, 1),
        .ffn_norm = vector(c, r, s->norm_before, s->hidden, 1),
        .gate_up = weight(c, r, s->dtype, 2 * s->ffn, s->hidden, 0),
        .gate_up_bias = vector(c, r, s->has_bias, 2 * s->ffn, 0),
        .down = weight(c, r, s->dtype, s->hidden, s->ffn, 0),
        .down_bias = vector(c, r, s->has_bias, s->hidden, 0),
        .ffn_post_norm = vector(c, r, s->norm_after, s->hidden, 1),
        .window = s->window,
        .has_rope = s->rope_dim > 0,
        .kv = grab(c, SLOTS * MAX_BLOCKS * c->ops->kv_block_bytes(&c->shape)),
    };
    c->vocab.embed = weight(c, r, s->dtype, s->vocab, s->hidden, 0);
    c->vocab.final_norm = vector(c, r, true, s->hidden, 1);
    c->vocab.head = c->vocab.embed;
}

/* NaN in every dtype: what stale memory may hold, and nobody may read. */
static void poison(const layer_case *c, void *memory, size_t n_bytes) {
    void *nans = malloc(n_bytes);
    memset(nans, 0xFF, n_bytes);
    upload(c, memory, nans, n_bytes);
    free(nans);
}

static void poison_cache(const layer_case *c) {
    poison(c, c->layer.kv, SLOTS * MAX_BLOCKS * c->ops->kv_block_bytes(&c->shape));
}

/* Whatever an operation leaves unwritten shows, even where the run before would have left the right values.
 */
static void poison_results(const layer_case *c) {
    const size_t rows = MAX_ROWS * sizeof(float), q = (size_t)(c->spec->n_heads * c->spec->head_dim);
    const size_t kv = (size_t)(c->spec->n_kv_heads * c->spec->head_dim);
    poison(c, c->buf.normed, rows * (size_t)c->spec->hidden);
    poison(c, c->buf.qkv, rows * (q + 2 * kv));
    poison(c, c->buf.context, rows * q);
    poison(c, c->buf.ffn, rows * 2 * (size_t)c->spec->ffn);
    poison(c, c->hidden, rows * (size_t)c->spec->hidden);
    poison(c, c->device_logits, rows * (size_t)c->spec->vocab);
    poison(c, c->device_bare, rows * (size_t)c->spec->vocab);
}

static void open_buffers(layer_case *c) {
    const layer_spec *s = c->spec;
    const size_t width = (size_t)((s->n_heads + 2 * s->n_kv_heads) * s->head_dim), rows = MAX_ROWS;
    const size_t q = (size_t)(s->n_heads * s->head_dim), hidden = (size_t)s->hidden;
    const size_t ffn = (size_t)s->ffn, vocab = (size_t)s->vocab;
    c->buf = (cdp_buffers){.rows = (int)rows,
                           .normed = grab(c, rows * hidden * 4),
                           .qkv = grab(c, rows * width * 4),
                           .context = grab(c, rows * q * 4),
                           .ffn = grab(c, rows * 2 * ffn * 4),
                           .rope = grab(c, rows * (size_t)(s->rope_dim + 2) * 4),
                           .packed = grab(c, rows * 1024 * 2), /* more than the longest input */
                           .tables = grab(c, SLOTS * MAX_BLOCKS * 4),
                           .max_blocks = MAX_BLOCKS};
    c->arrays = grab(c, sizeof c->host_arrays);
    c->hidden = grab(c, rows * hidden * 4);
    c->device_logits = grab(c, rows * vocab * 4);
    c->device_bare = grab(c, rows * vocab * 4);
    c->logits_scratch = grab(c, rows * hidden * 4);
    c->context = calloc(rows * q, 4);
    c->ffn = calloc(rows * ffn, 4);
    c->states = calloc(rows * hidden, 4);
    c->logits = calloc(rows * vocab, 4);
    c->bare = calloc(rows * vocab, 4);
    int32_t tables[SLOTS * MAX_BLOCKS];
    for (int i = 0; i < SLOTS * MAX_BLOCKS; i++) /* scattered: block numbers must be followed, not guessed */
        tables[i] = (i * 7) % (SLOTS * MAX_BLOCKS);
    upload(c, c->buf.tables, tables, sizeof tables);
}

layer_case *test_layer_open(const layer_spec *spec, cdp_device *device) {
    layer_case *c = calloc(1, sizeof *c);
    c->device = device;
    c->ops = cdp_device_ops(device);
    c->spec = spec;
    for (int i = 0; i < spec->rope_dim / 2; i++)
        c->inv[i] = pow(10000.0, -2.0 * i / spec->rope_dim);
    c->shape = (cdp_shape){.hidden = spec->hidden,
                           .n_heads = spec->n_heads,
                           .n_kv_heads = spec->n_kv_heads,
                           .head_dim = spec->head_dim,
                           .ffn = spec->ffn,
                           .vocab = spec->vocab,
                           .hidden_dtype = spec->dtype == CDP_BF16 ? CDP_BF16 : CDP_F32,
                           .kv_dtype = spec->kv_dtype,
                           .head_norm = spec->head_norm,
                           .norm_eps = 1e-5f,
                           .attn_scale = 1.0f / sqrtf((float)spec->head_dim),
                           .embed_scale = 1.5f,
                           .residual_scale = spec->residual_scale,
                           .logit_scale = 0.7f,
                           .rope_dim = spec->rope_dim,
                           .rope_inv = {c->inv, c->inv},
                           .rope_factor = {1.0f, 1.0f}};
    test_random r = {42};
    fill_layer(c, &r);
    poison_cache(c);
    open_buffers(c);
    return c;
}

void test_layer_close(layer_case *c) {
    cdp_layer *l = &c->layer;
    void *owned[] = {l->attn_norm.data,
                     l->qkv.data,
                     l->qkv_bias.data,
                     l->q_norm.data,
                     l->k_norm.data,
                     l->attn_out.data,
                     l->attn_out_bias.data,
                     l->attn_post_norm.data,
                     l->ffn_norm.data,
                     l->gate_up.data,
                     l->gate_up_bias.data,
                     l->down.data,
                     l->down_bias.data,
                     l->ffn_post_norm.data,
                     l->kv,
                     c->vocab.embed.data,
                     c->vocab.final_norm.data,
                     c->buf.normed,
                     c->buf.qkv,
                     c->buf.context,
                     c->buf.ffn,
                     c->buf.rope,
                     c->buf.packed,
                     c->buf.tables,
                     c->arrays,
                     c->hidden,
                     c->device_logits,
                     c->device_bare,
                     c->logits_scratch};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        cdp_device_free(c->device, owned[i]);
    assert_int_equal(cdp_device_allocated(c->device), 0);
    cdp_device_close(c->device);
    free(c->context);
    free(c->ffn);
    free(c->states);
    free(c->bare);
    free(c->logits);
    free(c);
}

void test_layer_add_rows(layer_case *c, int slot, int position, int n) {
    for (int i = 0; i < n; i++, c->n_rows++) {
        assert_true(c->n_rows < MAX_ROWS);
        c->host_arrays[0][c->n_rows] = slot;
        c->host_arrays[1][c->n_rows] = slot < 0 ? 0 : position + i;
        c->host_arrays[2][c->n_rows] = slot < 0 ? 0 : (slot * 31 + (position + i) * 17) % c->spec->vocab;
        c->host_arrays[3][c->n_rows] = 0;
        c->host_arrays[4][c->n_rows] = c->n_rows;
    }
}

/* Value i of a row of activations: f32 on the CPU; on a GPU what the weights of its reader ask for
 * (kernels/cuda). */
static float activation_at(const layer_case *c, const char *row, size_t row_bytes, size_t i) {
    const cdp_dtype form = cdp_device_kind_of(c->device) == CDP_DEVICE_CUDA ? c->spec->dtype : CDP_F32;
    if (form != CDP_F16)
        return cdp_load(row, form, i);
    return 16.0f * (cdp_load(row, CDP_F16, i) + cdp_load(row + row_bytes / 2, CDP_F16, i) / 2048.0f);
}

/* The first n values of each row of a buffer with `width` f32 a row. */
static void fetch(const layer_case *c, float *out, const float *buffer, int n_rows, int n, int width) {
    const size_t row_bytes = (size_t)width * 4;
    char *raw = malloc((size_t)n_rows * row_bytes);
    download(c, raw, buffer, (size_t)n_rows * row_bytes);
    for (int row = 0; row < n_rows; row++)
        for (int i = 0; i < n; i++)
            out[row * n + i] = activation_at(c, raw + (size_t)row * row_bytes, row_bytes, (size_t)i);
    free(raw);
}

/* What the AMX tier leaves of many rows' ffn: B tiles of down (kernels/cpu/product_tiles.h). */
static bool has_ffn_in_tiles(const layer_case *c) {
    return strncmp(c->ops->name, "amx", 3) == 0 && c->spec->dtype == CDP_BF16 && c->spec->ffn >= 16 &&
           c->n_rows > 16;
}
static void fetch_ffn_tiles(layer_case *c) {
    const int ffn = c->spec->ffn, n_steps = (ffn + 31) / 32, n_blocks = (c->n_rows + 15) / 16;
    const size_t n_bytes = (size_t)(n_blocks * n_steps * 16 * 32) * sizeof(uint16_t);
    uint16_t *raw = malloc(n_bytes);
    download(c, raw, c->buf.ffn, n_bytes);
    for (int row = 0; row < c->n_rows; row++)
        for (int i = 0; i < ffn; i++) {
            const int tile = row / 16 * n_steps + i / 32, pair = i % 32 / 2;
            const int at = tile * 16 * 32 + pair * 32 + row % 16 * 2 + i % 2;
            c->ffn[row * ffn + i] = cdp_load(raw, CDP_BF16, (size_t)at);
        }
    free(raw);
}

static void fetch_results(layer_case *c) {
    const layer_spec *s = c->spec;
    const size_t n = (size_t)c->n_rows * (size_t)s->hidden;
    fetch(c, c->context, c->buf.context, c->n_rows, s->n_heads * s->head_dim, s->n_heads * s->head_dim);
    if (has_ffn_in_tiles(c))
        fetch_ffn_tiles(c);
    else
        fetch(c, c->ffn, c->buf.ffn, c->n_rows, s->ffn, 2 * s->ffn);
    void *raw = malloc(n * 4);
    download(c, raw, c->hidden, n * cdp_dtype_bytes(c->shape.hidden_dtype));
    for (size_t i = 0; i < n; i++)
        c->states[i] = cdp_load(raw, c->shape.hidden_dtype, i);
    free(raw);
    download(c, c->logits, c->device_logits, (size_t)c->n_rows * (size_t)s->vocab * 4);
    download(c, c->bare, c->device_bare, (size_t)c->n_rows * (size_t)s->vocab * 4);
}

static cdp_status run_layer(layer_case *c) {
    const cdp_ops *o = c->ops;
    CDP_TRY(o->rope(c->device, &c->shape, &c->view, &c->buf));
    CDP_TRY(o->qkv(c->device, &c->shape, &c->layer, &c->view, &c->buf));
    CDP_TRY(o->attend(c->device, &c->shape, &c->layer, &c->view, &c->buf));
    CDP_TRY(o->attn_out(c->device, &c->shape, &c->layer, &c->view, &c->buf));
    CDP_TRY(o->gate_up(c->device, &c->shape, &c->layer, &c->view, &c->buf));
    return o->down(c->device, &c->shape, &c->layer, &c->view, &c->buf);
}

/* As a stage does it (stage.c). */
static cdp_status run_recorded(layer_case *c) {
    bool is_replayed = false, is_queued = true;
    CDP_TRY(c->ops->record_begin(c->device, c, &c->view, &is_replayed));
    if (is_replayed)
        return CDP_OK;
    CDP_TRY(c->ops->record_end(c->device, run_layer(c), &is_queued));
    return is_queued ? CDP_OK : run_layer(c);
}

void test_layer_run(layer_case *c) {
    const cdp_ops *o = c->ops;
    int32_t *at[5];
    for (int i = 0; i < 5; i++)
        at[i] = c->arrays + i * MAX_ROWS;
    poison_results(c);
    upload(c, c->arrays, c->host_arrays, sizeof c->host_arrays);
    c->view = (cdp_step_view){.n_rows = c->n_rows,
                              .n_home = c->n_rows,
                              .slot = at[0],
                              .position = at[1],
                              .token = at[2],
                              .rope_list = at[3],
                              .home = at[4],
                              .hidden = c->hidden};
    assert_int_equal(o->embed(c->device, &c->shape, &c->vocab, &c->view), CDP_OK);
    if ((c->is_recorded ? run_recorded(c) : run_layer(c)) != CDP_OK)
        fail_msg("%s", cdp_error_message());
    assert_int_equal(o->logits(c->device, &c->shape, &c->vocab, c->hidden, c->n_rows, &c->buf,
                               c->logits_scratch, c->device_logits),
                     CDP_OK);
    cdp_vocab_weights bare = c->vocab;
    bare.final_norm = (cdp_tensor){0};
    assert_int_equal(o->logits(c->device, &c->shape, &bare, c->hidden, c->n_rows, &c->buf, c->logits_scratch,
                               c->device_bare),
                     CDP_OK);
    cdp_device_drain(c->device);
    assert_int_equal(cdp_device_check(c->device), CDP_OK);
    fetch_results(c);
    c->n_rows = 0;
}

void test_layer_commands(cdp_device *device) {
    layer_case *c = test_layer_open(&test_layer_specs[0], device);
    const size_t bytes = c->ops->kv_block_bytes(&c->shape);
    unsigned char *blocks = malloc(6 * bytes);
    memset(blocks, 0, 6 * bytes);
    for (size_t i = 0; i < bytes; i++)
        blocks[3 * bytes + i] = (unsigned char)(i * 7 + 1);
    upload(c, c->layer.kv, blocks, 6 * bytes);
    const cdp_kv_command commands[] = {{.verb = CDP_KV_COPY, .block = 5, .from = 3},
                                       {.verb = CDP_KV_APPEND, .slot = 2, .index = 4, .block = 20},
                                       {.verb = CDP_KV_COPY, .block = 4, .from = 5},
                                       {.verb = CDP_KV_APPEND, .slot = 2, .index = 4, .block = 21}};
    void *there = grab(c, sizeof commands);
    upload(c, there, commands, sizeof commands);
    assert_int_equal(c->ops->kv_update(c->device, &c->shape, &c->layer, 1, there, 4, &c->buf), CDP_OK);
    unsigned char *got = malloc(6 * bytes);
    int32_t tables[SLOTS * MAX_BLOCKS];
    download(c, got, c->layer.kv, 6 * bytes);
    download(c, tables, c->buf.tables, sizeof tables);
    assert_memory_equal(got + 5 * bytes, blocks + 3 * bytes, bytes);
    assert_memory_equal(got + 4 * bytes, blocks + 3 * bytes, bytes); /* a chain of copies, in order */
    assert_memory_equal(got, blocks, 3 * bytes);
    assert_int_equal(tables[2 * MAX_BLOCKS + 4], 21); /* the later one */
    cdp_device_free(c->device, there);
    free(got);
    free(blocks);
    test_layer_close(c);
}
