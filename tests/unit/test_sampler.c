/* What the sampler may draw from, against exact numbers (tests/golden/decoding) and against a plain sort;
 * draws that repeat.
 *
 * What it catches: a penalty in the wrong order or counted twice, ties cut at top-k, a top-p that keeps one
 * too many, a bucket that is not sorted where a cut falls, a random number that depends on what was drawn
 * before, a temperature that makes infinities.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/sample/sampler.h"
#include "tests/support/data.h"
#include "tests/support/golden.h"
#include "tests/support/random.h"

static double number(const cJSON *line, const char *key, double otherwise) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(line, key);
    return cJSON_IsNumber(item) ? item->valuedouble : otherwise;
}

static int32_t *ids_of(const cJSON *line, const char *key, size_t *n_out) {
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(line, key), *item;
    int32_t *ids = calloc((size_t)cJSON_GetArraySize(array) + 1, sizeof *ids);
    *n_out = 0;
    cJSON_ArrayForEach(item, array) ids[(*n_out)++] = item->valueint;
    return ids;
}

/* Probabilities of a case; those that straddle a tie are compared without their ids. All cuts of these cases
 * are further away than rounding. */
static void check_case(const cJSON *line, int number_of_line) {
    char name[32];
    size_t vocab, n_prompt, n_answer;
    snprintf(name, sizeof name, "row.%d", (int)number(line, "row", -1));
    float *logits = golden_f32(test_path("tests/golden/decoding/sampling.safetensors"), name, &vocab);
    int32_t *prompt = ids_of(line, "prompt_ids", &n_prompt),
            *answer = ids_of(line, "generated_ids", &n_answer);
    cdp_sampling p = cdp_sampling_default();
    p.temperature = number(line, "temperature", 1);
    p.top_k = (int)number(line, "top_k", 0);
    p.top_p = number(line, "top_p", 1);
    p.min_p = number(line, "min_p", 0);
    p.repetition_penalty = number(line, "repetition_penalty", 1);
    p.presence_penalty = number(line, "presence_penalty", 0);
    p.frequency_penalty = number(line, "frequency_penalty", 0);
    const cdp_history history = {prompt, answer, n_prompt, n_answer};
    cdp_sampler *sampler = NULL;
    int32_t *ids = calloc(vocab, sizeof *ids);
    double *probs = calloc(vocab, sizeof *probs);
    int n = 0;
    assert_int_equal(cdp_sampler_open(&sampler, (int)vocab), CDP_OK);
    assert_int_equal(cdp_sampler_distribution(sampler, logits, &p, &history, ids, probs, &n), CDP_OK);
    assert_true(number(line, "cut_margin", 1) > 1e-12);
    const bool is_tied = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(line, "tie_at_cut"));
    const cJSON *pair, *want = cJSON_GetObjectItemCaseSensitive(line, "probs");
    if (n != (int)number(line, "n_kept", -1))
        fail_msg("line %d: %d tokens kept, expected %g", number_of_line, n, number(line, "n_kept", -1));
    int i = 0;
    cJSON_ArrayForEach(pair, want) {
        const double prob = cJSON_GetArrayItem(pair, 1)->valuedouble;
        if ((!is_tied && ids[i] != cJSON_GetArrayItem(pair, 0)->valueint) || fabs(probs[i] - prob) > 1e-9)
            fail_msg("line %d: entry %d is id %d with %.12g, expected %d with %.12g", number_of_line, i,
                     ids[i], probs[i], cJSON_GetArrayItem(pair, 0)->valueint, prob);
        i++;
    }
    cdp_sampler_close(sampler);
    free(probs);
    free(ids);
    free(answer);
    free(prompt);
    free(logits);
}

static void test_vectors(void **state) {
    (void)state;
    FILE *file = fopen(test_path("tests/golden/decoding/sampling.jsonl"), "r");
    char *line = NULL;
    size_t room = 0;
    int n = 0;
    assert_non_null(file);
    for (int number_of_line = 1; getline(&line, &room, file) > 0; number_of_line++) {
        cJSON *json = cJSON_Parse(line);
        assert_non_null(json);
        if (cJSON_GetObjectItemCaseSensitive(json, "allowed_ids") == NULL) { /* a mask is another feature */
            check_case(json, number_of_line);
            n++;
        }
        cJSON_Delete(json);
    }
    free(line);
    fclose(file);
    assert_int_equal(n, 176);
}

