/* A batch of many kinds of lines: each record is the one its line gets alone, at any number of ranks, of
 * sequences at once, any chunk, order and threads, and when sequences are put back for want of KV blocks.
 *
 * What it catches: a seed that hangs on the order, parameters of one line used for another, logits of the
 * company, a text that goes on after a recomputation where it should not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "planner/memory.h"
#include "planner/roles.h"
#include "tests/split/chat_model.h"
#include "tests/support/batch.h"
#include "tests/support/data.h"
#include "tests/support/golden.h"
#include "tests/support/random.h"

enum { N_LINES = 20, CTX = 112 };

static char input[512], reversed[512];
static char *lines[N_LINES];
static cJSON *alone;

/* A line of random length and parameters; some in OpenAI's form, some that are refused. */
static char *make_line(test_random *r, int i) {
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    const bool is_openai = i % 7 == 3;
    fprintf(
        to,
        is_openai
            ? "{\"custom_id\":\"k%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":["
            : "{\"id\":\"k%d\",\"prompt_ids\":[",
        i);
    const bool grows = i % 3 == 1; /* a short prompt and a long answer: what runs out of KV blocks */
    const int n_prompt = 1 + test_random_below(r, grows ? 8 : 70);
    for (int k = 0; k < n_prompt; k++)
        fprintf(to, "%s%d", k > 0 ? "," : "", test_random_below(r, 2048));
    fprintf(to, "],\"%s\":%d", is_openai ? "max_tokens" : "max_new_tokens",
            1 + test_random_below(r, 40) + (grows ? 50 : 0));
    if (i % 3 != 0) /* the others are greedy */
        fprintf(to, ",\"temperature\":%.2f,\"top_k\":%d,\"top_p\":0.%d", 0.2 + test_random_unit(r),
                test_random_below(r, 50), 5 + test_random_below(r, 5));
    else
        fputs(",\"temperature\":0", to);
    if (grows)
        fputs(",\"ignore_eos\":true", to);
    else if (i % 4 == 1)
        fprintf(to, ",\"seed\":%d,\"stop\":[\"\\n\",\"e\"],\"repetition_penalty\":1.2",
                test_random_below(r, 1000));
    if (i % 5 == 2)
        fputs(",\"logprobs\":2", to);
    if (i % 4 == 3) /* layers of their own, between plain lines */
        fprintf(to, ",\"decoding\":\"conservative-dynamic\",\"tap_window\":%d,\"cd_p\":0.8,\"cd_lazy\":%s",
                1 + test_random_below(r, 6), i % 8 == 3 ? "true" : "false");
    if (i % 8 == 7)
        fprintf(to, ",\"cd_method\":\"consistency\",\"cd_consistency\":0.3,\"cd_decay\":0.%d", i % 10);
    if (i % 9 == 4)
        fputs(",\"decoding\":\"dola\",\"dola_layers\":\"high\"", to);
    fputs(i == 11 ? ",\"temprature\":1}" : is_openai ? "}}" : "}", to);
    fclose(to);
    return text;
}

static void write_lines(const char *path, bool is_reversed) {
    FILE *to = fopen(path, "w");
    for (int i = 0; i < N_LINES; i++)
        fprintf(to, "%s\n", lines[is_reversed ? N_LINES - 1 - i : i]);
    fclose(to);
}

/* Each line with the whole machine to itself: one sequence at once, one rank. */
static int setup(void **state) {
    (void)state;
    test_random r = {7};
    for (int i = 0; i < N_LINES; i++)
        lines[i] = make_line(&r, i);
    snprintf(input, sizeof input, "%s/in.jsonl", test_temp_dir());
    snprintf(reversed, sizeof reversed, "%s/reversed.jsonl", test_temp_dir());
    write_lines(input, false);
    write_lines(reversed, true);
    const char *out = batch_file(test_temp_dir(), "alone.jsonl");
    test_run *run = batch_open(1, 60, input, out);
    test_run_add(run, "--logits-hash", "--max-batch", "1", "--chunk", "128", "--ctx", "112", NULL);
    batch_go(run, 0);
    alone = batch_records(out);
    return cJSON_GetArraySize(alone) == N_LINES ? 0 : 1;
}

static int teardown(void **state) {
    (void)state;
    for (int i = 0; i < N_LINES; i++)
        free(lines[i]);
    cJSON_Delete(alone);
    return 0;
}

/* A line that chose its decoding got it, and no other did. */
static void test_lines_choose(void **state) {
    (void)state;
    int n_named = 0, n_named_openai = 0;
    for (int i = 0; i < N_LINES; i++) {
        char id[16];
        snprintf(id, sizeof id, "k%d", i);
        const cJSON *record = golden_get(alone, id);
        if (cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(record, "error")))
            continue;                                                     /* refused */
        if (cJSON_GetObjectItemCaseSensitive(record, "response") != NULL) /* OpenAI's form */
            record = cJSON_GetArrayItem(
                golden_get(golden_get(golden_get(record, "response"), "body"), "choices"), 0);
        const cJSON *named = cJSON_GetObjectItemCaseSensitive(record, "decoding");
        const char *want = strstr(lines[i], "\"dola\"") != NULL       ? "dola"
                           : strstr(lines[i], "\"decoding\"") != NULL ? "conservative-dynamic"
                                                                      : NULL;
        if (want == NULL) {
            assert_null(named);
            continue;
        }
        n_named++;
        n_named_openai += i % 7 == 3;
        assert_string_equal(named->valuestring, want);
        assert_int_equal(cJSON_GetArraySize(golden_get(record, "selected_layers")),
                         cJSON_GetArraySize(golden_get(record, "token_ids")));
    }
    assert_true(n_named_openai > 0 && n_named > n_named_openai);
}

