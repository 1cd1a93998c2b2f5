/* A short run of a fuzz target without a fuzzer: every file of its corpus, then seeded changes of them.
 *
 *     fuzz_NAME CORPUS ROUNDS
 *
 * It looks at no coverage; tests/fuzz/run does, for hours if you like. Here the kept corpus stays good, and a
 * change that breaks on the first thousand inputs is seen.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/random.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { MOST_FILES = 256, MOST_BYTES = 65536 };

typedef struct sample {
    uint8_t *bytes;
    size_t n;
} sample;

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_corpus(const char *dir, sample *samples) {
    struct dirent **list = NULL;
    int n_samples = 0;
    const int n = scandir(dir, &list, NULL, by_name);
    for (int i = 0; i < n; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", dir, list[i]->d_name);
        FILE *file = list[i]->d_name[0] != '.' && n_samples < MOST_FILES ? fopen(path, "rb") : NULL;
        if (file != NULL) {
            sample *s = &samples[n_samples++];
            s->bytes = malloc(MOST_BYTES);
            s->n = s->bytes != NULL ? fread(s->bytes, 1, MOST_BYTES, file) : 0;
            fclose(file);
        }
        free(list[i]);
    }
    free(list);
    return n_samples;
}

/* One change: a bit, a byte, a stretch gone, doubled, or taken from another file. */
static size_t change(test_random *random, uint8_t *bytes, size_t n, const sample *other) {
    const size_t at = (size_t)test_random_below(random, (int)n + 1);
    size_t length = (size_t)test_random_below(random, test_random_below(random, 2) ? 4 : 64) + 1;
    switch (test_random_below(random, 5)) {
    case 0:
        if (at < n)
            bytes[at] ^= (uint8_t)(1u << test_random_below(random, 8));
        return n;
    case 1:
        if (at < n)
            bytes[at] = (uint8_t)test_random_below(random, 256);
        return n;
    case 2:
        length = length < n - at ? length : n - at;
        memmove(bytes + at, bytes + at + length, n - at - length);
        return n - length;
    case 3:
        length = length < n - at ? length : n - at;
        memmove(bytes + at + length, bytes + at, n - at);
        return n + length;
    default: {
        length = length < other->n ? length : other->n;
        const size_t from = (size_t)test_random_below(random, (int)(other->n - length) + 1);
        memmove(bytes + at + length, bytes + at, n - at);
        memcpy(bytes + at, other->bytes + from, length);
        return n + length;
    }
    }
}

int main(int argc, char **argv) {
    static sample samples[MOST_FILES];
    test_random random = {17};
    const int n = argc == 3 ? read_corpus(argv[1], samples) : 0, rounds = argc == 3 ? atoi(argv[2]) : 0;
    if (n == 0 || rounds <= 0) {
        fprintf(stderr, "usage: %s CORPUS ROUNDS (the corpus must not be empty)\n", argv[0]);
        return 64;
    }
    for (int i = 0; i < n; i++)
        LLVMFuzzerTestOneInput(samples[i].bytes, samples[i].n);
    for (int round = 0; round < rounds; round++) {
        const sample *from = &samples[test_random_below(&random, n)];
        uint8_t *bytes = malloc(from->n + 4096);
        size_t length = from->n;
        if (bytes == NULL)
            return 1;
        memcpy(bytes, from->bytes, length);
        for (int k = test_random_below(&random, 8); k >= 0; k--)
            length = change(&random, bytes, length, &samples[test_random_below(&random, n)]);
        LLVMFuzzerTestOneInput(bytes, length);
        free(bytes);
    }
    for (int i = 0; i < n; i++)
        free(samples[i].bytes);
    return 0;
}
