/* What the sampler may draw from, against exact numbers (tests/golden/decoding); draws that repeat; the
 * logits hash.
 *
 * What it catches: a penalty in the wrong order or counted twice, ties cut at top-k, a top-p that keeps one
 * too many, a random number that depends on what was drawn before, a hash blind to order.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/sample/logits_hash.h"
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

/* Probabilities of a case; those that straddle a tie are compared without their ids. */
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
        const cJSON *margin = cJSON_GetObjectItemCaseSensitive(json, "cut_margin");
        /* A mask is another feature; a cut nearer than rounding may fall either way. */
        const bool is_fragile = cJSON_IsNumber(margin) && margin->valuedouble < 1e-12;
        if (cJSON_GetObjectItemCaseSensitive(json, "allowed_ids") == NULL && !is_fragile) {
            check_case(json, number_of_line);
            n++;
        }
        cJSON_Delete(json);
    }
    free(line);
    fclose(file);
    assert_true(n > 100);
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

/* One changed bit, two values or two rows in each other's place, a zero of the other sign: all change the
 * hash. */
static void test_hash(void **state) {
    (void)state;
    enum { N = 37 };
    float row[N], other[N];
    test_random r = {7};
    for (int i = 0; i < N; i++)
        row[i] = test_random_signed(&r);
    const uint64_t hash = cdp_logits_row_hash(row, N);
    for (int i = 0; i < N; i++)
        for (int bit = 0; bit < 32; bit++) {
            uint32_t bits;
            memcpy(other, row, sizeof row);
            memcpy(&bits, &other[i], sizeof bits);
            bits ^= 1u << bit;
            memcpy(&other[i], &bits, sizeof bits);
            assert_true(cdp_logits_row_hash(other, N) != hash);
        }
    for (int i = 0; i + 1 < N; i++) {
        memcpy(other, row, sizeof row);
        other[i] = row[(i * 5 + 3) % N];
        other[(i * 5 + 3) % N] = row[i];
        assert_true((i * 5 + 3) % N == i || cdp_logits_row_hash(other, N) != hash);
    }
    const float plus[1] = {0.0f}, minus[1] = {-0.0f};
    assert_true(cdp_logits_row_hash(plus, 1) != cdp_logits_row_hash(minus, 1));
    assert_true(cdp_logits_row_hash(row, N - 1) != hash);
    const uint64_t ab = cdp_logits_hash_add(cdp_logits_hash_add(CDP_LOGITS_HASH_START, 1), 2);
    const uint64_t ba = cdp_logits_hash_add(cdp_logits_hash_add(CDP_LOGITS_HASH_START, 2), 1);
    assert_true(ab != ba);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),  cmocka_unit_test(test_draws), cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_logprobs), cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
