/* Speed of the tokenizer: what opening a file of a real model's size takes, and how fast texts become ids.
 *
 *     bench_tokenizer load                   two files made from a seed; seconds, median of 5
 *     bench_tokenizer encode DIR FILE...     MB/s of each file, best of 5; nothing but encoding is timed
 *     bench_tokenizer worst DIR              1 MB of the worst kinds beside 1 MB of words: times normal
 *
 * tests/bench/tokenizer runs it beside the reference library.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "launcher/text/tokenizer.h"
#include "planner/file.h"
#include "tests/support/big_tokenizer.h"
#include "tests/support/data.h"
#include "tests/support/random.h"

enum { REPEATS = 5, MB = 1000000 };

/* Processor time: one thread does it all, and other programs may run beside it. */
static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void stop(void) {
    fprintf(stderr, "bench_tokenizer: %s\n", cdp_error_message());
    exit(1);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static cdp_tokenizer *open_dir(const char *dir) {
    cdp_tokenizer *tokenizer;
    if (cdp_tokenizer_open(&tokenizer, dir) != CDP_OK)
        stop();
    return tokenizer;
}

static void bench_load(bool is_byte_level, int n_tokens) {
    char dir[256], path[300];
    struct stat file = {0};
    double seconds[REPEATS];
    snprintf(dir, sizeof dir, "%s/%d", test_temp_dir(), n_tokens);
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    mkdir(dir, 0777);
    test_big_tokenizer_write(path, &(test_big_tokenizer){is_byte_level, n_tokens, 7});
    stat(path, &file);
    for (int i = 0; i < REPEATS; i++) {
        const double start = now_s();
        cdp_tokenizer *tokenizer = open_dir(dir);
        seconds[i] = now_s() - start;
        cdp_tokenizer_close(tokenizer);
    }
    qsort(seconds, REPEATS, sizeof seconds[0], by_value);
    printf("load %7d tokens, %.1f MB: %.3f s (%.3f to %.3f)\n", n_tokens, 1e-6 * (double)file.st_size,
           seconds[REPEATS / 2], seconds[0], seconds[REPEATS - 1]);
}

/* The best time of encoding a text; *n_ids_out: how many ids it has. */
static double best_of(const cdp_tokenizer *tokenizer, const char *text, size_t n, size_t *n_ids_out) {
    double best = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        int32_t *ids;
        const double start = now_s();
        if (cdp_tokenizer_encode(tokenizer, text, n, false, &ids, n_ids_out) != CDP_OK)
            stop();
        const double seconds = now_s() - start;
        best = seconds < best ? seconds : best;
        free(ids);
    }
    return best;
}

static void bench_encode(const cdp_tokenizer *tokenizer, const char *path) {
    char *text;
    size_t n, n_ids;
    if (cdp_file_read_text(&text, &n, path, 64 * MB) != CDP_OK)
        stop();
    const double seconds = best_of(tokenizer, text, n, &n_ids);
    printf("%s %.2f %zu\n", path, 1e-6 * (double)n / seconds, n_ids);
    free(text);
}

/* Fill 1 MB with one kind of text. */
static void fill(char *text, int kind) {
    test_random random = {3};
    for (size_t i = 0; i < MB; i++) {
        const int r = test_random_below(&random, 1000);
        text[i] = kind == 0    ? (r < 180 ? ' ' : (char)('a' + r % 26)) /* words */
                  : kind == 1  ? 'a'
                  : kind == 2  ? ' '
                  : kind == 3  ? '\n'
                  : kind == 4  ? (char)('a' + r % 26) /* no spaces */
                  : kind == 5  ? (char)('0' + r % 10)
                  : kind == 6  ? "!?.,;:-_"[r % 8]
                  : i % 3 == 0 ? (char)0xE4 /* CJK: U+4E00 and on */
                  : i % 3 == 1 ? (char)(0xB8 + r % 8)
                               : (char)(0x80 + r % 64);
    }
}

static void bench_worst(const cdp_tokenizer *tokenizer) {
    static const char *const kinds[] = {"words",     "one letter",  "spaces",     "newlines",
                                        "no spaces", "only digits", "only signs", "CJK"};
    char *text = malloc(MB);
    double normal = 0;
    for (int kind = 0; kind < 8; kind++) {
        size_t n_ids;
        fill(text, kind);
        const double seconds = best_of(tokenizer, text, MB, &n_ids);
        normal = kind == 0 ? seconds : normal;
        printf("1 MB of %-12s %8.2f ms, %8zu ids, %5.2f times normal\n", kinds[kind], 1e3 * seconds, n_ids,
               seconds / normal);
    }
    free(text);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "load") == 0) {
        bench_load(true, 128256);
        bench_load(false, 262144);
        return 0;
    }
    if (argc < 3 || (strcmp(argv[1], "encode") != 0 && strcmp(argv[1], "worst") != 0)) {
        fprintf(stderr, "usage: bench_tokenizer load | encode DIR FILE... | worst DIR\n");
        return 64;
    }
    cdp_tokenizer *tokenizer = open_dir(argv[2]);
    if (argv[1][0] == 'w')
        bench_worst(tokenizer);
    for (int i = 3; i < argc; i++)
        bench_encode(tokenizer, argv[i]);
    cdp_tokenizer_close(tokenizer);
    return 0;
}
