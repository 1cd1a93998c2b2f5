/* How tokenizer.json says what a pre-tokenizer does. */
#include "launcher/text/pretokenizer.h"

#include "planner/json.h"

/* The pattern that ByteLevel uses where use_regex is on; published with GPT-2. */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
/* The pattern that conversions of Mistral's files have where their own should stand; it is Llama 3's. */
static const char early_tekken_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
/* A word is what Rust's regular expressions call one. */
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}"
static const char words_pattern[] = "[" WORD "]+|[^" WORD "\\s]+";
static const char punctuation_pattern[] = "[!-\\/:-@\\[-`\\{-~\\p{P}]";

static cdp_status add_step(cdp_pretokenizer *p, const char *name, cdp_pre_kind kind,
                           cdp_pre_step **step_out) {
    if (p->n_steps == CDP_MAX_STEPS)
        return cdp_fail(CDP_BAD_MODEL, "%s: pre_tokenizer has more than %d steps", name, CDP_MAX_STEPS);
    *step_out = &p->steps[p->n_steps++];
    (*step_out)->kind = kind;
    return CDP_OK;
}

static cdp_status add_pattern(cdp_pretokenizer *p, const char *name, const char *pattern,
                              cdp_split_behavior behavior, bool is_inverted) {
    cdp_pre_step *step = NULL;
    CDP_TRY(add_step(p, name, CDP_PRE_SPLIT, &step));
    step->behavior = behavior;
    step->is_inverted = is_inverted;
    return cdp_regex_open(&step->regex, name, pattern, strlen(pattern));
}

static cdp_status add_fixed(cdp_pretokenizer *p, const char *name, const char *text,
                            cdp_split_behavior behavior, bool is_inverted) {
    cdp_pre_step *step = NULL;
    if (text[0] == '\0') /* a border between any two characters */
        return add_pattern(p, name, "", behavior, is_inverted);
    CDP_TRY(add_step(p, name, CDP_PRE_SPLIT, &step));
    step->behavior = behavior;
    step->is_inverted = is_inverted;
    cdp_bytes_add(&step->fixed, text, strlen(text));
    return step->fixed.is_failed ? cdp_fail(CDP_SYSTEM, "%s: no memory for a pre_tokenizer", name) : CDP_OK;
}

static cdp_status open_byte_level(cdp_pretokenizer *p, const char *name, const cJSON *json) {
    bool adds_space = true, uses_pattern = true;
    cdp_pre_step *step = NULL;
    CDP_TRY(cdp_json_bool(json, name, "add_prefix_space", &adds_space));
    CDP_TRY(cdp_json_bool(json, name, "use_regex", &uses_pattern));
    p->is_byte_level = true;
    if (adds_space)
        CDP_TRY(add_step(p, name, CDP_PRE_SPACE, &step));
    return uses_pattern ? add_pattern(p, name, gpt2_pattern, CDP_SPLIT_ISOLATED, false) : CDP_OK;
}

/* Old files say add_prefix_space where newer ones say prepend_scheme. */
static cdp_status read_scheme(const char *name, const cJSON *json, cdp_prepend_scheme *out) {
    static const char *const words[] = {"always", "first", "never"};
    const cJSON *scheme = cdp_json_get(json, "prepend_scheme");
    bool adds_space = true;
    CDP_TRY(cdp_json_bool(json, name, "add_prefix_space", &adds_space));
    *out = adds_space ? CDP_PREPEND_ALWAYS : CDP_PREPEND_NEVER;
    if (scheme == NULL || cJSON_IsNull(scheme))
        return CDP_OK;
    for (int i = 0; i < 3; i++) {
        if (cJSON_IsString(scheme) && strcmp(scheme->valuestring, words[i]) == 0) {
            *out = (cdp_prepend_scheme)i;
            return adds_space || *out == CDP_PREPEND_NEVER
                       ? CDP_OK
                       : cdp_fail(
                             CDP_BAD_MODEL,
                             "%s: pre_tokenizer Metaspace: prepend_scheme is %s and add_prefix_space false",
                             name, words[i]);
        }
    }
    return cdp_fail(CDP_BAD_MODEL,
                    "%s: pre_tokenizer Metaspace: prepend_scheme is not always, first or never", name);
}

static cdp_status open_metaspace(cdp_pretokenizer *p, const char *name, const cJSON *json) {
    const cJSON *replacement = cdp_json_get(json, "replacement");
    bool splits = true;
    cdp_pre_step *step = NULL;
    if (!cJSON_IsString(replacement) || replacement->valuestring[0] == '\0')
        return cdp_fail(CDP_BAD_MODEL, "%s: pre_tokenizer Metaspace: replacement is no character", name);
    CDP_TRY(add_step(p, name, CDP_PRE_METASPACE, &step));
    CDP_TRY(read_scheme(name, json, &step->scheme));
    CDP_TRY(cdp_json_bool(json, name, "split", &splits));
    cdp_bytes_add(&step->fixed, replacement->valuestring, strlen(replacement->valuestring));
    if (step->fixed.is_failed)
        return cdp_fail(CDP_SYSTEM, "%s: no memory for a pre_tokenizer", name);
    return splits ? add_fixed(p, name, replacement->valuestring, CDP_SPLIT_WITH_AFTER, false) : CDP_OK;
}

