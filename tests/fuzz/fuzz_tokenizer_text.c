/* Any bytes as a text for the golden tokenizers: the first byte picks one, the second says where the text is
 * cut.
 *
 * Held: parts that may all be special give the ids of the whole; a text that may not gives no special id;
 * pieces of a stream are the text that is decoded at once; harmless ASCII comes back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/text/tokenizer.h"
#include "launcher/text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const names[] = {"gpt2",      "llama3",     "qwen2", "qwen35",          "smollm",
                                    "command-r", "deepseek",   "o200k", "tekken",          "neox",
                                    "llama2",    "llama2-new", "gemma", "stray-metaspace", "stray-words"};
enum { N_NAMES = sizeof names / sizeof names[0], N_ROUND_TRIPS = 9 };

static const char *who = "";

static void expect(bool is_true, const char *what) {
    if (is_true)
        return;
    fprintf(stderr, "fuzz: %s: %s; the message is \"%s\"\n", who, what, cdp_error_message());
    abort();
}

static const cdp_tokenizer *tokenizer_of(int number) {
    static cdp_tokenizer *opened[N_NAMES];
    char dir[512];
    who = names[number];
    snprintf(dir, sizeof dir, CDPIPE_SOURCE_DIR "/tests/golden/tokenizers/%s", who);
    if (opened[number] == NULL)
        expect(cdp_tokenizer_open(&opened[number], dir) == CDP_OK, "it cannot be opened");
    return opened[number];
}

/* The ids of one or two parts; they are all tokens. */
static int32_t *encode(const cdp_tokenizer *t, const cdp_text_part *parts, size_t n_parts, size_t *n_out) {
    int32_t *ids;
    size_t n_bytes;
    expect(cdp_tokenizer_encode_parts(t, parts, n_parts, &ids, n_out) == CDP_OK, "encoding failed");
    for (size_t i = 0; i < *n_out; i++)
        expect(cdp_tokenizer_bytes(t, ids[i], &n_bytes) != NULL, "an id that is no token");
    return ids;
}

static void check_parts(const cdp_tokenizer *t, const char *text, size_t n, size_t cut) {
    const cdp_text_part whole = {text, n, true}, told = {text, n, false};
    const cdp_text_part parts[] = {{text, cut, true}, {text + cut, n - cut, true}};
    size_t n_whole, n_parts, n_told;
    int32_t *of_whole = encode(t, &whole, 1, &n_whole), *of_parts = encode(t, parts, 2, &n_parts),
            *of_told = encode(t, &told, 1, &n_told);
    expect(n_whole == n_parts &&
               (n_whole == 0 || memcmp(of_whole, of_parts, n_whole * sizeof *of_whole) == 0),
           "two parts differ from the whole");
    for (size_t i = 0; i < n_told; i++)
        expect(!cdp_tokenizer_is_special(t, of_told[i]), "a special id in a user's text");
    free(of_whole);
    free(of_parts);
    free(of_told);
}

/* Decode at once and piece by piece. */
static cdp_bytes check_decode(const cdp_tokenizer *t, const char *text, size_t n) {
    const cdp_text_part whole = {text, n, true};
    cdp_detokenizer stream;
    cdp_bytes streamed = {0};
    size_t n_ids, n_piece, n_back;
    char *piece, *back;
    int32_t *ids = encode(t, &whole, 1, &n_ids);
    expect(cdp_tokenizer_decode(t, ids, n_ids, false, &back, &n_back) == CDP_OK, "decoding failed");
    cdp_detokenizer_start(&stream, t, false);
    cdp_bytes_add(&streamed, "", 0);
    for (size_t i = 0; i <= n_ids; i++) {
        const cdp_status st = i < n_ids ? cdp_detokenizer_push(&stream, ids[i], &piece, &n_piece)
                                        : cdp_detokenizer_flush(&stream, &piece, &n_piece);
        expect(st == CDP_OK, "streaming failed");
        cdp_bytes_add(&streamed, piece, n_piece);
        free(piece);
    }
    expect(n_back == streamed.n && memcmp(back, streamed.data, n_back) == 0, "the stream differs");
    free(back);
    free(ids);
    return streamed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n < 2)
        return 0;
    const int number = data[0] % N_NAMES;
    const cdp_tokenizer *t = tokenizer_of(number);
    cdp_bytes valid = {0};
    cdp_bytes_add(&valid, "", 0);
    cdp_utf8_add_valid(&valid, (const char *)data + 2, n - 2);
    size_t cut = valid.n > 0 ? data[1] * valid.n / 255 : 0;
    bool is_harmless = true;
    while (cut > 0 && cut < valid.n && ((unsigned char)valid.data[cut] & 0xC0) == 0x80)
        cut--;
    for (size_t i = 0; i < valid.n; i++)
        is_harmless = is_harmless && valid.data[i] >= ' ' && valid.data[i] < 0x7F && valid.data[i] != '<' &&
                      valid.data[i] != '[';
    check_parts(t, valid.data, valid.n, cut);
    cdp_bytes back = check_decode(t, valid.data, valid.n);
    if (is_harmless && number < N_ROUND_TRIPS)
        expect(back.n == valid.n && memcmp(back.data, valid.data, back.n) == 0,
               "the text does not come back");
    free(back.data);
    back = check_decode(t, (const char *)data + 2, n - 2); /* bytes that are no UTF-8 */
    free(back.data);
    free(valid.data);
    return 0;
}
