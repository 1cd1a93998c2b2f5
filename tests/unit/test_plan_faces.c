/* The plan's faces: JSON out and in again, the file on the disk, the table for people. */
#include "planner/plan.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/log.h"
#include "tests/support/data.h"
#include "tests/unit/cards.h"

static const uint64_t GiB = UINT64_C(1) << 30;

typedef struct bench {
    cdp_model_card card;
    cdp_plan_request request;
    cdp_plan plan;
    char dir[512], path[1024];
} bench;

static bench *bench_open(int n_places, uint64_t free_bytes, const char *device_map) {
    bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    test_card_fill(&b->card, &shapes[LLAMA_3_8B]);
    b->request = (cdp_plan_request){
        .n_places = n_places, .memory_fraction = 0.85, .device_map = device_map, .run = test_run(8192, 1)};
    for (int r = 0; r < n_places; r++) {
        cdp_place *place = &b->request.places[r];
        snprintf(place->name, sizeof place->name, "cuda:%d", r);
        snprintf(place->label, sizeof place->label, "GPU %d NVIDIA L40S", r);
        place->free_bytes = free_bytes;
    }
    snprintf(b->dir, sizeof b->dir, "%s/XXXXXX", test_temp_dir());
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->path, sizeof b->path, "%s/map.json", b->dir);
    cdp_error_clear();
    return b;
}

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* All that `#` lines say while `speak` runs; the caller frees it. */
static char *heard(bench *b, void (*speak)(bench *)) {
    char path[1024], *text = calloc(1, 16384);
    snprintf(path, sizeof path, "%s/stderr", b->dir);
    const int keep = dup(STDERR_FILENO), fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(text != NULL && keep >= 0 && fd >= 0);
    dup2(fd, STDERR_FILENO);
    cdp_log_open(true);
    speak(b);
    cdp_log_open(false);
    dup2(keep, STDERR_FILENO);
    assert_true(pread(fd, text, 16383, 0) >= 0);
    close(keep);
    close(fd);
    return text;
}

static void make_with_map(bench *b) {
    b->request.device_map = b->path;
    assert_int_equal(cdp_plan_make(&b->plan, &b->card, &b->request), CDP_OK);
}

static void test_ignored_entries_are_told(void **state) {
    (void)state;
    bench *b = bench_open(3, 24 * GiB, "auto");
    write_text(b->path,
               "{\"model.layers\": 0, \"model.embed_tokens\": 0, \"model.norm\": 2, \"lm_head\": 2}");
    char *said = heard(b, make_with_map);
    assert_non_null(strstr(said, "2 entries outside the layers ignored"));
    assert_null(strchr(strchr(said, '\n') + 1, '\n')); /* one line */
    free(said);
    write_text(b->path,
               "{\"model.layers\": 0, \"model.embed_tokens\": 0, \"model.norm\": 0, \"lm_head\": 0}");
    said = heard(b, make_with_map);
    assert_string_equal(said, ""); /* all is where cdpipe keeps it anyway */
    free(said);
    assert_string_equal(b->plan.policy, "map.json");
    free(b);
}

static double number_at(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item))
        fail_msg("%s is no number", key);
    return item->valuedouble;
}

static const char *text_at(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsString(item))
        fail_msg("%s is no string", key);
    return item->valuestring;
}

/* The plan's JSON as a reader sees it. */
static cJSON *read_back(const bench *b) {
    cJSON *json = cdp_plan_json(&b->plan, &b->card);
    char *text = cJSON_Print(json);
    cJSON *back = cJSON_Parse(text);
    assert_non_null(back);
    cJSON_free(text);
    cJSON_Delete(json);
    return back;
}

