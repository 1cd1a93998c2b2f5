/* Every CPU tier against ref, and a row's bits against the company it keeps.
 *
 * What each case catches: one row (decode), widths of exactly one vector, one more and one less (tails), odd
 * heads, a window that cuts a block, norms after, biases, q/k norms, partial rope, each dtype.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/queue.h"
#include "tests/support/random.h"

#if defined(__x86_64__)
extern const cdp_ops cdp_ops_tiles_twin; /* tests/kernels/tiles_twin.c */
#endif

enum { SLOTS = 3, MAX_BLOCKS = 8, MAX_ROWS = 96 };

typedef struct layer_spec {
    const char *name;
    int hidden, n_heads, n_kv_heads, head_dim, ffn, vocab, rope_dim, window;
    cdp_dtype dtype, kv_dtype;
    cdp_head_norm head_norm;
    bool has_bias, norm_before, norm_after;
    float residual_scale;
} layer_spec;

static const layer_spec specs[] = {
    {"bf16_gqa", 64, 4, 2, 16, 136, 97, 16, 0, CDP_BF16, CDP_BF16, CDP_HEAD_NORM_NONE, false, true, false, 1},
    {"f32_gqa", 64, 4, 2, 16, 136, 97, 16, 0, CDP_F32, CDP_F32, CDP_HEAD_NORM_NONE, false, true, false, 1},
    {"f16_gqa", 64, 4, 2, 16, 136, 97, 16, 0, CDP_F16, CDP_F16, CDP_HEAD_NORM_NONE, false, true, false, 1},
    {"one_vector", 16, 1, 1, 16, 16, 16, 16, 0, CDP_F32, CDP_F32, CDP_HEAD_NORM_NONE, false, true, false, 1},
    {"one_more", 17, 1, 1, 18, 17, 33, 18, 0, CDP_F32, CDP_F32, CDP_HEAD_NORM_NONE, false, true, false, 1},
    {"one_less", 15, 3, 3, 14, 31, 31, 6, 0, CDP_BF16, CDP_BF16, CDP_HEAD_NORM_NONE, true, true, false, 1},
    {"odd_heads", 63, 9, 3, 22, 65, 130, 22, 0, CDP_F32, CDP_F32, CDP_HEAD_NORM_EACH, false, true, false, 1},
    {"window_cuts_a_block", 48, 6, 2, 8, 40, 50, 8, 20, CDP_F32, CDP_BF16, CDP_HEAD_NORM_NONE, true, true,
     false, 1},
    {"norms_after", 64, 4, 2, 16, 72, 64, 16, 0, CDP_F32, CDP_F32, CDP_HEAD_NORM_ALL, false, false, true, 1},
    {"no_rope_scaled", 64, 4, 4, 24, 72, 64, 0, 16, CDP_BF16, CDP_BF16, CDP_HEAD_NORM_NONE, false, true,
     false, 0.6f},
};

typedef struct layer_case {
    const layer_spec *spec;
    cdp_device *device;
    const cdp_ops *ops;
    cdp_shape shape;
    cdp_layer layer;
    cdp_vocab_weights vocab;
    cdp_buffers buf;
    double inv[64];
    int32_t arrays[5][MAX_ROWS];
    void *hidden;
    float *logits, *logits_scratch;
    int n_rows;
    cdp_step_view view;
} layer_case;

static void *grab(layer_case *c, size_t n_bytes) {
    void *memory = NULL;
    assert_int_equal(cdp_device_alloc(c->device, &memory, n_bytes), CDP_OK);
    return memory;
}

static cdp_tensor weight(layer_case *c, test_random *r, cdp_dtype dtype, int rows, int cols, float around) {
    cdp_tensor t = {grab(c, (size_t)rows * (size_t)cols * cdp_dtype_bytes(dtype)), dtype, rows, cols, NULL};
    for (size_t i = 0; i < (size_t)rows * (size_t)cols; i++)
        cdp_store(t.data, dtype, i, around + test_random_signed(r) * (around != 0 ? 0.3f : 0.25f));
    return t;
}

