/* Any bytes as a tokenizer.json: refused with a message, or a tokenizer that works. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void expect(bool is_true, const char *what) {
    if (is_true)
        return;
    fprintf(stderr, "fuzz: %s; the message is \"%s\"\n", what, cdp_error_message());
    abort();
}

/* Words, numbers, spaces, signs, other scripts, marks, a character of four bytes, bytes that are no UTF-8. */
static const char sample[] =
    " Hello  world, it's <s> 12345.6\n\n\t<|end|>caf\xC3\xA9 e\xCC\x81 \xE6\x9D\xB1\xE4\xBA\xAC"
    "\xF0\x9F\x98\x80 \xC2\xA0\xE2\x80\x83[INST] \xFF\xE2\x82 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";

static void use(const cdp_tokenizer *tokenizer) {
    const cdp_text_part parts[] = {{sample, 40, true}, {sample + 40, sizeof sample - 41, false}};
    int32_t *ids;
    size_t n_ids, n_text;
    char *text;
    const cdp_status st = cdp_tokenizer_encode_parts(tokenizer, parts, 2, &ids, &n_ids);
    expect(st == CDP_OK || st == CDP_BAD_DATA, "encoding failed");
    cdp_error_clear();
    if (st != CDP_OK)
        return;
    for (size_t i = 0; i < n_ids; i++)
        expect(cdp_tokenizer_bytes(tokenizer, ids[i], &n_text) != NULL, "an id that is no token");
    expect(cdp_tokenizer_decode(tokenizer, ids, n_ids, false, &text, &n_text) == CDP_OK, "decoding failed");
    free(text);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    cdp_tokenizer *tokenizer = NULL;
    char *text = malloc(n + 1);
    expect(text != NULL, "no memory");
    memcpy(text, data, n);
    text[n] = '\0';
    cdp_error_clear();
    const cdp_status st = cdp_tokenizer_parse(&tokenizer, "tokenizer.json", text, n);
    free(text);
    expect((st == CDP_OK) == (tokenizer != NULL), "a status that does not fit");
    expect(st == CDP_OK || (st == CDP_BAD_MODEL && cdp_error_message()[0] != '\0'), "no fault of the file");
    cdp_error_clear();
    if (tokenizer != NULL)
        use(tokenizer);
    cdp_tokenizer_close(tokenizer);
    return 0;
}
