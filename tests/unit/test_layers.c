/* Which layer conservative-dynamic decoding takes, without a model: the walk from the top and its variants
 * against exact numbers (tests/golden/decoding), how a choice asks for rows, and what options tap.
 *
 * What it catches: the global minimum taken for the walk's, a tie that goes on, a row drawn from that is not
 * the chosen one.
 */
#include "launcher/sample/decoding.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/engine/schedule.h"
#include "launcher/options/table.h"
#include "tests/support/data.h"
#include "tests/support/golden.h"

#define DATA(name) test_path("tests/golden/decoding/" name)

static int numbers_of(const cJSON *array, double *out) {
    const cJSON *item;
    int n = 0;
    cJSON_ArrayForEach(item, array) out[n++] = golden_number(item);
    return n;
}

/* The walk ------------------------------------------------------------------------------------------------
 */

static int select_layer(const double *nats, int n, int window) {
    cdp_layer_walk walk;
    cdp_walk_start(&walk, n, window);
    for (int layer = n - 1; layer >= 0 && cdp_walk_add(&walk, layer, nats[layer]);)
        layer--;
    return walk.chosen;
}

static void check_selection(const cJSON *line, int number, void *of) {
    static const char *const methods[] = {"trough-m1", "trough-m2", "trough-p1", "trough-p2"};
    double nats[256];
    (void)of;
    assert_in_range(cJSON_GetArraySize(golden_get(line, "H")), 1, 256);
    const int n = numbers_of(golden_get(line, "H"), nats);
    const cJSON *window = golden_get(line, "window");
    const int chosen = select_layer(nats, n, cJSON_IsNull(window) ? CDP_ALL_LAYERS : window->valueint);
    if (chosen != golden_get(line, "layer")->valueint)
        fail_msg("line %d: layer %d, expected %d", number, chosen, golden_get(line, "layer")->valueint);
    for (int i = 0; i < 4; i++) {
        cdp_cd_method method;
        assert_true(cdp_cd_method_of(&method, methods[i]));
        assert_int_equal(cdp_cd_layer(method, chosen, n, 0), golden_get(line, methods[i])->valueint);
    }
}

static void test_selection(void **state) {
    (void)state;
    assert_true(golden_lines(DATA("select.jsonl"), check_selection, NULL) == 440);
}

/* The published table, by hand. */
static void test_known_walks(void **state) {
    (void)state;
    static const struct {
        double nats[5];
        int n, all, one;
    } walks[] = {{{5, 4, 3, 2, 1}, 5, 4, 4},
                 {{5, 1, 2, 3, 4}, 5, 1, 3},
                 {{0, 5, 3, 2, 4}, 5, 3, 3},
                 {{1, 1, 1}, 3, 2, 2},
                 {{1, 2, 3, 4, 5}, 5, 0, 3},
                 {{3, 2, 2}, 3, 2, 2},
                 {{2, 2, 3}, 3, 1, 1},
                 {{0.1}, 1, 0, 0},
                 {{9, 8, 0.5, 0.7, 0.7}, 5, 4, 4},
                 {{1, (double)NAN, 2}, 3, 2, 2},
                 {{1, 2, (double)NAN}, 3, 2, 2}};
    for (size_t i = 0; i < sizeof walks / sizeof walks[0]; i++) {
        assert_int_equal(select_layer(walks[i].nats, walks[i].n, CDP_ALL_LAYERS), walks[i].all);
        assert_int_equal(select_layer(walks[i].nats, walks[i].n, 1), walks[i].one);
        assert_int_equal(select_layer(walks[i].nats, walks[i].n, 0), walks[i].n - 1);
    }
}

static void test_methods(void **state) {
    (void)state;
    cdp_cd_method method;
    assert_false(cdp_cd_method_of(&method, "trough-m3"));
    assert_true(cdp_cd_method_of(&method, "last-m4"));
    assert_int_equal(cdp_cd_layer(method, 0, 10, 0), 5);
    assert_int_equal(cdp_cd_layer(method, 0, 3, 0), 0);
    assert_true(cdp_cd_method_of(&method, "random-after"));
    assert_int_equal(cdp_cd_layer(method, 3, 7, 0), 3);
    assert_int_equal(cdp_cd_layer(method, 3, 7, 0.26), 4);
    assert_int_equal(cdp_cd_layer(method, 3, 7, 0.999999), 6);
    assert_int_equal(cdp_cd_layer(method, 6, 7, 0.999999), 6);
}

