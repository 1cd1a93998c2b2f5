#include "tests/support/big_tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/text/bpe.h"
#include "launcher/text/utf8.h"
#include "launcher/text/vocabulary.h"
#include "tests/support/random.h"

enum { MOST_BYTES = 24 }; /* of a token */

static void stop(const char *what) {
    fprintf(stderr, "big tokenizer: %s\n", what);
    exit(2);
}

static void add(cdp_vocabulary *v, int *n, const char *text, size_t n_text) {
    if (cdp_vocabulary_find(v, text, n_text) >= 0)
        return;
    if (cdp_vocabulary_set(v, (*n)++, text, n_text) != CDP_OK)
        stop("no memory");
}

static void add_code(cdp_vocabulary *v, int *n, uint32_t code) {
    cdp_bytes text = {0};
    cdp_utf8_add(&text, code);
    add(v, n, text.data, text.n);
    free(text.data);
}

/* The alphabet; returns how many tokens it has. */
static int add_alphabet(cdp_vocabulary *v, bool is_byte_level) {
    char text[16];
    int n = 0;
    if (!is_byte_level)
        add(v, &n, "<unk>", 5);
    for (int byte = 0; byte < 256; byte++) {
        const size_t length = is_byte_level ? cdp_byte_char((unsigned char)byte, text)
                                            : (size_t)snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        add(v, &n, text, length);
    }
    if (is_byte_level)
        return n;
    add(v, &n, "\xE2\x96\x81", 3); /* U+2581 stands for a space */
    for (uint32_t code = 0x21; code < 0x7F; code++)
        add_code(v, &n, code);
    for (uint32_t code = 0x4E00; code < 0x5800; code++)
        add_code(v, &n, code);
    return n;
}

static void write_text(FILE *file, const char *text, size_t n) {
    fputc('"', file);
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '"' || text[i] == '\\')
            fputc('\\', file);
        fputc(text[i], file);
    }
    fputc('"', file);
}

static void write_merge(FILE *file, bool is_first, const char *text, size_t n_left, size_t n) {
    fputs(is_first ? "      [\n        " : ",\n      [\n        ", file);
    write_text(file, text, n_left);
    fputs(",\n        ", file);
    write_text(file, text + n_left, n - n_left);
    fputs("\n      ]", file);
}

/* An earlier token; the first ones, which are short, more often. */
static int pick(test_random *random, int n) {
    const double unit = test_random_unit(random);
    return (int)(unit * unit * unit * n);
}

/* Join tokens until there are enough. cuts[id] says where a token was joined: its right part's left part is
 * joined too, so that most tokens can be made in two ways. */
static void grow(cdp_vocabulary *v, int first, int n_alphabet, const test_big_tokenizer *shape) {
    test_random random = {shape->seed};
    size_t *cuts = calloc((size_t)shape->n_tokens + 1, sizeof *cuts);
    if (cuts == NULL)
        stop("no memory");
    for (int n = n_alphabet; n < shape->n_tokens;) {
        char text[2 * MOST_BYTES];
        size_t n_left, n_right;
        const int right_id = first + pick(&random, n - first);
        const char *left = cdp_vocabulary_text(v, first + pick(&random, n - first), &n_left);
        const char *right = cdp_vocabulary_text(v, right_id, &n_right);
        if (n_left + n_right > MOST_BYTES)
            continue;
        memcpy(text, left, n_left);
        memcpy(text + n_left, right, n_right);
        if (cuts[right_id] > 0) {
            cuts[n] = n_left;
            add(v, &n, text, n_left + cuts[right_id]);
        }
        if (n < shape->n_tokens) {
            cuts[n] = n_left;
            add(v, &n, text, n_left + n_right);
        }
    }
    free(cuts);
}

/* Every way to make a token of two others is a merge, as in files that were converted. */
static void write_merges(FILE *file, const cdp_vocabulary *v, int n_alphabet) {
    bool is_first = true;
    for (int id = n_alphabet; id < v->n_tokens; id++) {
        size_t n;
        const char *text = cdp_vocabulary_text(v, id, &n);
        for (size_t cut = 1; cut < n; cut++) {
            if (((unsigned char)text[cut] & 0xC0) == 0x80 || cdp_vocabulary_find(v, text, cut) < 0 ||
                cdp_vocabulary_find(v, text + cut, n - cut) < 0)
                continue;
            write_merge(file, is_first, text, cut, n);
            is_first = false;
        }
    }
}

void test_big_tokenizer_write(const char *path, const test_big_tokenizer *shape) {
    cdp_vocabulary v;
    FILE *file = fopen(path, "w");
    if (file == NULL || cdp_vocabulary_open(&v, shape->n_tokens, (size_t)shape->n_tokens) != CDP_OK)
        stop("no file or no memory");
    const int n_alphabet = add_alphabet(&v, shape->is_byte_level);
    grow(&v, shape->is_byte_level ? 0 : 257, n_alphabet, shape);
    fprintf(file,
            "{\n  \"version\": \"1.0\",\n  \"added_tokens\": [{\"id\": %d, \"content\": \"<|end|>\", "
            "\"special\": true}],\n",
            v.n_tokens);
    fputs(shape->is_byte_level
              ? "  \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false},\n"
                "  \"decoder\": {\"type\": \"ByteLevel\"},\n"
              : "  \"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, "
                "\"content\": \"\\u2581\"},\n"
                "  \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", "
                "\"pattern\": {\"String\": \"\\u2581\"}, \"content\": \" \"}, {\"type\": "
                "\"ByteFallback\"}, {\"type\": \"Fuse\"}]},\n",
          file);
    fprintf(file, "  \"model\": {\n    \"type\": \"BPE\",\n    \"byte_fallback\": %s,\n    \"vocab\": {\n",
            shape->is_byte_level ? "false" : "true");
    for (int id = 0; id < v.n_tokens; id++) {
        size_t n;
        const char *text = cdp_vocabulary_text(&v, id, &n);
        fputs("      ", file);
        write_text(file, text, n);
        fprintf(file, ": %d%s\n", id, id + 1 < v.n_tokens ? "," : "");
    }
    fputs("    },\n    \"merges\": [\n", file);
    write_merges(file, &v, n_alphabet);
    fputs("\n    ]\n  }\n}\n", file);
    if (fclose(file) != 0)
        stop("the file could not be written");
    cdp_vocabulary_close(&v);
}
