/* launcher/text/model_file.h - the inside of a tokenizer, and how tokenizer.json fills it.
 *
 * Opening is strict: a part of the file that would change ids in a way we do not follow ends it. Two keys are
 * passed over: "truncation" and "padding" are advice for batches of a fixed length.
 */
#pragma once

#include "launcher/text/added_tokens.h"
#include "launcher/text/bpe.h"
#include "launcher/text/decoder.h"
#include "launcher/text/normalize.h"
#include "launcher/text/pretokenizer.h"
#include "launcher/text/template.h"
#include "launcher/text/tokenizer.h"

struct cdp_tokenizer {
    cdp_vocabulary vocabulary; /* texts as the file has them, added tokens too */
    cdp_bpe bpe;
    cdp_added_set raw, normalized; /* added tokens found before, and after, normalising */
    cdp_normalizer normalizer;
    cdp_pretokenizer pretokenizer;
    cdp_template extra; /* what the post-processor adds */
    cdp_decoder decoder;
    cdp_bytes bytes;        /* what each id stands for ... */
    uint32_t *byte_offsets; /* ... from [id] to [id + 1] */
};

/* Fill an empty tokenizer from the text of `name`, n bytes that a NUL ends. */
cdp_status cdp_tokenizer_fill(cdp_tokenizer *out, const char *name, const char *text, size_t n);