static cdp_tensor vector(layer_case *c, test_random *r, bool is_there, int n, float around) {
    return is_there ? weight(c, r, CDP_F32, 1, n, around) : (cdp_tensor){0};
}

static void fill_layer(layer_case *c, test_random *r) {
    const layer_spec *s = c->spec;
    const int q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    const bool each = s->head_norm == CDP_HEAD_NORM_EACH, normed = s->head_norm != CDP_HEAD_NORM_NONE;
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

static layer_case *open_case(const layer_spec *spec, const cdp_ops *ops, int n_threads) {
    layer_case *c = calloc(1, sizeof *c);
    const cdp_cpu_options options = {.n_threads = n_threads, .ops = ops};
    assert_int_equal(cdp_device_open_cpu(&c->device, &options), CDP_OK);
    c->spec = spec;
    c->ops = ops;
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
    const size_t width = (size_t)((spec->n_heads + 2 * spec->n_kv_heads) * spec->head_dim);
    c->buf = (cdp_buffers){.normed = grab(c, MAX_ROWS * (size_t)spec->hidden * 4),
                           .qkv = grab(c, MAX_ROWS * width * 4),
                           .context = grab(c, MAX_ROWS * (size_t)(spec->n_heads * spec->head_dim) * 4),
                           .ffn = grab(c, MAX_ROWS * 2 * (size_t)spec->ffn * 4),
                           .rope = grab(c, MAX_ROWS * (size_t)(spec->rope_dim + 2) * 4),
                           .packed = grab(c, MAX_ROWS * 192 * 2), /* the longest input is 136: five k steps */
                           .tables = grab(c, SLOTS * MAX_BLOCKS * 4),
                           .max_blocks = MAX_BLOCKS};
    c->hidden = grab(c, MAX_ROWS * (size_t)spec->hidden * 4);
    c->logits = grab(c, MAX_ROWS * (size_t)spec->vocab * 4);
    c->logits_scratch = grab(c, MAX_ROWS * (size_t)spec->hidden * 4);
    for (int i = 0; i < SLOTS * MAX_BLOCKS; i++) /* scattered: block numbers must be followed, not guessed */
        c->buf.tables[i] = (i * 7) % (SLOTS * MAX_BLOCKS);
    return c;
}

static void close_case(layer_case *c) {
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
                     c->hidden,
                     c->logits,
                     c->logits_scratch};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        cdp_device_free(c->device, owned[i]);
    assert_int_equal(cdp_device_allocated(c->device), 0);
    cdp_device_close(c->device);
    free(c);
}

/* n rows of `slot` from `position` on; the token id of a row depends on slot and position alone. */
static void add_rows(layer_case *c, int slot, int position, int n) {
    for (int i = 0; i < n; i++, c->n_rows++) {
        c->arrays[0][c->n_rows] = slot;
        c->arrays[1][c->n_rows] = position + i;
        c->arrays[2][c->n_rows] = (slot * 31 + (position + i) * 17) % c->spec->vocab;
        c->arrays[3][c->n_rows] = 0;
        c->arrays[4][c->n_rows] = c->n_rows;
    }
}

/* Run everything on the rows added, and start a new list. */
static void run_rows(layer_case *c) {
    const cdp_ops *o = c->ops;
    c->view = (cdp_step_view){.n_rows = c->n_rows,
                              .n_home = c->n_rows,
                              .slot = c->arrays[0],
                              .position = c->arrays[1],
                              .token = c->arrays[2],
                              .rope_list = c->arrays[3],
                              .home = c->arrays[4],
                              .hidden = c->hidden};
    assert_int_equal(o->embed(c->device, &c->shape, &c->vocab, &c->view), CDP_OK);
    assert_int_equal(o->rope(c->device, &c->shape, &c->view, &c->buf), CDP_OK);
    assert_int_equal(o->qkv(c->device, &c->shape, &c->layer, &c->view, &c->buf), CDP_OK);
    assert_int_equal(o->attend(c->device, &c->shape, &c->layer, &c->view, &c->buf), CDP_OK);
    assert_int_equal(o->attn_out(c->device, &c->shape, &c->layer, &c->view, &c->buf), CDP_OK);
    assert_int_equal(o->gate_up(c->device, &c->shape, &c->layer, &c->view, &c->buf), CDP_OK);
    assert_int_equal(o->down(c->device, &c->shape, &c->layer, &c->view, &c->buf), CDP_OK);
    assert_int_equal(o->logits(c->device, &c->shape, &c->vocab, c->hidden, c->n_rows, &c->buf,
                               c->logits_scratch, c->logits),
                     CDP_OK);
    cdp_device_drain(c->device);
    c->n_rows = 0;
}

