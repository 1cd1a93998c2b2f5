/* The layer by entropy and direction: scores worked out by hand, what a choice keeps, asks for and notes.
 *
 * What it catches: a tie that goes to the deeper layer, a reference that misses a row or decays from the
 * wrong end, a sign or a weight on the wrong side, a NaN that wins, a row drawn from that is not the chosen
 * layer's.
 */
#include "launcher/sample/consistency.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/engine/schedule.h"
#include "launcher/options/table.h"
#include "launcher/sample/decoding.h"

enum { HIDDEN = 2, MOST = 4 };
static const float inf = INFINITY, nan_row = NAN;

static void test_cosine(void **state) {
    (void)state;
    static const struct {
        float x[HIDDEN];
        double y[HIDDEN], cosine;
    } cases[] = {
        {{3, 4}, {3, 4}, 1},
        {{3, 4}, {-6, -8}, -1},
        {{1, 0}, {0, 7}, 0},
        {{1, 1}, {1, 0}, 0.70710678118654757},
        {{3, 4}, {4, 3}, 0.96},
        {{0, 0}, {1, 2}, 0}, /* no direction */
        {{1, 2}, {0, 0}, 0},
        {{3e38f, 3e38f}, {2e38, 2e38}, 1}, /* squares beyond f32 */
        {{1e-38f, 0}, {1e-38, 1e-38}, 0.70710678118654757},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (!(fabs(cdp_cosine(cases[i].x, cases[i].y, HIDDEN) - cases[i].cosine) < 1e-12))
            fail_msg("case %zu: %.17g", i, cdp_cosine(cases[i].x, cases[i].y, HIDDEN));
    const float x[HIDDEN] = {nan_row, 1}, far[HIDDEN] = {inf, 1};
    assert_true(isnan(cdp_cosine(x, cases[0].y, HIDDEN)));
    assert_true(isnan(cdp_cosine(far, cases[0].y, HIDDEN)));
}

typedef struct hand_case {
    const char *name;
    double weight, decay;
    int n;
    float rows[MOST][HIDDEN]; /* layer 0 first */
    double shares[MOST];
    int layer;
    double cosines[MOST];
} hand_case;

#define ROOT 0.70710678118654757 /* 1 / sqrt 2 */

static const hand_case hand_cases[] = {
    /* scores .5 * (.707 - .2), .5 * (.707 - .5), .5 * (1 - .6) */
    {"both count", 0.5, 0, 3, {{1, 0}, {0, 1}, {1, 1}}, {0.2, 0.5, 0.6}, 0, {ROOT, ROOT, 1}},
    /* 0.9 * .707 - .1 * .2 against 0.9 - .1 * .6 */
    {"direction counts more", 0.9, 0, 3, {{1, 0}, {0, 1}, {1, 1}}, {0.2, 0.5, 0.6}, 2, {ROOT, ROOT, 1}},
    /* ref = (1, 1) + .5 (0, 1) + .25 (1, 0) = (1.25, 1.5), |ref| = 1.9525624 */
    {"decay",
     0.5,
     0.5,
     3,
     {{1, 0}, {0, 1}, {1, 1}},
     {0.9, 0.1, 0.38},
     1, /* -.13, .334, .308; without the decay the last has .310, the one above .304 */
     {0.64018439966448, 0.76822127959738, 0.99589320646770}},
    /* ref = (4, 0) + (0, 0) + (-1, 3) = (3, 3) */
    {"decay of one is the plain sum",
     1,
     1,
     3,
     {{-1, 3}, {0, 0}, {4, 0}},
     {0, 0, 0},
     2,
     {0.44721359549996, 0, ROOT}},
    {"entropy alone, and not where a walk would end",
     0,
     0,
     4,
     {{1, 0}, {1, 0}, {1, 0}, {0, 1}},
     {0.1, 0.5, 0.3, 0.4},
     0,
     {0, 0, 0, 1}},
    {"direction alone",
     1,
     0,
     3,
     {{1, 2}, {2, 1}, {1, 1}},
     {0, 0, 1},
     2,
     {0.94868329805051, 0.94868329805051, 1}},
    {"the lowest of equal ones",
     0.5,
     0,
     4,
     {{1, 0}, {2, 3}, {2, 3}, {2, 3}},
     {0.9, 0.3, 0.3, 0.3},
     1,
     {0.55470019622523, 1, 1, 1}},
    {"the lowest of equal ones with a decay", 1, 0.5, 3, {{3, 4}, {3, 4}, {3, 4}}, {0, 0, 0}, 0, {1, 1, 1}},
    {"opposite rows", 0.5, 0, 2, {{-1, -1}, {1, 1}}, {0, 0.9}, 1, {-1, 1}}, /* -.5, .05 */
    {"a NaN never wins", 0.5, 0, 3, {{1, 1}, {1, 1}, {1, 1}}, {NAN, 0.5, NAN}, 1, {1, 1, 1}},
    {"nothing but NaN", 0.5, 0, 2, {{1, 1}, {1, 1}}, {NAN, NAN}, 1, {1, 1}},
    {"one layer", 0.5, 0.5, 1, {{1, 1}}, {0.5}, 0, {1}},
};
enum { N_HAND_CASES = sizeof hand_cases / sizeof hand_cases[0] };

static void test_by_hand(void **state) {
    (void)state;
    for (int i = 0; i < N_HAND_CASES; i++) {
        const hand_case *c = &hand_cases[i];
        cdp_consistency all;
        assert_int_equal(cdp_consistency_open(&all, c->n, HIDDEN, c->weight, c->decay), CDP_OK);
        for (int round = 0; round < 2; round++) { /* nothing is left of the token before */
            int depth = CDP_DEPTH_UNKNOWN;
            cdp_consistency_start(&all);
            for (int layer = c->n - 1; layer >= 0; layer--) {
                depth = cdp_consistency_add(&all, c->rows[layer], c->shares[layer], layer == 0);
                assert_int_equal(depth == CDP_DEPTH_UNKNOWN, c->decay > 0 && layer > 0);
            }
            if (c->n - 1 - depth != c->layer)
                fail_msg("%s: layer %d, expected %d", c->name, c->n - 1 - depth, c->layer);
            for (int layer = 0; layer < c->n; layer++)
                if (!(fabs(all.cosines[c->n - 1 - layer] - c->cosines[layer]) < 1e-12))
                    fail_msg("%s: cosine of layer %d is %.14g", c->name, layer,
                             all.cosines[c->n - 1 - layer]);
        }
        cdp_consistency_close(&all);
    }
}

/* Through a choice ---------------------------------------------------------------------------------------
 */

enum { VOCAB = 8 };

/* Logits whose entropy is near `share` of ln VOCAB: nothing but the order of layers is asked of it. Its
 * likeliest token is the layer. */
static void logits_of(float *out, int layer, double share) {
    for (int v = 0; v < VOCAB; v++)
        out[v] = v == layer ? (float)(9 - 8 * share) : 0;
}

static cdp_decoding decoding_of(const hand_case *c, double p) {
    cdp_decoding decoding = {.kind = CDP_DECODING_CONSERVATIVE,
                             .n_layers = c->n,
                             .vocab = VOCAB,
                             .hidden = HIDDEN,
                             .n_taps = c->n - 1,
                             .head = CDP_HEAD_HIDDEN,
                             .window = CDP_ALL_LAYERS,
                             .p = p,
                             .weight = c->weight,
                             .decay = c->decay};
    assert_true(cdp_cd_method_of(&decoding.method, "consistency"));
    return decoding;
}

/* Whatever layer a choice makes it, the row is that layer's, and a row that was let go comes again at most
 * once. */
static void test_choice_keeps_its_row(void **state) {
    (void)state;
    for (int i = 0; i < N_HAND_CASES; i++) {
        const hand_case *c = &hand_cases[i];
        const cdp_decoding decoding = decoding_of(c, 1);
        cdp_choice *choice;
        float logits[VOCAB];
        int ask = CDP_ASK_NOTHING, best = 0;
        if (isnan(c->shares[0]) || isnan(c->shares[c->n - 1]) || c->n == 1)
            continue; /* no logits have it; nothing to compare */
        assert_int_equal(cdp_choice_open(&choice, &decoding, 0, "", 1, true), CDP_OK);
        for (int layer = c->n - 1; layer >= 0; layer--) {
            assert_int_equal(ask, CDP_ASK_NOTHING);
            logits_of(logits, layer, c->shares[layer]);
            cdp_choice_state(choice, 3, layer + 1, logits, c->rows[layer], &ask);
        }
        if (c->decay == 0)
            assert_int_equal(ask, CDP_ASK_NOTHING); /* judged as they came */
        if (ask != CDP_ASK_NOTHING) {
            const int layer = ask - 1;
            ask = CDP_ASK_NOTHING;
            logits_of(logits, layer, c->shares[layer]);
            cdp_choice_state(choice, 3, layer + 1, logits, c->rows[layer], &ask);
            assert_int_equal(ask, CDP_ASK_NOTHING);
        }
        const float *row = cdp_choice_row(choice);
        for (int v = 1; v < VOCAB; v++)
            best = row[v] > row[best] ? v : best;
        const cdp_layer_log *seen = cdp_choice_log(choice);
        assert_int_equal(seen->selected[0], best);
        for (int layer = 0; layer < c->n; layer++)
            assert_true(fabs((double)seen->cosines[layer] - c->cosines[layer]) < 1e-6);
        cdp_choice_close(choice);
    }
}

/* A token that stays, and a window of none: plain decoding, and nothing was compared. */
static void test_stays(void **state) {
    (void)state;
    for (int has_window = 0; has_window < 2; has_window++) {
        cdp_decoding decoding = decoding_of(&hand_cases[0], has_window ? 1 : 0);
        cdp_choice *choice;
        float logits[VOCAB];
        int ask = CDP_ASK_NOTHING;
        decoding.n_taps = has_window ? 0 : 2;
        assert_int_equal(cdp_choice_open(&choice, &decoding, 0, "", 1, true), CDP_OK);
        for (int layer = 2; layer >= 2 - decoding.n_taps; layer--) {
            logits_of(logits, layer, 0.5);
            cdp_choice_state(choice, 3, layer + 1, logits, has_window ? NULL : hand_cases[0].rows[layer],
                             &ask);
        }
        assert_int_equal(ask, CDP_ASK_NOTHING);
        assert_true(cdp_choice_row(choice)[2] == 5);
        assert_int_equal(cdp_choice_log(choice)->selected[0], 2);
        assert_true(isnan(cdp_choice_log(choice)->cosines[2]));
        cdp_choice_close(choice);
    }
}

static void test_settled(void **state) {
    (void)state;
    cdp_model_card *card = calloc(1, sizeof *card);
    cdp_decoding d;
    cdp_options o;
    cdp_options_defaults(&o);
    card->n_layers = 6;
    card->vocab = VOCAB;
    card->hidden = HIDDEN;
    o.cd_method = "consistency";
    o.cd_consistency = 0.25;
    o.cd_decay = 0.75;
    o.tap_window = "4";
    assert_int_equal(cdp_decoding_settle(&d, "conservative-dynamic", &o, card), CDP_OK);
    assert_int_equal(d.n_taps, 4);
    assert_true(cdp_taps_has(&d.taps, 2) && !cdp_taps_has(&d.taps, 1));
    assert_int_equal(d.head, CDP_HEAD_HIDDEN);
    assert_int_equal(d.hidden, HIDDEN);
    assert_true(d.weight == 0.25 && d.decay == 0.75);
    o.cd_lazy = true;
    assert_int_equal(cdp_decoding_settle(&d, "conservative-dynamic", &o, card), CDP_USAGE);
    assert_non_null(strstr(cdp_error_message(), "--cd-lazy"));
    assert_non_null(strstr(cdp_error_message(), "--cd-method consistency"));
    cdp_error_clear();
    o.cd_method = "trough";
    assert_int_equal(cdp_decoding_settle(&d, "conservative-dynamic", &o, card), CDP_OK);
    assert_int_equal(d.head, CDP_HEAD_LAZY);
    free(card);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_choice_keeps_its_row),
        cmocka_unit_test(test_stays),
        cmocka_unit_test(test_settled),
    };
    return cmocka_run_group_tests_name("consistency", tests, NULL, NULL);
}
