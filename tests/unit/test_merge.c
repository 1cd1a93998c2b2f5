/* Merges against a plain search: the pair of lowest rank, leftmost first, again and again.
 *
 * What it catches: an entry of the queue that is used though it is stale, places of a rank in the wrong
 * order, a piece cut where a merge crosses, a cache that gives another word's ids, few and many symbols that
 * differ.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/text/bpe.h"
#include "launcher/text/pair_queue.h"
#include "tests/support/random.h"

enum { MOST_TOKENS = 220, MOST_MERGES = 700 };

typedef struct plain_merge {
    int32_t left, right, product;
} plain_merge;

/* A vocabulary of a few letters and texts of them, and merges in any order: also such that a later one makes
 * an earlier one possible, as converted files have. */
typedef struct model {
    cdp_vocabulary vocabulary;
    cdp_bpe bpe;
    plain_merge merges[MOST_MERGES];
    int n_merges, n_letters;
} model;

static void open_model(model *m, test_random *random, int n_letters, bool is_byte_level) {
    char text[64];
    int n = n_letters;
    m->n_letters = n_letters;
    m->n_merges = 0;
    assert_int_equal(cdp_vocabulary_open(&m->vocabulary, MOST_TOKENS, MOST_TOKENS), CDP_OK);
    for (int i = 0; i < n_letters; i++)
        assert_int_equal(cdp_vocabulary_set(&m->vocabulary, i, &(char){(char)('a' + i)}, 1), CDP_OK);
    while (n < MOST_TOKENS) {
        size_t n_a, n_b;
        const char *a = cdp_vocabulary_text(&m->vocabulary, test_random_below(random, n), &n_a);
        const char *b = cdp_vocabulary_text(&m->vocabulary, test_random_below(random, n), &n_b);
        if (n_a + n_b > 12)
            continue;
        memcpy(text, a, n_a);
        memcpy(text + n_a, b, n_b);
        if (cdp_vocabulary_find(&m->vocabulary, text, n_a + n_b) < 0)
            assert_int_equal(cdp_vocabulary_set(&m->vocabulary, n++, text, n_a + n_b), CDP_OK);
    }
    assert_int_equal(cdp_bpe_open(&m->bpe, &m->vocabulary, is_byte_level), CDP_OK);
    for (int id = n_letters; id < n; id++) {
        size_t n_text;
        const char *whole = cdp_vocabulary_text(&m->vocabulary, id, &n_text);
        for (size_t cut = 1; cut < n_text && m->n_merges < MOST_MERGES; cut++) {
            const plain_merge one = {cdp_vocabulary_find(&m->vocabulary, whole, cut),
                                     cdp_vocabulary_find(&m->vocabulary, whole + cut, n_text - cut), id};
            if (one.left >= 0 && one.right >= 0)
                m->merges[m->n_merges++] = one;
        }
    }
    for (int i = m->n_merges - 1; i > 0; i--) {
        const int other = test_random_below(random, i + 1);
        const plain_merge swapped = m->merges[i];
        m->merges[i] = m->merges[other];
        m->merges[other] = swapped;
    }
    for (int i = 0; i < m->n_merges; i++)
        assert_int_equal(cdp_bpe_add(&m->bpe, m->merges[i].left, m->merges[i].right, i, m->merges[i].product),
                         CDP_OK);
}

static void close_model(model *m) {
    cdp_bpe_close(&m->bpe);
    cdp_vocabulary_close(&m->vocabulary);
}

/* The rank of a pair, n_merges when it has none. */
static int rank_of(const model *m, int32_t left, int32_t right) {
    for (int i = 0; i < m->n_merges; i++)
        if (m->merges[i].left == left && m->merges[i].right == right)
            return i;
    return m->n_merges;
}

static size_t merge_plainly(const model *m, const char *text, size_t n, int32_t *ids) {
    for (size_t i = 0; i < n; i++)
        ids[i] = text[i] - 'a';
    for (;;) {
        int least = m->n_merges;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const int rank = rank_of(m, ids[i], ids[i + 1]);
            at = rank < least ? i : at;
            least = rank < least ? rank : least;
        }
        if (least == m->n_merges)
            return n;
        ids[at] = m->merges[least].product;
        n--;
        memmove(ids + at + 1, ids + at + 2, (n - at - 1) * sizeof *ids);
    }
}

/* Texts of every length around the borders: of the cache, and between few symbols and many. */
static void test_against_search(void **state) {
    (void)state;
    static const size_t lengths[] = {1, 2, 5, 29, 30, 31, 39, 40, 41, 42, 80, 200};
    test_random random = {5};
    for (int round = 0; round < 60; round++) {
        model m;
        cdp_bpe_work work = {.has_cache = round % 2 == 0};
        open_model(&m, &random, 2 + round % 5, round % 3 == 0);
        for (int i = 0; i < 36; i++) {
            char text[200];
            int32_t want[200];
            cdp_ids got = {0};
            const size_t n = lengths[i % 12];
            const bool is_run = i % 7 == 0;
            for (size_t k = 0; k < n; k++)
                text[k] = (char)('a' + (is_run ? 0 : test_random_below(&random, m.n_letters)));
            const size_t n_want = merge_plainly(&m, text, n, want);
            assert_int_equal(cdp_bpe_encode(&m.bpe, &work, text, n, &got), CDP_OK);
            if (got.n != n_want || memcmp(got.data, want, n_want * sizeof *want) != 0)
                fail_msg("round %d: \"%.*s\": %zu ids, expected %zu", round, (int)n, text, got.n, n_want);
            free(got.data);
        }
        cdp_bpe_work_free(&work);
        close_model(&m);
    }
}

/* The queue alone: entries in every order, taken while others come. */
static void test_queue(void **state) {
    (void)state;
    test_random random = {6};
    cdp_pair_queue queue = {0};
    for (int round = 0; round < 20; round++) {
        static uint64_t there[4000];
        size_t n = 0;
        uint32_t rank, place;
        cdp_pair_queue_clear(&queue);
        assert_false(cdp_pair_queue_pop(&queue, &rank, &place));
        for (int i = 0; i < 4000; i++) {
            if (i < 3000 && test_random_below(&random, 3) > 0) {
                rank = (uint32_t)test_random_below(&random, round < 10 ? 3 : 1000);
                place = round % 2 == 0 ? (uint32_t)i : (uint32_t)test_random_below(&random, 5000);
                assert_true(cdp_pair_queue_push(&queue, rank, place));
                there[n++] = (uint64_t)rank << 32 | place;
                continue;
            }
            size_t least = 0;
            for (size_t k = 1; k < n; k++)
                least = there[k] < there[least] ? k : least;
            assert_int_equal(cdp_pair_queue_pop(&queue, &rank, &place), n > 0);
            if (n == 0)
                continue;
            assert_true(((uint64_t)rank << 32 | place) == there[least]);
            there[least] = there[--n];
        }
    }
    cdp_pair_queue_free(&queue);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_search),
        cmocka_unit_test(test_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
