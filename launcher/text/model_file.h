/* launcher/text/model_file.h - the inside of a tokenizer, and how tokenizer.json fills it. */
#pragma once

#include "launcher/text/added_tokens.h"
#include "launcher/text/bpe.h"
#include "launcher/text/pretokenizer.h"
#include "launcher/text/tokenizer.h"

enum { CDP_MAX_EXTRA = 16 };

struct cdp_tokenizer {
    cdp_vocabulary vocabulary; /* texts as the file has them, added tokens too */
    cdp_bpe bpe;
    cdp_added_set raw, normalized; /* added tokens found before, and after, normalising */
    bool normalizes_nfc;
    cdp_pretokenizer pretokenizer;
    int n_before, n_after; /* ids that the post-processor adds */
    int32_t before[CDP_MAX_EXTRA], after[CDP_MAX_EXTRA];
    cdp_bytes bytes;      /* what each id stands for ... */
    size_t *byte_offsets; /* ... from [id] to [id + 1] */
};

/* Fill an empty tokenizer from the tree of `name`. */
cdp_status cdp_tokenizer_fill(cdp_tokenizer *out, const char *name, const cJSON *root);

/* NFC of valid UTF-8, appended to `out`. */
cdp_status cdp_normalize_nfc(cdp_bytes *out, const char *text, size_t n);