/* How a choice asks ------------------------------------------------------------------------------------ */

enum { LAYERS = 6, VOCAB = 8 };

/* A row whose entropy falls with `sureness`, and whose likeliest token is the layer's number. */
static void row_of(float *out, int layer, float sureness) {
    for (int v = 0; v < VOCAB; v++)
        out[v] = v == layer ? sureness : 0;
}

/* Feed all states to a choice the way the head does, with what it asks for after them; returns the likeliest
 * token of the row it chose = the layer. */
static int chosen_by(const char *method, int window, bool is_lazy, const float *sureness, int *n_rows_out) {
    cdp_decoding decoding = {
        .kind = CDP_DECODING_CONSERVATIVE, .n_layers = LAYERS, .vocab = VOCAB, .window = window, .p = 1};
    cdp_choice *choice;
    float row[VOCAB];
    assert_true(cdp_cd_method_of(&decoding.method, method));
    decoding.n_taps = LAYERS - 1;
    decoding.head = is_lazy ? CDP_HEAD_LAZY : 0;
    assert_int_equal(cdp_choice_open(&choice, &decoding, 0, "", 1, true), CDP_OK);
    int ask = CDP_ASK_NOTHING, n_rows = 0, best = 0;
    for (int state = LAYERS; state > (is_lazy ? LAYERS - 2 : 0); state--, n_rows++) {
        row_of(row, state - 1, sureness[state - 1]);
        cdp_choice_state(choice, 9, state, row, NULL, &ask);
    }
    while (ask != CDP_ASK_NOTHING) {
        const int state = ask;
        ask = CDP_ASK_NOTHING;
        row_of(row, state - 1, sureness[state - 1]);
        cdp_choice_state(choice, 9, state, row, NULL, &ask);
        n_rows++;
    }
    const float *out = cdp_choice_row(choice);
    for (int v = 1; v < VOCAB; v++)
        best = out[v] > out[best] ? v : best;
    assert_int_equal(cdp_choice_log(choice)->selected[0], best);
    cdp_choice_close(choice);
    *n_rows_out = n_rows;
    return best;
}