static float hidden_at(const layer_case *c, int row, int i) {
    return cdp_load(c->hidden, c->shape.hidden_dtype, (size_t)(row * c->spec->hidden + i));
}

/* |got - want| <= abs + eps * |want|; in bf16 one rounding may fall the other way and travel on. */
static void compare(const char *what, const layer_case *got, const layer_case *want, int row, int i, float g,
                    float w) {
    const bool is_rounded = want->spec->dtype == CDP_BF16 || want->spec->kv_dtype != CDP_F32;
    const float limit = is_rounded ? 0.03f + 0.02f * fabsf(w) : 2e-5f + 2e-5f * fabsf(w);
    if (!(fabsf(g - w) <= limit))
        fail_msg("%s, %s: %s of row %d at %d is %.8g, ref has %.8g (limit %.2g)", want->spec->name,
                 got->ops->name, what, row, i, (double)g, (double)w, (double)limit);
}

static void compare_cases(const layer_case *got, const layer_case *want, int n_rows) {
    const layer_spec *s = want->spec;
    for (int row = 0; row < n_rows; row++) {
        for (int i = 0; i < s->n_heads * s->head_dim; i++) {
            const int at = row * s->n_heads * s->head_dim + i;
            compare("context", got, want, row, i, got->buf.context[at], want->buf.context[at]);
        }
        for (int i = 0; i < s->ffn; i++)
            compare("ffn", got, want, row, i, got->buf.ffn[row * 2 * s->ffn + i],
                    want->buf.ffn[row * 2 * s->ffn + i]);
        for (int i = 0; i < s->hidden; i++)
            compare("hidden", got, want, row, i, hidden_at(got, row, i), hidden_at(want, row, i));
        for (int i = 0; i < s->vocab; i++)
            compare("logits", got, want, row, i, got->logits[row * s->vocab + i],
                    want->logits[row * s->vocab + i]);
    }
}

/* Three steps: a prompt of 37, then two sequences side by side, then one row each. */
static void play(layer_case *c, int step) {
    if (step == 0) {
        add_rows(c, 0, 0, 37);
    } else if (step == 1) {
        add_rows(c, 0, 37, 1);
        add_rows(c, 1, 0, 20);
    } else {
        add_rows(c, 1, 20, 1);
        add_rows(c, 0, 38, 1);
    }
    run_rows(c);
}

static void check_tier(const cdp_ops *ops) {
    static const int rows[] = {37, 21, 2};
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        layer_case *want = open_case(&specs[i], &cdp_ops_ref, 1), *got = open_case(&specs[i], ops, 2);
        for (int step = 0; step < 3; step++) {
            play(want, step);
            play(got, step);
            compare_cases(got, want, rows[step]);
        }
        close_case(got);
        close_case(want);
    }
}

static const cdp_ops *tier(cdp_cpu_tier which) {
    const cdp_ops *ops = cdp_ops_for_tier(which);
    if (ops == NULL) {
        print_message("this processor has no %s\n", cdp_cpu_tier_name(which));
        skip();
    }
    return ops;
}

/* The AMX tier's kernels, with the matrix unit in plain C; NULL where AVX-512 is missing. */
static const cdp_ops *tiles_twin(void) {
#if defined(__x86_64__)
    if (cdp_cpu_best_tier() >= CDP_TIER_AVX512)
        return &cdp_ops_tiles_twin;
#endif
    return NULL;
}

