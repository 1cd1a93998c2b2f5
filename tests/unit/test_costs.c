/* Measured times: the file, what is refused in it, and the split that follows from it.
 *
 * What it catches: a split by bytes where times were given, one that breaks a budget for the sake of time, a
 * file of another model taken for this one's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "planner/costs.h"
#include "tests/support/random.h"

static char dir[] = "/tmp/cdpipe-costs-XXXXXX", path[64];

static int make_dir(void **state) {
    (void)state;
    if (mkdtemp(dir) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/costs.json", dir);
    return 0;
}
static int remove_dir(void **state) {
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void write_text(const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_round_trip(void **state) {
    (void)state;
    const cdp_costs saved = {.n_layers = 30, .n_stages = 2, .vocab_ms = 3.25, .layer_ms = {0.5, 0.125}};
    cdp_costs read;
    assert_int_equal(cdp_costs_save(&saved, path), CDP_OK);
    assert_int_equal(cdp_costs_read(&read, path, 30, 2), CDP_OK);
    assert_true(read.vocab_ms == 3.25 && read.layer_ms[0] == 0.5 && read.layer_ms[1] == 0.125);
    assert_true(cdp_costs_stage_ms(&read, 0, 4) == 5.25);
    assert_true(cdp_costs_stage_ms(&read, 1, 8) == 1.0);
    assert_true(cdp_costs_stage_ms(&read, 1, 0) == 0.0);
    write_text("{\"layers\": 4, \"stages\": [{\"rank\": 0, \"layer_ms\": 2}]}"); /* one for all */
    assert_int_equal(cdp_costs_read(&read, path, 4, 3), CDP_OK);
    assert_true(read.layer_ms[2] == 2.0 && read.vocab_ms == 0);
}

static void test_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "[]",
        "{}",
        "{\"layers\": 30}",
        "{\"layers\": 30, \"stages\": []}",
        "{\"layers\": 30, \"stages\": [3]}",
        "{\"layers\": 30, \"stages\": [{\"rank\": 0}]}",
        "{\"layers\": 30, \"stages\": [{\"rank\": 0, \"layer_ms\": 0}]}",
        "{\"layers\": 30, \"stages\": [{\"rank\": 0, \"layer_ms\": -1}]}",
        "{\"layers\": 30, \"stages\": [{\"rank\": 0, \"layer_ms\": \"1\"}]}",
        "{\"layers\": 29, \"stages\": [{\"rank\": 0, \"layer_ms\": 1}]}",
        "{\"layers\": 30, \"stages\": [{\"rank\": 1, \"layer_ms\": 1}]}",
        "{\"layers\": 30, \"vocab_ms\": -1, \"stages\": [{\"rank\": 0, \"layer_ms\": 1}]}",
        "{\"layers\": 30, \"stages\": [{\"rank\": 0, \"layer_ms\": 1}, {\"rank\": 1, \"layer_ms\": "
        "1}]}", /* of 3 */
    };
    cdp_costs read;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(bad[i]);
        cdp_error_clear();
        if (cdp_costs_read(&read, path, 30, 3) != CDP_BAD_MODEL)
            fail_msg("taken: %s", bad[i]);
        assert_non_null(strstr(cdp_error_message(), "costs.json"));
    }
    cdp_error_clear();
    assert_int_equal(cdp_costs_read(&read, "/nowhere/costs.json", 30, 3), CDP_NO_INPUT);
}

/* Smallest largest time over all splits within the budgets, by trying them all. */
static double best_by_hand(const cdp_split_input *in, int rank, int first, double so_far) {
    double best = 1e300;
    for (int end = first; end <= in->n_layers; end++) {
        const bool is_idle = rank > 0 && end == first;
        const double time = is_idle ? 0 : (end - first) * in->layer_ms[rank] + (rank == 0 ? in->vocab_ms : 0);
        uint64_t bytes = is_idle ? 0 : in->fixed_bytes + (rank == 0 ? in->vocab_bytes : 0);
        for (int l = first; l < end; l++)
            bytes += in->layer_bytes[l];
        if (bytes > in->budget_bytes[rank])
            break;
        const double largest = time > so_far ? time : so_far;
        double all = 1e300;
        if (rank < in->n_ranks - 1)
            all = best_by_hand(in, rank + 1, end, largest);
        else if (end == in->n_layers)
            all = largest;
        best = all < best ? all : best;
    }
    return best;
}

static void test_split_by_time(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 500; seed++) {
        test_random r = {seed};
        uint64_t layers[12], budgets[4];
        double ms[4];
        int end_layer[4];
        bool fits = false;
        cdp_split_input in = {.n_layers = 1 + test_random_below(&r, 12),
                              .n_ranks = 1 + test_random_below(&r, 4),
                              .layer_bytes = layers,
                              .budget_bytes = budgets,
                              .vocab_bytes = (uint64_t)test_random_below(&r, 30),
                              .fixed_bytes = (uint64_t)test_random_below(&r, 5),
                              .layer_ms = ms,
                              .vocab_ms = test_random_below(&r, 10)};
        for (int l = 0; l < in.n_layers; l++)
            layers[l] = 10;
        for (int i = 0; i < in.n_ranks; i++) {
            budgets[i] = 40 + (uint64_t)test_random_below(&r, 100);
            ms[i] = 1 + test_random_below(&r, 5);
        }
        assert_int_equal(cdp_split(end_layer, &fits, CDP_POLICY_AUTO, &in), CDP_OK);
        const double by_hand = best_by_hand(&in, 0, 0, 0);
        assert_int_equal(fits, by_hand < 1e299);
        double largest = 0;
        for (int i = 0; i < in.n_ranks; i++) {
            const int n = end_layer[i] - (i > 0 ? end_layer[i - 1] : 0);
            const double time = i > 0 && n == 0 ? 0 : n * ms[i] + (i == 0 ? in.vocab_ms : 0);
            largest = time > largest ? time : largest;
            if (fits)
                assert_true(cdp_split_total(&in, end_layer, i) <= budgets[i]);
        }
        if (fits && largest > by_hand)
            fail_msg("seed %llu: %g ms, %g would do", (unsigned long long)seed, largest, by_hand);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_split_by_time),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
