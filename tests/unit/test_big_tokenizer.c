/* Files of the size that real models have: what reading one takes, and what is kept of it.
 *
 * What it catches: a tree of the whole file, tables twice as large as they need to be, text that is lost
 * between 260,000 tokens. Times are not judged here (tests/bench).
 */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "launcher/text/tokenizer.h"
#include "tests/support/big_tokenizer.h"
#include "tests/support/data.h"
#include "tests/support/random.h"
#include "tests/support/spawn.h"

enum { MOST_PEAK_MIB = 256 };

#if defined(__SANITIZE_ADDRESS__)
static const bool measures_memory = false; /* every allocation has its red zones */
#else
static const bool measures_memory = true;
#endif

/* A child of this test: open a tokenizer and say in numbers what it took: seconds, peak MiB, kept bytes. */
static int load(const char *dir) {
    cdp_tokenizer *tokenizer = NULL;
    char line[256];
    long peak_kib = 0;
    const size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    const double start = test_now_s();
    if (cdp_tokenizer_open(&tokenizer, dir) != CDP_OK) {
        fprintf(stderr, "%s\n", cdp_error_message());
        return 1;
    }
    const double seconds = test_now_s() - start;
    const size_t kept = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        (void)sscanf(line, "VmHWM: %ld", &peak_kib);
    if (status != NULL)
        fclose(status);
    printf("%f %ld %zu\n", seconds, peak_kib / 1024, kept);
    cdp_tokenizer_close(tokenizer);
    return 0;
}

/* Seeded text of every kind: words, numbers, CJK, other characters, spaces; and back. */
static void check_round_trip(const char *dir) {
    static const uint32_t first[] = {'a', '0', 0x4E00, 0xE0, ' ', 0x1F600, 0x5A00};
    static const int span[] = {26, 10, 2560, 60, 1, 60, 500};
    cdp_tokenizer *tokenizer = NULL;
    test_random random = {11};
    char *text = malloc(200008), *back;
    size_t n = 0, n_ids, n_back;
    int32_t *ids;
    while (n < 200000) {
        const int kind = test_random_below(&random, 7);
        for (int i = test_random_below(&random, 9); i >= 0 && n < 200000; i--) {
            const uint32_t c = first[kind] + (uint32_t)test_random_below(&random, span[kind]);
            if (c >= 0x10000)
                text[n++] = (char)(0xF0 | c >> 18);
            if (c >= 0x800)
                text[n++] = (char)(c >= 0x10000 ? 0x80 | (c >> 12 & 0x3F) : 0xE0 | c >> 12);
            if (c >= 0x80)
                text[n++] = (char)(c >= 0x800 ? 0x80 | (c >> 6 & 0x3F) : 0xC0 | c >> 6);
            text[n++] = (char)(c >= 0x80 ? 0x80 | (c & 0x3F) : c);
        }
    }
    assert_int_equal(cdp_tokenizer_open(&tokenizer, dir), CDP_OK);
    assert_int_equal(cdp_tokenizer_encode(tokenizer, text, n, true, &ids, &n_ids), CDP_OK);
    assert_true(n_ids > 0 && n_ids < n);
    assert_int_equal(cdp_tokenizer_decode(tokenizer, ids, n_ids, false, &back, &n_back), CDP_OK);
    assert_int_equal(n_back, n);
    assert_memory_equal(back, text, n);
    free(back);
    free(ids);
    free(text);
    cdp_tokenizer_close(tokenizer);
}

static void check_size(bool is_byte_level, int n_tokens, int least_mib, int most_mib) {
    char dir[256], path[300], self[256] = "";
    struct stat file;
    double seconds;
    long peak_mib;
    size_t kept;
    snprintf(dir, sizeof dir, "%s/%d", test_temp_dir(), n_tokens);
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    assert_int_equal(mkdir(dir, 0777), 0);
    test_big_tokenizer_write(path, &(test_big_tokenizer){is_byte_level, n_tokens, 7});
    assert_int_equal(stat(path, &file), 0);
    assert_in_range(file.st_size >> 20, least_mib, most_mib);
    snprintf(self, sizeof self, "%s/unit_test_big_tokenizer", CDPIPE_TEST_BIN_DIR);
    test_run *run = test_run_open(120.0);
    test_run_add(run, self, "load", dir, NULL);
    test_run_go(run);
    if (run->exit_code != 0 || sscanf(run->out, "%lf %ld %zu", &seconds, &peak_mib, &kept) != 3)
        fail_msg("loading %s: %s%s", path, run->out, run->err);
    printf("%d tokens, %.1f MB: %.3f s, peak %ld MiB, kept %.1f MB\n", n_tokens, 1e-6 * (double)file.st_size,
           seconds, peak_mib, 1e-6 * (double)kept);
    if (measures_memory) {
        assert_in_range(peak_mib, 1, MOST_PEAK_MIB);
        assert_in_range(kept, 1, 2 * file.st_size);
    }
    test_run_close(run);
    check_round_trip(dir);
    unlink(path);
}

static void test_sizes(void **state) {
    (void)state;
    check_size(true, 151936, 15, 22);
    check_size(false, 262144, 24, 40);
}

int main(int argc, char **argv) {
    if (argc == 3)
        return load(argv[2]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
