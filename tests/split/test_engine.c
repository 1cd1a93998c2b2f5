/* Same bits in company: sequences that share steps, enter and leave at any moment and are put back for want
 * of KV blocks get the logits they get alone, on one rank, two and three.
 *
 * What it catches: a row read from the wrong slot, a block used by two, logits handed to the wrong sequence
 * or twice after a recomputation, a scheduler that waits for itself (the watchdog of rank_engine ends that).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "planner/memory.h"
#include "planner/roles.h"
#include "tests/support/data.h"
#include "tests/support/spawn.h"

static cdp_model_card card;

/* Five layers dealt out by hand, the vocabulary's rank the largest: its budget decides the number of blocks.
 */
static const char *const maps[] = {NULL, "5", "3,2", "2,2,1"};
static const int layers_of_rank_0[] = {0, 5, 3, 2};

/* The budget at which rank 0 can hold n_blocks KV blocks and no more. */
static uint64_t budget_for(const char *model, int np, int chunk, int n_blocks) {
    cdp_tensor_index *index = NULL;
    assert_int_equal(cdp_model_card_read(&card, test_path(model)), CDP_OK);
    assert_int_equal(cdp_tensor_index_open(&index, test_path(model)), CDP_OK);
    assert_int_equal(cdp_model_card_settle(&card, index), CDP_OK);
    cdp_tensor_index_close(index);
    const cdp_run_shape run = {.dtype = card.file_dtype,
                               .kv_dtype = card.file_dtype,
                               .ctx = 110,
                               .max_batch = 5,
                               .chunk = chunk,
                               .n_ranks = np,
                               .n_taps = card.n_layers};
    return cdp_memory_stage(&card, &run, 0, layers_of_rank_0[np], true, n_blocks).total;
}

/* Returns what its players saw, in a number that hangs on the model alone. */
static unsigned long long play(const char *model, int np, int chunk, int n_blocks) {
    char budget[32], width[16];
    test_run *run = test_run_open(60.0);
    snprintf(budget, sizeof budget, "%llu", (unsigned long long)budget_for(model, np, chunk, n_blocks));
    snprintf(width, sizeof width, "%d", chunk);
    if (np > 1)
        test_run_mpirun(run, np);
    test_run_add(run, CDPIPE_TEST_BIN_DIR "/split_rank_engine", "--model", test_path(model), "--device",
                 "cpu", "--threads", "1", "--chunk", width, "--max-gpu-memory", budget, "--device-map",
                 maps[np], NULL);
    test_run_go(run);
    if (run->exit_code != 0 || strncmp(run->out, "ok", 2) != 0)
        fail_msg("%s, np %d, chunk %d, %d blocks: exit %d, %s%s", model, np, chunk, n_blocks, run->exit_code,
                 run->out, run->err);
    unsigned long long n_put_back = 0, saw = 0;
    assert_int_equal(sscanf(strstr(run->out, "put back"), "put back %llu times, saw %llx", &n_put_back, &saw),
                     2);
    print_message("    %s", run->out);
    if (n_blocks < 12) /* so few that the test would miss its point without it */
        assert_true(n_put_back > 0);
    test_run_close(run);
    return saw;
}

static void test_room_for_all(void **state) {
    (void)state;
    play("tests/golden/models/llama", 1, 16, 1000);
    play("tests/golden/models/mistral", 2, 7, 1000);
    play("tests/golden/models/qwen3", 3, 64, 1000);
}

static void test_few_blocks(void **state) {
    (void)state;
    const unsigned long long saw = play("tests/golden/models/llama", 1, 32, 8);
    assert_true(play("tests/golden/models/llama", 2, 16, 8) == saw);
    assert_true(play("tests/golden/models/llama", 3, 5, 8) == saw);
    play("tests/golden/models/olmo2", 3, 5, 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_room_for_all),
        cmocka_unit_test(test_few_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