/* Two lines that ask for the same draw their own tokens, because seeds hang on ids; another seed draws
 * others. */
static void test_ids_and_seeds(void **state) {
    (void)state;
    const char *in = batch_file(test_temp_dir(), "seeds.jsonl"),
               *out = batch_file(test_temp_dir(), "seeds-out.jsonl");
    FILE *to = fopen(in, "w");
    fputs("{\"id\":\"a\",\"prompt\":\"ROMEO:\"}\n{\"id\":\"b\",\"prompt\":\"ROMEO:\"}\n"
          "{\"id\":\"c\",\"prompt\":\"ROMEO:\",\"temperature\":0}\n{\"id\":\"d\",\"prompt\":\"ROMEO:\","
          "\"temperature\":0}\n"
          "{\"id\":\"e\",\"prompt\":\"ROMEO:\",\"max_new_tokens\":3,\"stop\":\"zzz\"}\n",
          to);
    fclose(to);
    cJSON *by_seed[2];
    for (int seed = 0; seed < 2; seed++) {
        test_run *run = batch_open(1, 60, in, out);
        test_run_add(run, "--temperature", "1", "--max-new-tokens", "20", "--ignore-eos", "--seed",
                     seed == 0 ? "0" : "5", NULL);
        batch_go(run, 0);
        by_seed[seed] = batch_records(out);
        remove(out);
        remove(batch_file(test_temp_dir(), "seeds-out.jsonl.manifest"));
    }
    const cJSON *a = golden_get(by_seed[0], "a");
    assert_false(cJSON_Compare(golden_get(a, "token_ids"),
                               golden_get(golden_get(by_seed[0], "b"), "token_ids"), true));
    assert_false(cJSON_Compare(golden_get(a, "token_ids"),
                               golden_get(golden_get(by_seed[1], "a"), "token_ids"), true));
    assert_true(cJSON_Compare(golden_get(golden_get(by_seed[0], "c"), "token_ids"),
                              golden_get(golden_get(by_seed[1], "d"), "token_ids"), true));
    assert_int_equal(cJSON_GetArraySize(golden_get(golden_get(by_seed[0], "e"), "token_ids")), 3);
    cJSON_Delete(by_seed[0]);
    cJSON_Delete(by_seed[1]);
}