static void test_choice_asks(void **state) {
    (void)state;
    static const float sureness[LAYERS] = {9, 1, 4, 3, 2, 1}; /* the walk ends at 2 */
    static const struct {
        const char *method;
        int window, layer, full, lazy; /* rows the head computes */
    } cases[] = {
        {"trough", CDP_ALL_LAYERS, 2, 6, 5},
        {"trough", 2, 3, 6, 3},
        {"trough", 1, 4, 6, 2},
        {"trough-m1", CDP_ALL_LAYERS, 1, 6, 5},
        {"trough-m2", CDP_ALL_LAYERS, 0, 6, 6},
        {"trough-p1", CDP_ALL_LAYERS, 3, 7, 6},
        {"trough-p2", CDP_ALL_LAYERS, 4, 7, 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int full, lazy;
        assert_int_equal(chosen_by(cases[i].method, cases[i].window, false, sureness, &full), cases[i].layer);
        assert_int_equal(chosen_by(cases[i].method, cases[i].window, true, sureness, &lazy), cases[i].layer);
        if (cases[i].layer != 0) /* a row that is still to come may be computed twice */
            assert_int_equal(full, cases[i].full);
        assert_int_equal(lazy, cases[i].lazy);
    }
}

/* The last layer has one likely token and 63 unlikely ones, the layer below it two even ones: over all tokens
 * the latter is the surer, over the two likeliest the former, and the walk stays. */
static void test_choice_by_the_likeliest(void **state) {
    (void)state;
    enum { N = 64 };
    static float last[N], low[N];
    for (int v = 0; v < N; v++) {
        last[v] = 0;
        low[v] = -20;
    }
    last[3] = 5; /* p near 0.7, the rest spread over 63 */
    low[5] = low[6] = 0;
    const int expected[2] = {0, 1};
    for (int has_top = 0; has_top < 2; has_top++) {
        cdp_decoding decoding = {.kind = CDP_DECODING_CONSERVATIVE,
                                 .n_layers = 2,
                                 .vocab = N,
                                 .n_taps = 1,
                                 .window = CDP_ALL_LAYERS,
                                 .entropy_top_k = has_top ? 2 : 0,
                                 .p = 1};
        cdp_choice *choice;
        int ask = CDP_ASK_NOTHING;
        assert_int_equal(cdp_choice_open(&choice, &decoding, 0, "", 1, true), CDP_OK);
        cdp_choice_state(choice, 1, 2, last, NULL, &ask);
        cdp_choice_state(choice, 1, 1, low, NULL, &ask);
        const float *row = cdp_choice_row(choice);
        const cdp_layer_log *seen = cdp_choice_log(choice);
        assert_int_equal(seen->selected[0], expected[has_top]);
        assert_true(row[3] == (has_top ? 5 : -20)); /* all of the row, whatever was compared */
        assert_true(fabs((double)seen->nats[0] - log(2)) < 1e-5);
        const double q = 1 / (1 + exp(5)), two = -q * log(q) - (1 - q) * log(1 - q);
        assert_true(has_top ? fabs((double)seen->nats[1] - two) < 1e-6 : (double)seen->nats[1] > 1);
        assert_int_equal(seen->argmax[1], 3);
        cdp_choice_close(choice);
    }
}

/* What a line of options taps. */
static void test_settled_taps(void **state) {
    (void)state;
    static const struct {
        const char *window, *method;
        int first, end; /* states */
    } cases[] = {{"all", "trough", 1, 6},       {"0", "trough", 6, 6},    {"2", "trough", 4, 6},
                 {"2", "trough-m2", 2, 6},      {"0", "trough-m1", 5, 6}, {"all", "last-m2", 4, 5},
                 {"all", "random-after", 1, 6}, {"99", "trough-p1", 1, 6}};
    cdp_model_card *card = calloc(1, sizeof *card);
    cdp_decoding d;
    cdp_options o;
    cdp_options_defaults(&o);
    card->n_layers = LAYERS;
    card->vocab = VOCAB;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cdp_tap_set want = {0};
        for (int s = cases[i].first; s < cases[i].end; s++)
            cdp_taps_add(&want, s);
        o.tap_window = cases[i].window;
        o.cd_method = cases[i].method;
        assert_int_equal(cdp_decoding_settle(&d, "conservative-dynamic", &o, card), CDP_OK);
        assert_memory_equal(&d.taps, &want, sizeof want);
        assert_int_equal(d.n_taps, cases[i].end - cases[i].first);
    }
    static const char *const wrong[] = {"", "-1", "none", "1x", "99999"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        o.tap_window = wrong[i];
        assert_int_equal(cdp_decoding_settle(&d, "conservative-dynamic", &o, card), CDP_USAGE);
        cdp_error_clear();
    }
    o.tap_window = "all";
    static const int top_k[][2] = {{0, 0}, {2, 2}, {VOCAB, VOCAB}, {VOCAB + 1, VOCAB}};
    for (size_t i = 0; i < sizeof top_k / sizeof top_k[0]; i++) {
        o.cd_entropy_top_k = top_k[i][0];
        assert_int_equal(cdp_decoding_settle(&d, "conservative-dynamic", &o, card), CDP_OK);
        assert_int_equal(d.entropy_top_k, top_k[i][1]);
    }
    o.cd_entropy_top_k = 1;
    assert_int_equal(cdp_decoding_settle(&d, "conservative-dynamic", &o, card), CDP_USAGE);
    cdp_error_clear();
    assert_int_equal(cdp_decoding_settle(&d, "greedy", &o, card), CDP_USAGE);
    cdp_error_clear();
    assert_int_equal(cdp_decoding_settle(&d, "standard", &o, card), CDP_OK);
    assert_int_equal(d.n_taps, 0);
    free(card);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_selection),
        cmocka_unit_test(test_known_walks),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_choice_asks),
        cmocka_unit_test(test_choice_by_the_likeliest),
        cmocka_unit_test(test_settled_taps),
    };
    return cmocka_run_group_tests_name("layers", tests, NULL, NULL);
}