static cdp_status open_digits(cdp_pretokenizer *p, const char *name, const cJSON *json) {
    bool is_individual = false;
    CDP_TRY(cdp_json_bool(json, name, "individual_digits", &is_individual));
    return add_pattern(p, name, is_individual ? "\\p{N}" : "\\p{N}+", CDP_SPLIT_ISOLATED, false);
}

/* The behaviour of a split; its words stand in the order of the enum. */
static cdp_status read_behavior(const char *name, const char *kind, const cJSON *json,
                                cdp_split_behavior *out) {
    static const char *const words[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
    const cJSON *item = cdp_json_get(json, "behavior");
    char shown[64];
    const char *word = cJSON_IsString(item) ? item->valuestring : "?";
    for (int i = 0; i < 5; i++) {
        if (strcmp(word, words[i]) == 0) {
            *out = (cdp_split_behavior)i;
            return CDP_OK;
        }
    }
    return cdp_fail(CDP_BAD_MODEL,
                    "%s: pre_tokenizer %s: behavior is %s, expected Isolated, Removed, "
                    "MergedWithPrevious, MergedWithNext or Contiguous",
                    name, kind, cdp_escape(shown, sizeof shown, word, strlen(word)));
}

static cdp_status open_punctuation(cdp_pretokenizer *p, const char *name, const cJSON *json) {
    cdp_split_behavior behavior = CDP_SPLIT_ISOLATED;
    if (cdp_json_get(json, "behavior") != NULL)
        CDP_TRY(read_behavior(name, "Punctuation", json, &behavior));
    return add_pattern(p, name, punctuation_pattern, behavior, false);
}

static cdp_status open_split(cdp_pretokenizer *p, const char *name, const cJSON *json) {
    const cJSON *pattern = cdp_json_get(json, "pattern");
    const cJSON *regex = cdp_json_get(pattern, "Regex"), *text = cdp_json_get(pattern, "String");
    cdp_split_behavior behavior = CDP_SPLIT_ISOLATED;
    bool is_inverted = false;
    CDP_TRY(read_behavior(name, "Split", json, &behavior));
    CDP_TRY(cdp_json_bool(json, name, "invert", &is_inverted));
    if (cJSON_IsString(regex)) {
        p->is_early_tekken |= strcmp(regex->valuestring, early_tekken_pattern) == 0;
        return add_pattern(p, name, regex->valuestring, behavior, is_inverted);
    }
    if (cJSON_IsString(text))
        return add_fixed(p, name, text->valuestring, behavior, is_inverted);
    return cdp_fail(CDP_BAD_MODEL, "%s: pre_tokenizer Split: pattern is neither Regex nor String", name);
}

static cdp_status open_one(cdp_pretokenizer *p, const char *name, const char *word, const cJSON *json) {
    char shown[64];
    if (strcmp(word, "ByteLevel") == 0)
        return open_byte_level(p, name, json);
    if (strcmp(word, "Split") == 0)
        return open_split(p, name, json);
    if (strcmp(word, "Metaspace") == 0)
        return open_metaspace(p, name, json);
    if (strcmp(word, "Digits") == 0)
        return open_digits(p, name, json);
    if (strcmp(word, "Punctuation") == 0)
        return open_punctuation(p, name, json);
    if (strcmp(word, "Whitespace") == 0)
        return add_pattern(p, name, words_pattern, CDP_SPLIT_REMOVED, true);
    if (strcmp(word, "WhitespaceSplit") == 0)
        return add_pattern(p, name, "\\s", CDP_SPLIT_REMOVED, false);
    return cdp_fail(CDP_BAD_MODEL,
                    "%s: pre_tokenizer %s is not supported, expected ByteLevel, Split, Metaspace, Digits, "
                    "Punctuation, Whitespace, WhitespaceSplit or Sequence",
                    name, cdp_escape(shown, sizeof shown, word, strlen(word)));
}

static cdp_status open_step(cdp_pretokenizer *p, const char *name, const cJSON *json) {
    const cJSON *type = cdp_json_get(json, "type"), *step;
    const char *word = cJSON_IsString(type) ? type->valuestring : "?";
    char shown[64];
    if (strcmp(word, "Sequence") == 0) {
        cJSON_ArrayForEach(step, cdp_json_get(json, "pretokenizers")) CDP_TRY(open_step(p, name, step));
        return CDP_OK;
    }
    if (p->is_byte_level) /* it would see the characters that stand for bytes, which we never make */
        return cdp_fail(CDP_BAD_MODEL, "%s: pre_tokenizer %s behind ByteLevel is not supported", name,
                        cdp_escape(shown, sizeof shown, word, strlen(word)));
    return open_one(p, name, word, json);
}

cdp_status cdp_pretokenizer_open(cdp_pretokenizer *out, const char *name, const cJSON *json) {
    *out = (cdp_pretokenizer){0};
    if (json == NULL || cJSON_IsNull(json))
        return CDP_OK;
    return open_step(out, name, json);
}

void cdp_pretokenizer_close(cdp_pretokenizer *p) {
    for (int i = 0; i < p->n_steps; i++) {
        cdp_regex_close(p->steps[i].regex);
        free(p->steps[i].fixed.data);
    }
    *p = (cdp_pretokenizer){0};
}