static void test_plain(void **state) {
    (void)state;
    check_tier(tier(CDP_TIER_PLAIN));
}
static void test_avx2(void **state) {
    (void)state;
    check_tier(tier(CDP_TIER_AVX2));
}
static void test_avx512(void **state) {
    (void)state;
    check_tier(tier(CDP_TIER_AVX512));
}

static void test_amx(void **state) {
    (void)state;
    check_tier(tier(CDP_TIER_AMX));
}
static void test_amx_twin(void **state) {
    (void)state;
    if (tiles_twin() == NULL)
        skip();
    check_tier(tiles_twin());
}

/* The logits bits of slot 0's rows 0..39, fed in the given chunks, with or without another sequence beside.
 */
static void collect(const layer_spec *spec, const cdp_ops *ops, int n_threads, int chunk, bool has_company,
                    float *out) {
    layer_case *c = open_case(spec, ops, n_threads);
    for (int at = 0; at < 40; at += chunk) {
        const int n = at + chunk < 40 ? chunk : 40 - at;
        const int before = has_company ? 3 : 0;
        if (has_company)
            add_rows(c, 1, at / chunk * 3, before);
        add_rows(c, 0, at, n);
        run_rows(c);
        memcpy(out + (size_t)(at * spec->vocab), c->logits + (size_t)(before * spec->vocab),
               (size_t)(n * spec->vocab) * sizeof *out);
    }
    close_case(c);
}

static void check_same_bits(const cdp_ops *ops) {
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        const size_t n = 40 * (size_t)specs[i].vocab;
        float *whole = calloc(n, sizeof *whole), *other = calloc(n, sizeof *other);
        collect(&specs[i], ops, 1, 40, false, whole);
        static const int chunks[] = {1, 2, 7, 16, 40};
        for (size_t k = 0; k < sizeof chunks / sizeof chunks[0]; k++) {
            const bool has_company = chunks[k] >= 2;
            collect(&specs[i], ops, 2, chunks[k], has_company, other);
            if (memcmp(whole, other, n * sizeof *whole) != 0)
                fail_msg("%s, %s: chunk %d in company %d has other bits", specs[i].name, ops->name, chunks[k],
                         has_company);
        }
        free(whole);
        free(other);
    }
}

static void test_same_bits(void **state) {
    (void)state;
    for (int which = CDP_TIER_PLAIN; which <= (int)cdp_cpu_best_tier(); which++)
        check_same_bits(cdp_ops_for_tier((cdp_cpu_tier)which));
    if (tiles_twin() != NULL)
        check_same_bits(tiles_twin());
}

/* Block commands: copy moves a whole block, append writes the table. */
static void test_kv_copy(void **state) {
    (void)state;
    layer_case *c = open_case(&specs[0], cdp_ops_for_tier(CDP_TIER_PLAIN), 1);
    const size_t bytes = c->ops->kv_block_bytes(&c->shape);
    memset((char *)c->layer.kv + 3 * bytes, 0x5A, bytes);
    const cdp_kv_command commands[] = {{.verb = CDP_KV_COPY, .block = 5, .from = 3},
                                       {.verb = CDP_KV_APPEND, .slot = 2, .index = 4, .block = 21}};
    assert_int_equal(c->ops->kv_update(c->device, &c->shape, &c->layer, 1, commands, 2, &c->buf), CDP_OK);
    cdp_device_drain(c->device);
    assert_memory_equal((char *)c->layer.kv + 5 * bytes, (char *)c->layer.kv + 3 * bytes, bytes);
    assert_int_equal(c->buf.tables[2 * MAX_BLOCKS + 4], 21);
    close_case(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),   cmocka_unit_test(test_avx2),     cmocka_unit_test(test_avx512),
        cmocka_unit_test(test_amx),     cmocka_unit_test(test_amx_twin), cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_kv_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