static void test_json(void **state) {
    (void)state;
    bench *b = bench_open(4, 24 * GiB, "10,12,0,10");
    assert_int_equal(cdp_plan_make(&b->plan, &b->card, &b->request), CDP_OK);
    cJSON *json = read_back(b);
    const cJSON *model = cJSON_GetObjectItem(json, "model"), *kv = cJSON_GetObjectItem(json, "kv"),
                *stages = cJSON_GetObjectItem(json, "stages"), *map = cJSON_GetObjectItem(json, "device_map");
    assert_string_equal(text_at(model, "type"), "llama");
    assert_true(number_at(model, "layers") == 32 && number_at(model, "hidden") == 4096);
    assert_true(number_at(model, "vocab") == 128256 && number_at(model, "weights_bytes") == 16060522496.0);
    assert_string_equal(text_at(model, "dtype"), "bf16");
    assert_string_equal(text_at(json, "policy"), "10,12,0,10");
    assert_string_equal(text_at(json, "hidden_dtype"), "bf16");
    assert_string_equal(text_at(json, "kv_dtype"), "bf16");
    assert_true(number_at(json, "ctx") == 8192 && number_at(json, "max_batch") == 1);
    assert_true(number_at(json, "chunk") == 512);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(json, "fits")));
    assert_true(number_at(json, "bottleneck_bytes") == (double)b->plan.bottleneck_bytes);
    assert_true(number_at(kv, "block_tokens") == 16 && number_at(kv, "bytes_per_token") == 131072);
    assert_true(number_at(kv, "blocks") == 512 && number_at(kv, "tokens") == 8192);
    assert_int_equal(cJSON_GetArraySize(stages), 4);
    for (int r = 0; r < 4; r++) {
        const cJSON *s = cJSON_GetArrayItem(stages, r);
        const cdp_stage_plan *stage = &b->plan.stages[r];
        assert_true(number_at(s, "rank") == r);
        assert_string_equal(text_at(s, "device"), stage->place.name);
        assert_true(number_at(s, "first_layer") == stage->first_layer);
        assert_true(number_at(s, "end_layer") == stage->end_layer);
        assert_int_equal(cJSON_IsTrue(cJSON_GetObjectItem(s, "vocab")), r == 0);
        assert_int_equal(cJSON_IsTrue(cJSON_GetObjectItem(s, "idle")), r == 2);
        assert_true(number_at(s, "free_bytes") == 24.0 * (double)GiB);
        assert_true(number_at(s, "budget_bytes") == (double)stage->budget_bytes);
        assert_true(number_at(s, "weights_bytes") == (double)stage->bytes.weights);
        assert_true(number_at(s, "kv_bytes") == (double)stage->bytes.kv);
        assert_true(number_at(s, "total_bytes") == (double)stage->bytes.total);
        const double sum = number_at(s, "weights_bytes") + number_at(s, "kv_bytes") +
                           number_at(s, "scratch_bytes") + number_at(s, "link_bytes") +
                           number_at(s, "context_bytes");
        assert_true(sum == number_at(s, "total_bytes"));
    }
    assert_int_equal(cJSON_GetArraySize(map), 32 + 3);
    assert_true(number_at(map, "model.embed_tokens") == 0 && number_at(map, "model.norm") == 0);
    assert_true(number_at(map, "lm_head") == 0 && number_at(map, "model.layers.9") == 0);
    assert_true(number_at(map, "model.layers.10") == 1 && number_at(map, "model.layers.22") == 3);
    cJSON_Delete(json);
    free(b);
}

static void test_integers_are_exact(void **state) {
    (void)state;
    static const uint64_t values[] = {
        0,
        2147483647,
        2147483648,
        4294967297,
        999999999999999,
        1000000000000000, /* 15 digits are all that cJSON prints of a double */
        1125899906842624,
        9007199254740993,
        9223372036854775807,
    };
    bench *b = bench_open(1, 0, "auto");
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char expected[64];
        snprintf(expected, sizeof expected, "\"free_bytes\":%llu,", (unsigned long long)values[i]);
        b->request.places[0].free_bytes = values[i];
        b->request.budgets[0] = (cdp_size){.bytes = GiB};
        b->request.n_budgets = 1;
        assert_int_equal(cdp_plan_make(&b->plan, &b->card, &b->request), CDP_OK);
        cJSON *json = cdp_plan_json(&b->plan, &b->card);
        char *text = cJSON_PrintUnformatted(json);
        if (strstr(text, expected) == NULL)
            fail_msg("%s is not in %s", expected, text);
        cJSON_free(text);
        cJSON_Delete(json);
    }
    free(b);
}

static int files_in(const char *dir) {
    int n = 0;
    DIR *at = opendir(dir);
    assert_non_null(at);
    while (readdir(at) != NULL)
        n++;
    closedir(at);
    return n - 2; /* . and .. */
}

