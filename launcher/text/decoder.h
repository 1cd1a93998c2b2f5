/* launcher/text/decoder.h - what ids stand for in a text.
 *
 *     byte level    the characters of a token are bytes, those of all tokens together a text
 *     plain         a token is a text (U+2581 replaced by a space); <0x0A> may be a byte, neighbours of its
 *                   kind make a character
 */
#pragma once

#include "kernels/status.h"
#include "launcher/text/buffer.h"
#include <cjson/cJSON.h>

enum { CDP_MAX_REPLACES = 8 };

typedef struct cdp_decoder {
    bool is_byte_level;
    bool has_bytes;   /* <0xNN> is a byte */
    bool drops_first; /* of the first token, what is replaced is left out */
    size_t n_strips;  /* at most so many `strip` at the very beginning are left out */
    cdp_bytes strip;
    int n_replaces;
    struct {
        cdp_bytes from, to;
    } replaces[CDP_MAX_REPLACES];
} cdp_decoder;

/* From tokenizer.json's "decoder". What is not supported is refused by name. Closed by cdp_decoder_close,
 * also after a failure. */
cdp_status cdp_decoder_open(cdp_decoder *out, const char *name, const cJSON *json);
void cdp_decoder_close(cdp_decoder *decoder);

/* Append what a token of this text stands for (is_first: at the beginning); returns true for <0xNN>, whose
 * byte was appended. */
bool cdp_decoder_add(const cdp_decoder *decoder, const char *text, size_t n, bool is_first, cdp_bytes *out);
