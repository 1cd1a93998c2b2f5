/* What the GPU loads late, in a ring that is at work: products of new shapes and recorded steps, here of
 * prompts of six lengths that come and go. The stand-in waits for all work before it loads, as CUDA may: who
 * loads while the ring waits for him waits for ever. */
#include "tests/support/batch.h"
#include "tests/support/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct { int n_prompt, n_new; } requests[] = {{20, 6}, {3, 9}, {8, 3}, {32, 4}, {4, 7}, {9, 12}};

/* With taps every second one looks at earlier layers: such steps are never recorded. */
static void write_requests(const char *path, bool has_taps) {
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        fprintf(to, "{\"max_new_tokens\": %d, %s\"prompt_ids\": [%zu", requests[i].n_new,
                has_taps && i % 2 == 1 ? "\"decoding\": \"dola\", " : "", 4 + i);
        for (int k = 1; k < requests[i].n_prompt; k++)
            fprintf(to, ", %d", 4 + k);
        fputs("]}\n", to);
    }
    assert_int_equal(fclose(to), 0);
}

static cJSON *records_of(int np, const char *input, const char *output) {
    test_run *run = test_run_open(120.0);
    if (np > 1)
        test_run_mpirun(run, np);
    test_run_env(run, "STANDIN_GPUS=2G,1G,3G");
    test_run_add(run, CDPIPE_STANDIN_BIN, "batch", "--model", "tests/golden/models/llama", "--device", "cuda",
                 "--max-batch", "4", "--chunk", "12", "--input", input, "--output", output, NULL);
    test_run_go(run);
    if (run->exit_code != 0 || run->timed_out ||
        strstr(run->err, np == 1 ? "road local" : "road nccl") == NULL ||
        strstr(run->err, "standin: ") != NULL)
        fail_msg("np %d: exit code %d, timed out %d after %.1f s; stderr: %s", np, run->exit_code,
                 run->timed_out, run->elapsed_s, run->err);
    test_run_close(run);
    return batch_records(output);
}

static void check(bool has_taps) {
    const char *folder = test_temp_dir();
    char input[4096], output[4096];
    snprintf(input, sizeof input, "%s/input-%d.jsonl", folder, has_taps);
    write_requests(input, has_taps);
    cJSON *alone = NULL;
    for (int np = 1; np <= 3; np++) {
        snprintf(output, sizeof output, "%s/output-%d-%d.jsonl", folder, has_taps, np);
        cJSON *records = records_of(np, input, output);
        if (np == 1)
            alone = records;
        else
            batch_check_same(alone, records, np == 2 ? "np 2" : "np 3");
        if (np > 1)
            cJSON_Delete(records);
    }
    cJSON_Delete(alone);
}

static void nobody_waits_for_what_waits_for_him(void **state) {
    (void)state;
    check(/*has_taps=*/false);
}

static void nor_beside_steps_that_tap(void **state) {
    (void)state;
    check(/*has_taps=*/true);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nobody_waits_for_what_waits_for_him),
                                       cmocka_unit_test(nor_beside_steps_that_tap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