static void test_alone_is_generate(void **state) {
    (void)state;
    int n_compared = 0;
    for (int i = 0; i < N_LINES; i += 6) {
        char *list = strchr(lines[i], '[') + 1, ids[1024], id[16], most[16];
        snprintf(ids, sizeof ids, "%.*s", (int)strcspn(list, "]"), list);
        snprintf(id, sizeof id, "k%d", i);
        const cJSON *record = golden_get(alone, id);
        const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(record, "token_ids");
        if (tokens == NULL || strcmp(golden_get(record, "finish_reason")->valuestring, "length") != 0)
            continue;
        snprintf(most, sizeof most, "%d", cJSON_GetArraySize(tokens));
        const char *words[] = {"generate",
                               "--model",
                               test_path("examples/shakespeare"),
                               "--prompt-ids",
                               ids,
                               "--threads",
                               "1",
                               "--temperature",
                               "0",
                               "--max-new-tokens",
                               most,
                               NULL};
        cJSON *json = golden_run(1, words);
        assert_true(cJSON_Compare(golden_get(json, "token_ids"), tokens, true));
        assert_string_equal(golden_get(json, "logits_hash")->valuestring,
                            golden_get(record, "logits_hash")->valuestring);
        cJSON_Delete(json);
        n_compared++;
    }
    assert_true(n_compared >= 2);
}

/* Messages of both forms give what generate gives for the same conversation, and a model without a template
 * says so. */
static void test_messages(void **state) {
    (void)state;
    const char *model =
        chat_model("{% for m in messages %}{{ m.role }}:\n{{ m.content }}\n{% endfor %}JULIET:\n");
    const char *words[] = {"generate",
                           "--model",
                           model,
                           "--prompt",
                           "Good night \u00e9",
                           "--temperature",
                           "0",
                           "--max-new-tokens",
                           "9",
                           "--threads",
                           "1",
                           NULL};
    const char *in = batch_file(test_temp_dir(), "chat.jsonl"),
               *out = batch_file(test_temp_dir(), "chat-out.jsonl");
    cJSON *json = golden_run(1, words);
    FILE *to = fopen(in, "w");
    fputs("{\"id\":\"own\",\"messages\":[{\"role\":\"user\",\"content\":\"Good night \\u00e9\"}]}\n"
          "{\"custom_id\":\"chat\",\"method\":\"POST\",\"url\":\"/v1/chat/"
          "completions\",\"body\":{\"model\":\"m\","
          "\"messages\":[{\"role\":\"user\",\"content\":\"Good night \\u00e9\"}],\"logprobs\":true}}\n"
          "{\"id\":\"bad\",\"messages\":[7]}\n",
          to);
    fclose(to);
    test_run *run = batch_open(2, 60, in, out);
    test_run_set(run, test_path("examples/shakespeare"), model);
    test_run_add(run, "--temperature", "0", "--max-new-tokens", "9", NULL);
    batch_go(run, 0);
    cJSON *records = batch_records(out);
    const cJSON *own = golden_get(records, "own"),
                *body = golden_get(golden_get(golden_get(records, "chat"), "response"), "body");
    const cJSON *choice = cJSON_GetArrayItem(golden_get(body, "choices"), 0);
    assert_true(cJSON_Compare(golden_get(own, "token_ids"), golden_get(json, "token_ids"), true));
    assert_true(cJSON_Compare(golden_get(own, "text"), golden_get(json, "text"), true));
    assert_true(
        cJSON_Compare(golden_get(golden_get(choice, "message"), "content"), golden_get(json, "text"), true));
    assert_int_equal(cJSON_GetArraySize(golden_get(golden_get(choice, "logprobs"), "content")), 9);
    assert_string_equal(golden_get(body, "object")->valuestring, "chat.completion");
    assert_non_null(golden_get(golden_get(records, "bad"), "error"));
    cJSON_Delete(records);
    cJSON_Delete(json);
    const char *plain = batch_file(test_temp_dir(), "no-chat.jsonl");
    batch_go(batch_open(1, 60, in, plain), 0);
    records = batch_records(plain);
    assert_non_null(
        strstr(golden_get(golden_get(golden_get(records, "own"), "error"), "message")->valuestring,
               "messages need a chat template: the model has none"));
    cJSON_Delete(records);
}

