/* Entropy of a row of logits and of its likeliest tokens alone, against exact numbers
 * (tests/golden/decoding).
 *
 * What it catches: an entropy that a masked logit spoils, a likeliest token lost at the end of a vector, sums
 * that lose bits over a real vocabulary, the k largest chosen wrongly among equal ones.
 */
#include "launcher/sample/entropy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/data.h"
#include "tests/support/golden.h"
#include "tests/support/random.h"

#define DATA(name) test_path("tests/golden/decoding/" name)

static void check_entropy(const cJSON *line, int number, void *of) {
    int n;
    (void)of;
    float *logits = golden_floats(golden_get(line, "logits"), &n);
    const cdp_certainty c = cdp_certainty_of(logits, n);
    const double want = golden_number(golden_get(line, "nats"));
    const cJSON *argmax = golden_get(line, "argmax");
    if (isnan(want) ? !isnan(c.nats) : !(fabs(c.nats - want) <= 1e-6 * (1 + want)))
        fail_msg("line %d: %.9g nats, expected %.9g", number, c.nats, want);
    if (cJSON_IsNull(argmax) ? c.argmax != -1 : c.argmax != argmax->valueint)
        fail_msg("line %d: argmax %d", number, c.argmax);
    if (!isnan(want)) {
        assert_true(fabs(cdp_nats_to_bits(want) - golden_number(golden_get(line, "bits"))) < 1e-9);
        if (n > 1)
            assert_true(fabs(cdp_nats_normalised(want, n) - golden_number(golden_get(line, "normalised"))) <
                        1e-9);
    }
    free(logits);
}

static void test_entropy(void **state) {
    (void)state;
    assert_true(golden_lines(DATA("entropy.jsonl"), check_entropy, NULL) == 55);
}

/* A vocabulary of real size, its likeliest token in every place of a vector, against sums in double. */
static void test_entropy_of_a_real_vocabulary(void **state) {
    (void)state;
    enum { VOCAB = 128256 };
    float *z = calloc(VOCAB, sizeof *z);
    test_random r = {7};
    for (int i = 0; i < VOCAB; i++)
        z[i] = (float)test_random_below(&r, 20000) / 1000.0f;
    for (int at = VOCAB - 40; at < VOCAB; at += 3) {
        const float was = z[at];
        double sum_z = 0, sum_s = 0;
        z[at] = 31.5f;
        for (int i = 0; i < VOCAB; i++) {
            const double d = (double)z[i] - 31.5;
            sum_z += exp(d);
            sum_s += d * exp(d);
        }
        const cdp_certainty c = cdp_certainty_of(z, VOCAB);
        assert_int_equal(c.argmax, at);
        assert_true(fabs(c.nats - (log(sum_z) - sum_s / sum_z)) < 1e-6);
        assert_true(fabs(c.top - 1 / sum_z) < 1e-6);
        z[at] = was;
    }
    free(z);
}

/* Of the k largest alone: worked out by hand. With p = 1/2, 1/4, 1/4 the entropy is 3/2 ln 2. */
static void test_entropy_of_the_largest(void **state) {
    (void)state;
    const float ln2 = 0.69314718f, inf = INFINITY;
    const double nat = 0.69314718055994531;
    const struct {
        float logits[5];
        int n, k;
        double nats, share;
    } cases[] = {
        {{0, 5, 5, -3, 5}, 5, 2, nat, 1}, /* of three equal ones it does not matter which */
        {{0, 5, 5, -3, 5}, 5, 3, 1.0986122886681098, 1},
        {{-9, 0, ln2, -8, 0}, 5, 3, 1.5 * nat, 0.94639463035718607},
        {{ln2, 0, -9, 0, -8}, 5, 3, 1.5 * nat, 0.94639463035718607},      /* the largest ones first */
        {{-9, -8, 0, 0, ln2}, 5, 3, 1.5 * nat, 0.94639463035718607},      /* and last */
        {{0, ln2, -inf}, 3, 2, 0.63651416829481289, 0.91829583405448951}, /* p = 2/3, 1/3 */
        {{7, -inf, -inf, -inf}, 4, 3, 0, 0},                              /* masked ones add nothing */
        {{0, 0, 0, 0}, 4, 4, 2 * nat, 1},                                 /* all of them */
        {{3, 1, 2}, 3, 1, 0, (double)NAN},
        {{1, 2, 3, (float)NAN}, 4, 2, (double)NAN, (double)NAN}, /* also one that is not among them */
        {{inf, 2, 3}, 3, 2, (double)NAN, (double)NAN},
        {{-inf, -inf}, 2, 2, (double)NAN, (double)NAN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float room[5];
        const double got = cdp_nats_of_top(cases[i].logits, cases[i].n, cases[i].k, room),
                     share = cdp_nats_normalised(got, cases[i].k);
        if (isnan(cases[i].nats) ? !isnan(got) : !(fabs(got - cases[i].nats) < 1e-6))
            fail_msg("case %zu: %.9g nats, expected %.9g", i, got, cases[i].nats);
        if (isnan(cases[i].share) ? !isnan(share) : !(fabs(share - cases[i].share) < 1e-6))
            fail_msg("case %zu: share %.9g, expected %.9g", i, share, cases[i].share);
    }
}

static int larger_first(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Any order of the logits, many of them equal, any k: that of the sorted row's first k. */
static void test_entropy_of_the_largest_of_many(void **state) {
    (void)state;
    enum { MOST = 3000 };
    float *z = calloc(MOST, sizeof *z), *sorted = calloc(MOST, sizeof *z), *room = calloc(MOST, sizeof *z);
    test_random r = {11};
    for (int round = 0; round < 60; round++) {
        const int n = 1 + test_random_below(&r, MOST),
                  k = 1 + test_random_below(&r, round % 2 || n < 50 ? n : 50);
        for (int i = 0; i < n; i++)
            sorted[i] = z[i] = (float)test_random_below(&r, 500) / 50.0f - 5;
        qsort(sorted, (size_t)n, sizeof *sorted, larger_first);
        const double want = cdp_certainty_of(sorted, k).nats;
        assert_true(fabs(cdp_nats_of_top(z, n, k, room) - want) < 1e-5);
    }
    free(room);
    free(sorted);
    free(z);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entropy),
        cmocka_unit_test(test_entropy_of_a_real_vocabulary),
        cmocka_unit_test(test_entropy_of_the_largest),
        cmocka_unit_test(test_entropy_of_the_largest_of_many),
    };
    return cmocka_run_group_tests_name("entropy", tests, NULL, NULL);
}