/* Draws follow the distribution, and depend on seed, id and position alone. */
static void test_draws(void **state) {
    (void)state;
    enum { VOCAB = 5, DRAWS = 20000 };
    const float logits[VOCAB] = {0, 1, 2, -1, 0.5f};
    const cdp_history none = {0};
    int counts[VOCAB] = {0};
    double probs[VOCAB];
    int32_t ids[VOCAB], token, again;
    int n;
    cdp_sampling p = cdp_sampling_default();
    cdp_sampler *sampler = NULL;
    p.temperature = 1;
    assert_int_equal(cdp_sampler_open(&sampler, VOCAB), CDP_OK);
    assert_int_equal(cdp_sampler_distribution(sampler, logits, &p, &none, ids, probs, &n), CDP_OK);
    for (int i = 0; i < DRAWS; i++) {
        assert_int_equal(cdp_sampler_draw(sampler, logits, &p, &none, "a", i, &token), CDP_OK);
        counts[token]++;
    }
    for (int i = 0; i < VOCAB; i++)
        if (fabs(counts[ids[i]] - DRAWS * probs[i]) > 5 * sqrt(DRAWS * probs[i]))
            fail_msg("id %d drawn %d times, expected about %.0f", ids[i], counts[ids[i]], DRAWS * probs[i]);
    assert_int_equal(cdp_sampler_draw(sampler, logits, &p, &none, "a", 77, &token), CDP_OK);
    assert_int_equal(cdp_sampler_draw(sampler, logits, &p, &none, "b", 3, &again), CDP_OK);
    assert_int_equal(cdp_sampler_draw(sampler, logits, &p, &none, "a", 77, &again), CDP_OK);
    assert_int_equal(token, again);
    assert_true(cdp_random_unit(1, "a", 2, 3) != cdp_random_unit(2, "a", 2, 3));
    assert_true(cdp_random_unit(1, "a", 2, 3) != cdp_random_unit(1, "b", 2, 3));
    assert_true(cdp_random_unit(1, "a", 2, 3) != cdp_random_unit(1, "a", 3, 3));
    assert_true(cdp_random_unit(1, "a", 2, 3) != cdp_random_unit(1, "a", 2, 4));
    cdp_sampler_close(sampler);
}

static void test_not_finite(void **state) {
    (void)state;
    static const float rows[][3] = {{1, NAN, 2}, {1, INFINITY, 2}, {-INFINITY, -INFINITY, -INFINITY}};
    const cdp_history none = {0};
    const cdp_sampling p = cdp_sampling_default();
    cdp_sampler *sampler = NULL;
    int32_t token;
    assert_int_equal(cdp_sampler_open(&sampler, 3), CDP_OK);
    for (int i = 0; i < 3; i++) {
        cdp_error_clear();
        assert_int_equal(cdp_sampler_draw(sampler, rows[i], &p, &none, "", 0, &token), CDP_BAD_DATA);
        assert_non_null(strstr(cdp_error_message(), "non-finite logits"));
    }
    const float masked[3] = {-INFINITY, 1, 1};
    cdp_error_clear();
    assert_int_equal(cdp_sampler_draw(sampler, masked, &p, &none, "", 0, &token), CDP_OK);
    assert_int_equal(token, 1); /* ties go to the lowest id */
    cdp_sampler_close(sampler);
}

static void test_logprobs(void **state) {
    (void)state;
    const float logits[4] = {0, 0, 0, 0};
    int32_t ids[2];
    double values[2];
    assert_true(fabs(cdp_logprob(logits, 4, 2) + log(4)) < 1e-12);
    cdp_top_logprobs(logits, 4, 2, ids, values);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 1);
    const float slope[4] = {1, 3, 2, 0};
    cdp_top_logprobs(slope, 4, 2, ids, values);
    assert_int_equal(ids[0], 1);
    assert_int_equal(ids[1], 2);
    assert_true(fabs(values[0] - values[1] - 1) < 1e-12);
}

typedef struct ranked {
    int32_t id;
    double weight;
} ranked;