/* Written, read as a device map, planned again: the same split. */
static void test_saved_plan_comes_back(void **state) {
    (void)state;
    bench *b = bench_open(3, 24 * GiB, "auto"), *again = bench_open(3, 24 * GiB, b->path);
    struct stat info;
    assert_int_equal(cdp_plan_make(&b->plan, &b->card, &b->request), CDP_OK);
    for (int i = 0; i < 2; i++) /* once new, once in place of an old one */
        assert_int_equal(cdp_plan_save(&b->plan, &b->card, b->path), CDP_OK);
    assert_int_equal(files_in(b->dir), 1);
    assert_int_equal(stat(b->path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0644);
    assert_int_equal(cdp_plan_make(&again->plan, &again->card, &again->request), CDP_OK);
    for (int r = 0; r < 3; r++)
        assert_int_equal(again->plan.stages[r].end_layer, b->plan.stages[r].end_layer);
    assert_int_equal(again->plan.bottleneck_bytes, b->plan.bottleneck_bytes);
    int counts[2];
    cdp_error_clear();
    assert_int_equal(cdp_device_map_read(counts, 2, 32, b->path), CDP_BAD_MODEL); /* made for three */
    free(again);
    free(b);
}

static void test_save_fails(void **state) {
    (void)state;
    bench *b = bench_open(3, 24 * GiB, "auto");
    char path[6000];
    assert_int_equal(cdp_plan_make(&b->plan, &b->card, &b->request), CDP_OK);
    snprintf(path, sizeof path, "%s/none/plan.json", b->dir);
    assert_int_equal(cdp_plan_save(&b->plan, &b->card, path), CDP_IO);
    assert_non_null(strstr(cdp_error_message(), "No such file"));
    cdp_error_clear();
    assert_int_equal(cdp_plan_save(&b->plan, &b->card, b->dir), CDP_IO);
    assert_non_null(strstr(cdp_error_message(), "not a regular file"));
    cdp_error_clear();
    snprintf(path, sizeof path, "%s/fifo", b->dir); /* must stay what it is */
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(cdp_plan_save(&b->plan, &b->card, path), CDP_IO);
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = '\0';
    cdp_error_clear();
    assert_int_equal(cdp_plan_save(&b->plan, &b->card, path), CDP_IO);
    assert_int_equal(files_in(b->dir), 1); /* the FIFO */
    free(b);
}

/* A disk that is full half way: the old plan stays whole and nothing else is left behind. */
static void test_save_breaks_off(void **state) {
    (void)state;
    bench *b = bench_open(3, 24 * GiB, "auto");
    struct rlimit old;
    struct stat info;
    assert_int_equal(cdp_plan_make(&b->plan, &b->card, &b->request), CDP_OK);
    write_text(b->path, "old");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit narrow = {.rlim_cur = 100, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &narrow), 0);
    const cdp_status st = cdp_plan_save(&b->plan, &b->card, b->path);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(st, CDP_IO);
    assert_non_null(strstr(cdp_error_message(), "File too large"));
    assert_int_equal(files_in(b->dir), 1);
    assert_int_equal(stat(b->path, &info), 0);
    assert_int_equal(info.st_size, 3);
    free(b);
}

static void print_plan(bench *b) {
    cdp_plan_print(&b->plan, &b->card);
}

static void expect_lines(const char *text, const char *const *words, int n) {
    for (int i = 0; i < n; i++)
        if (strstr(text, words[i]) == NULL)
            fail_msg("\"%s\" is not in\n%s", words[i], text);
}

static void test_table(void **state) {
    (void)state;
    bench *b = bench_open(4, 24 * GiB, "0,1,0,31");
    assert_int_equal(cdp_plan_make(&b->plan, &b->card, &b->request), CDP_OK);
    char *said = heard(b, print_plan);
    static const char *const words[] = {
        "# stage  rank  device",
        "holds",
        "kv cache",
        "    0     0  GPU 0 NVIDIA L40S             vocab   ",
        "    1     1  GPU 1 NVIDIA L40S             layers 0-0 ",
        "    -     2  GPU 2 NVIDIA L40S             idle ",
        "    2     3  GPU 3 NVIDIA L40S             layers 1-31 ",
        "# device_map rank 0, cuda:0: model.embed_tokens, model.norm, lm_head\n",
        "# device_map rank 1, cuda:1: model.layers.0\n",
        "# device_map rank 2, cuda:2: nothing, idle\n",
        "# device_map rank 3, cuda:3: model.layers.1-31\n",
        "# fits: device_map 0,1,0,31, bf16 weights 14.96 GiB, ctx 8192, max_batch 1, 512 KV blocks of 16",
    };
    expect_lines(said, words, sizeof words / sizeof words[0]);
    free(said);
    b->request.device_map = "auto";
    b->request.memory_fraction = 0.2;
    assert_int_equal(cdp_plan_make(&b->plan, &b->card, &b->request), CDP_OK);
    said = heard(b, print_plan);
    static const char *const short_words[] = {"# DOES NOT FIT: ", "vocab, layers 0-", "lm_head"};
    expect_lines(said, short_words, sizeof short_words / sizeof short_words[0]);
    free(said);
    free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ignored_entries_are_told),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_integers_are_exact),
        cmocka_unit_test(test_saved_plan_comes_back),
        cmocka_unit_test(test_save_fails),
        cmocka_unit_test(test_save_breaks_off),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