/* KV blocks for the company that is wanted, or few: the budget at which rank 0 holds n_blocks and no more. */
static uint64_t budget_for(int np, int max_batch, int chunk, int n_blocks) {
    static cdp_model_card card;
    static const int layers_of_rank_0[] = {0, 8, 4, 3};
    cdp_tensor_index *index = NULL;
    assert_int_equal(cdp_model_card_read(&card, test_path("examples/shakespeare")), CDP_OK);
    assert_int_equal(cdp_tensor_index_open(&index, card.dir), CDP_OK);
    assert_int_equal(cdp_model_card_settle(&card, index), CDP_OK);
    cdp_tensor_index_close(index);
    const cdp_run_shape run = {.dtype = card.file_dtype,
                               .kv_dtype = card.file_dtype,
                               .ctx = CTX,
                               .max_batch = max_batch,
                               .chunk = chunk,
                               .n_ranks = np,
                               .n_taps = card.n_layers};
    return cdp_memory_stage(&card, &run, 0, layers_of_rank_0[np], true, n_blocks).total;
}

static void play(const char *what, const char *from, int np, int max_batch, int chunk, int n_threads,
                 int n_blocks) {
    static const char *const maps[] = {NULL, "8", "4,4", "3,3,2"};
    static int number;
    char out[512], batch[16], width[16], threads[16], budget[32];
    snprintf(out, sizeof out, "%s/out%d.jsonl", test_temp_dir(), number++);
    snprintf(batch, sizeof batch, "%d", max_batch);
    snprintf(width, sizeof width, "%d", chunk);
    snprintf(threads, sizeof threads, "%d", n_threads);
    test_run *run = batch_open(np, 60, from, out);
    test_run_set(run, "1", threads);
    test_run_add(run, "--logits-hash", "--max-batch", batch, "--chunk", width, "--ctx", "112", "--device-map",
                 maps[np], "--json", NULL);
    if (n_blocks > 0) {
        snprintf(budget, sizeof budget, "%llu",
                 (unsigned long long)budget_for(np, max_batch, chunk, n_blocks));
        test_run_add(run, "--max-gpu-memory", budget, NULL);
    }
    test_run_go(run);
    if (run->exit_code != 0)
        fail_msg("%s: exit %d\n%s", what, run->exit_code, run->err);
    cJSON *summary = cJSON_Parse(run->out), *records = batch_records(out);
    if (n_blocks > 0) /* so few that the test would miss its point without it */
        if (!(golden_get(summary, "put_back")->valuedouble > 0))
            fail_msg("%s: nothing was put back\n%s", what, run->err);
    assert_int_equal(golden_get(summary, "done")->valueint, N_LINES);
    assert_int_equal(golden_get(summary, "failed")->valueint, 1);
    batch_check_same(alone, records, what);
    cJSON_Delete(records);
    cJSON_Delete(summary);
    test_run_close(run);
}

static void test_company(void **state) {
    (void)state;
    play("one rank, 8 at once, chunk 7", input, 1, 8, 7, 1, 0);
    play("one rank, two threads, reversed", reversed, 1, 16, 128, 2, 0);
    play("two ranks", input, 2, 5, 128, 1, 0);
    play("three ranks, reversed", reversed, 3, 16, 16, 1, 0);
}

static void test_few_blocks(void **state) {
    (void)state;
    play("one rank, 9 blocks", input, 1, 6, 32, 1, 9);
    play("two ranks, 9 blocks, reversed", reversed, 2, 8, 16, 1, 9);
    play("three ranks, 10 blocks", input, 3, 8, 5, 1, 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_choose),      cmocka_unit_test(test_ids_and_seeds),
        cmocka_unit_test(test_alone_is_generate), cmocka_unit_test(test_messages),
        cmocka_unit_test(test_company),           cmocka_unit_test(test_few_blocks),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