static int by_weight(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The same rules by one full sort: what the buckets must not change. Returns how many stay. */
static int plain_distribution(const float *logits, int vocab, const cdp_sampling *p, ranked *out) {
    double largest = -INFINITY, sum = 0, tail = 0;
    for (int i = 0; i < vocab; i++)
        largest = fmax(largest, (double)logits[i]);
    for (int i = 0; i < vocab; i++)
        out[i] = (ranked){i, exp(((double)logits[i] - largest) / p->temperature)};
    qsort(out, (size_t)vocab, sizeof *out, by_weight);
    int n = vocab;
    if (p->top_k > 0 && p->top_k < vocab)
        for (n = p->top_k; n < vocab && out[n].weight == out[p->top_k - 1].weight;)
            n++;
    for (int i = n - 1; i >= 0; i--)
        sum += out[i].weight;
    while (p->top_p < 1 && n > 1 && tail + out[n - 1].weight <= (1 - p->top_p) * sum)
        tail += out[--n].weight;
    while (n > 1 && out[n - 1].weight < p->min_p)
        n--;
    sum = 0;
    for (int i = n - 1; i >= 0; i--)
        sum += out[i].weight;
    for (int i = 0; i < n; i++)
        out[i].weight /= sum;
    while (n > 1 && out[n - 1].weight == 0) /* only now: the division can end what was left of a double */
        n--;
    return n;
}

/* Spread rows and flat ones, whole numbers with many ties, masked ids; a draw takes the token whose share of
 * the listed probabilities u falls into. */
static void test_buckets(void **state) {
    (void)state;
    enum { VOCAB = 700, ROUNDS = 1000 };
    static float logits[VOCAB];
    static ranked want[VOCAB];
    static int32_t ids[VOCAB];
    static double probs[VOCAB];
    test_random r = {5};
    cdp_sampler *sampler = NULL;
    const cdp_history none = {0};
    assert_int_equal(cdp_sampler_open(&sampler, VOCAB), CDP_OK);
    for (int round = 0; round < ROUNDS; round++) {
        const float spread = powf(10, 3 * test_random_signed(&r));
        const bool has_ties = test_random_below(&r, 3) == 0;
        for (int i = 0; i < VOCAB; i++) {
            logits[i] = spread * test_random_signed(&r);
            logits[i] = has_ties ? roundf(logits[i]) : logits[i];
            if (test_random_below(&r, 50) == 0)
                logits[i] = -INFINITY;
        }
        logits[test_random_below(&r, VOCAB)] = 0;
        cdp_sampling p = cdp_sampling_default();
        p.temperature = 0.1 + 2 * test_random_unit(&r);
        p.top_k = test_random_below(&r, 2) * test_random_below(&r, VOCAB + 10);
        p.top_p = test_random_below(&r, 2) == 0 ? 1 : 0.001 + 0.998 * test_random_unit(&r);
        p.min_p = test_random_below(&r, 2) * pow(10, -6 * test_random_unit(&r));
        p.seed = (uint64_t)round;
        int n = 0;
        const int n_want = plain_distribution(logits, VOCAB, &p, want);
        assert_int_equal(cdp_sampler_distribution(sampler, logits, &p, &none, ids, probs, &n), CDP_OK);
        if (n != n_want)
            fail_msg("round %d: %d tokens kept, a plain sort keeps %d", round, n, n_want);
        for (int i = 0; i < n; i++)
            if (ids[i] != want[i].id || fabs(probs[i] - want[i].weight) > 1e-12)
                fail_msg("round %d: place %d is id %d with %.17g, expected %d with %.17g", round, i, ids[i],
                         probs[i], want[i].id, want[i].weight);
        for (int position = 0; position < 10; position++) {
            const double u = cdp_random_unit(p.seed, "s", position, 0);
            double passed = 0;
            int at = 0;
            int32_t drawn = -1;
            while (at < n - 1 && (passed += probs[at]) <= u)
                at++;
            assert_int_equal(cdp_sampler_draw(sampler, logits, &p, &none, "s", position, &drawn), CDP_OK);
            if (drawn != ids[at])
                fail_msg("round %d, position %d: id %d drawn, u = %g is id %d", round, position, drawn, u,
                         ids[at]);
        }
    }
    cdp_sampler_close(sampler);
}

/* Values at the ends of their ranges. */
static void test_extremes(void **state) {
    (void)state;
    enum { VOCAB = 4 };
    static const float logits[VOCAB] = {1, 2, 5, 3}, flat[VOCAB] = {7, 7, 7, 7},
                       far[VOCAB] = {-3e38f, 3e38f, 0, -INFINITY};
    static const double temperatures[] = {1e-310, 1e-300, 1e-9};
    const int32_t answer[] = {2, 2, -1, VOCAB, INT32_MAX}; /* ids without a logit have nothing to weaken */
    const cdp_history none = {0}, history = {answer, answer, 5, 5};
    cdp_sampling p = cdp_sampling_default();
    cdp_sampler *sampler = NULL;
    int32_t token, ids[VOCAB];
    double probs[VOCAB];
    int n;
    assert_int_equal(cdp_sampler_open(&sampler, VOCAB), CDP_OK);
    for (int i = 0; i < 3; i++) {
        p.temperature = temperatures[i];
        assert_int_equal(cdp_sampler_draw(sampler, logits, &p, &none, "", i, &token), CDP_OK);
        assert_int_equal(token, 2);
        assert_int_equal(cdp_sampler_distribution(sampler, flat, &p, &none, ids, probs, &n), CDP_OK);
        assert_int_equal(n, VOCAB); /* equal logits are equal at any temperature */
    }
    p.temperature = p.min_p = 1; /* as likely as the likeliest is not less likely */
    assert_int_equal(cdp_sampler_distribution(sampler, flat, &p, &none, ids, probs, &n), CDP_OK);
    assert_int_equal(n, VOCAB);
    p.min_p = 0;
    p.temperature = 1000;
    assert_int_equal(cdp_sampler_distribution(sampler, far, &p, &none, ids, probs, &n), CDP_OK);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 1);
    p.temperature = 0;
    p.frequency_penalty = 1.5;
    assert_int_equal(cdp_sampler_draw(sampler, logits, &p, &history, "", 0, &token), CDP_OK);
    assert_int_equal(token, 3); /* 5 - 2 * 1.5 = 2 */
    p.frequency_penalty = 0.9;
    for (int i = 0; i < 3; i++) { /* 5 - 2 * 0.9 = 3.2, however often it is asked */
        assert_int_equal(cdp_sampler_draw(sampler, logits, &p, &history, "", i, &token), CDP_OK);
        assert_int_equal(token, 2);
    }
    p.repetition_penalty = 2; /* 5 / 2 - 1.8 = 0.7; without a history 5 */
    assert_int_equal(cdp_sampler_draw(sampler, logits, &p, &history, "", 0, &token), CDP_OK);
    assert_int_equal(token, 3);
    assert_int_equal(cdp_sampler_draw(sampler, logits, &p, &none, "", 0, &token), CDP_OK);
    assert_int_equal(token, 2);
    p.repetition_penalty = 1e-320;
    cdp_error_clear();
    assert_int_equal(cdp_sampler_draw(sampler, logits, &p, &history, "", 0, &token), CDP_BAD_DATA);
    assert_non_null(strstr(cdp_error_message(), "non-finite logits: the penalties"));
    cdp_error_clear();
    cdp_sampler_close(sampler);
}

