/* What a test asks of a layer: steps to play, results to compare. */
#include "tests/support/layer_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* |got - want| <= abs + eps * |want|. In bf16 one rounding may fall the other way, and a large value's
 * travels on to small ones: so single values have room, and all together must be as near as roundings are. */
static void compare(const char *what, const layer_case *got, const layer_case *want, int n, const float *g,
                    const float *w, int n_rows) {
    const bool is_rounded = want->spec->dtype == CDP_BF16 || want->spec->kv_dtype != CDP_F32;
    double errors = 0, values = 0;
    for (int row = 0; row < n_rows; row++)
        for (int i = 0; i < n; i++) {
            const float have = g[row * n + i], ref = w[row * n + i];
            const float limit = is_rounded ? 0.06f + 0.02f * fabsf(ref) : 2e-5f + 2e-5f * fabsf(ref);
            if (!(fabsf(have - ref) <= limit))
                fail_msg("%s, %s: %s of row %d at %d is %.8g, ref has %.8g (limit %.2g)", want->spec->name,
                         got->ops->name, what, row, i, (double)have, (double)ref, (double)limit);
            errors += (double)(have - ref) * (double)(have - ref);
            values += (double)ref * (double)ref;
        }
    if (errors > 1e-4 * values)
        fail_msg("%s, %s: %s of %d rows: the error's rms is %.2g of the values'", want->spec->name,
                 got->ops->name, what, n_rows, sqrt(errors / values));
}

void test_layer_compare(const layer_case *got, const layer_case *want, int n_rows) {
    const layer_spec *s = want->spec;
    compare("context", got, want, s->n_heads * s->head_dim, got->context, want->context, n_rows);
    compare("ffn", got, want, s->ffn, got->ffn, want->ffn, n_rows);
    compare("hidden", got, want, s->hidden, got->states, want->states, n_rows);
    compare("logits", got, want, s->vocab, got->logits, want->logits, n_rows);
    compare("bare logits", got, want, s->vocab, got->bare, want->bare, n_rows);
}

layer_pair test_pair_open(const layer_spec *spec, cdp_device *want, cdp_device *got) {
    return (layer_pair){test_layer_open(spec, want), test_layer_open(spec, got)};
}

void test_pair_add_rows(const layer_pair *pair, int slot, int position, int n) {
    test_layer_add_rows(pair->want, slot, position, n);
    test_layer_add_rows(pair->got, slot, position, n);
}

void test_pair_run(const layer_pair *pair) {
    const int n_rows = pair->want->n_rows;
    test_layer_run(pair->want);
    test_layer_run(pair->got);
    test_layer_compare(pair->got, pair->want, n_rows);
}

void test_pair_close(const layer_pair *pair) {
    test_layer_close(pair->got);
    test_layer_close(pair->want);
}

/* A prompt of 37, two sequences side by side, one row each, a long prompt between two decoding rows, and few
 * rows with more keys than one part of a GPU's split attention takes. */
int test_layer_steps(void) {
    return 5;
}
int test_layer_play(layer_case *c, int step) {
    if (step == 0) {
        test_layer_add_rows(c, 0, 0, 37);
    } else if (step == 1) {
        test_layer_add_rows(c, 0, 37, 1);
        test_layer_add_rows(c, 1, 0, 20);
    } else if (step == 2) {
        test_layer_add_rows(c, 1, 20, 1);
        test_layer_add_rows(c, 0, 38, 1);
    } else if (step == 3) {
        test_layer_add_rows(c, 0, 39, 1);
        test_layer_add_rows(c, 2, 0, 90);
        test_layer_add_rows(c, 1, 21, 1);
    } else {
        test_layer_add_rows(c, 2, 90, 3);
        test_layer_add_rows(c, 0, 40, 1);
    }
    const int n_rows = c->n_rows;
    test_layer_run(c);
    return n_rows;
}

void test_layer_collect(const layer_spec *spec, cdp_device *device, int chunk, bool has_company, float *out) {
    layer_case *c = test_layer_open(spec, device);
    for (int at = 0; at < TEST_LAYER_COLLECTED; at += chunk) {
        const int left = TEST_LAYER_COLLECTED - at, n = chunk < left ? chunk : left;
        const int before = has_company ? 3 : 0;
        if (has_company)
            test_layer_add_rows(c, 1, at / chunk * 3, before);
        test_layer_add_rows(c, 0, at, n);
        test_layer_run(c);
        memcpy(out + (size_t)(at * spec->vocab), c->logits + (size_t)(before * spec->vocab),
               (size_t)(n * spec->vocab) * sizeof *out);
    }
    test_layer_close(c);
}