/* Even in each sixteenth, whatever counts up; neighbours tell nothing of each other; fixed for all time. */
static void test_random_numbers(void **state) {
    (void)state;
    enum { DRAWS = 64000, BINS = 16 };
    for (int what = 0; what < 4; what++) {
        int bins[BINS] = {0}, pairs[BINS] = {0};
        double before = 0.5;
        for (int i = 0; i < DRAWS; i++) {
            char id[16];
            snprintf(id, sizeof id, "r%d", what == 1 ? i : 0);
            const double u =
                cdp_random_unit(what == 0 ? (uint64_t)i : 3, id, what == 2 ? i : 5, what == 3 ? i : 0);
            assert_true(u >= 0 && u < 1);
            bins[(int)(u * BINS)]++;
            pairs[(int)(u * 4) * 4 + (int)(before * 4)]++;
            before = u;
        }
        for (int b = 0; b < BINS; b++) /* five standard deviations of about 61 */
            if (abs(bins[b] - DRAWS / BINS) > 310 || abs(pairs[b] - DRAWS / BINS) > 310)
                fail_msg("argument %d: bin %d holds %d and %d, expected about %d", what, b, bins[b], pairs[b],
                         DRAWS / BINS);
    }
    assert_true(cdp_random_unit(0, "", 0, 0) == 0x1.67db282fe3454p-3); /* from a second implementation */
    assert_true(cdp_random_unit(42, "a1", 17, 1) == 0x1.5782922c9a970p-5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_extremes),       cmocka_unit_test(test_draws),
        cmocka_unit_test(test_not_finite),     cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_random_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
