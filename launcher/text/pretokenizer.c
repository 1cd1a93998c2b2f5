#include "launcher/text/pretokenizer.h"

#include "planner/json.h"

/* The pattern that ByteLevel uses where use_regex is on; published with GPT-2. */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static cdp_status add_step(cdp_pretokenizer *p, const char *name, const char *pattern, size_t n,
                           cdp_split_behavior behavior, bool is_inverted) {
    if (p->n_steps == CDP_MAX_STEPS)
        return cdp_fail(CDP_BAD_MODEL, "%s: pre_tokenizer has more than %d steps", name, CDP_MAX_STEPS);
    cdp_pre_step *step = &p->steps[p->n_steps++];
    *step = (cdp_pre_step){NULL, behavior, is_inverted};
    if (pattern != NULL)
        CDP_TRY(cdp_regex_open(&step->regex, name, pattern, n));
    return CDP_OK;
}

static cdp_status open_byte_level(cdp_pretokenizer *p, const char *name, const cJSON *json) {
    bool adds_space = true, uses_pattern = true;
    CDP_TRY(cdp_json_bool(json, name, "add_prefix_space", &adds_space));
    CDP_TRY(cdp_json_bool(json, name, "use_regex", &uses_pattern));
    p->is_byte_level = true;
    if (adds_space)
        CDP_TRY(add_step(p, name, NULL, 0, CDP_SPLIT_ISOLATED, false));
    if (uses_pattern)
        CDP_TRY(add_step(p, name, gpt2_pattern, sizeof gpt2_pattern - 1, CDP_SPLIT_ISOLATED, false));
    return CDP_OK;
}

static cdp_status open_digits(cdp_pretokenizer *p, const char *name, const cJSON *json) {
    bool is_individual = false;
    CDP_TRY(cdp_json_bool(json, name, "individual_digits", &is_individual));
    const char *pattern = is_individual ? "\\p{N}" : "\\p{N}+";
    return add_step(p, name, pattern, strlen(pattern), CDP_SPLIT_ISOLATED, false);
}

/* A fixed text as a pattern: every sign quoted. */
static cdp_status add_literal(cdp_pretokenizer *p, const char *name, const char *text,
                              cdp_split_behavior behavior, bool is_inverted) {
    cdp_bytes quoted = {0};
    cdp_bytes_add(&quoted, "", 0); /* an empty text has a pattern too */
    for (; *text != '\0'; text++) {
        if (strchr("\\^$.|?*+()[]{}-/#&", *text) != NULL)
            cdp_bytes_add(&quoted, "\\", 1);
        cdp_bytes_add(&quoted, text, 1);
    }
    const cdp_status st = quoted.is_failed ? cdp_fail(CDP_SYSTEM, "%s: no memory for a pattern", name)
                                           : add_step(p, name, quoted.data, quoted.n, behavior, is_inverted);
    free(quoted.data);
    return st;
}

/* The behaviour of a Split; its words stand in the order of the enum. */
static cdp_status read_behavior(const char *name, const cJSON *json, cdp_split_behavior *out) {
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
                    "%s: pre_tokenizer Split: behavior is %s, expected Isolated, Removed, "
                    "MergedWithPrevious, MergedWithNext or Contiguous",
                    name, cdp_escape(shown, sizeof shown, word, strlen(word)));
}

static cdp_status open_split(cdp_pretokenizer *p, const char *name, const cJSON *json) {
    const cJSON *pattern = cdp_json_get(json, "pattern");
    const cJSON *regex = cdp_json_get(pattern, "Regex"), *text = cdp_json_get(pattern, "String");
    cdp_split_behavior behavior = CDP_SPLIT_ISOLATED;
    bool is_inverted = false;
    CDP_TRY(read_behavior(name, json, &behavior));
    CDP_TRY(cdp_json_bool(json, name, "invert", &is_inverted));
    if (cJSON_IsString(regex))
        return add_step(p, name, regex->valuestring, strlen(regex->valuestring), behavior, is_inverted);
    if (cJSON_IsString(text))
        return add_literal(p, name, text->valuestring, behavior, is_inverted);
    return cdp_fail(CDP_BAD_MODEL, "%s: pre_tokenizer Split: pattern is neither Regex nor String", name);
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
    if (strcmp(word, "ByteLevel") == 0)
        return open_byte_level(p, name, json);
    if (strcmp(word, "Split") == 0)
        return open_split(p, name, json);
    if (strcmp(word, "Digits") == 0)
        return open_digits(p, name, json);
    return cdp_fail(CDP_BAD_MODEL,
                    "%s: pre_tokenizer %s is not supported, expected ByteLevel, Split, Digits or Sequence",
                    name, cdp_escape(shown, sizeof shown, word, strlen(word)));
}

cdp_status cdp_pretokenizer_open(cdp_pretokenizer *out, const char *name, const cJSON *json) {
    *out = (cdp_pretokenizer){0};
    if (json == NULL || cJSON_IsNull(json))
        return CDP_OK;
    return open_step(out, name, json);
}

void cdp_pretokenizer_close(cdp_pretokenizer *p) {
    for (int i = 0; i < p->n_steps; i++)
        cdp_regex_close(p->steps[i].regex);
    *p = (cdp_pretokenizer){0};
}

/* A piece between or at matches. */
typedef struct part {
    cdp_span span;
    bool is_match;
} part;

/* A piece is done: keep it, unless the behaviour drops it or nothing is in it. */
static void keep(cdp_spans *out, cdp_split_behavior behavior, const part *p) {
    if (p->span.end > p->span.begin && !(behavior == CDP_SPLIT_REMOVED && p->is_match))
        cdp_spans_add(out, p->span.begin, p->span.end);
}

/* The next part; `last` is the piece that is still growing. */
static void emit(cdp_spans *out, cdp_split_behavior behavior, const part *now, part *last, bool *has_last) {
    const bool joins =
        *has_last && ((behavior == CDP_SPLIT_WITH_BEFORE && now->is_match && !last->is_match) ||
                      (behavior == CDP_SPLIT_WITH_AFTER && last->is_match && !now->is_match) ||
                      (behavior == CDP_SPLIT_CONTIGUOUS && last->is_match == now->is_match));
    if (joins) {
        last->span.end = now->span.end;
        last->is_match = behavior == CDP_SPLIT_CONTIGUOUS ? now->is_match : behavior == CDP_SPLIT_WITH_BEFORE;
        return;
    }
    if (*has_last)
        keep(out, behavior, last);
    *last = *now;
    *has_last = true;
}

/* Cut one piece at its matches. A match may be empty: it is a border all the same. */
static cdp_status split_piece(const cdp_pre_step *step, const char *text, cdp_span piece, cdp_spans *out) {
    cdp_spans matches = {0};
    const cdp_status st = cdp_regex_find(step->regex, text, piece.begin, piece.end, &matches);
    part last = {0};
    bool has_last = false;
    size_t at = piece.begin;
    for (size_t i = 0; st == CDP_OK && i < matches.n; i++) {
        const cdp_span match = matches.data[i];
        if (match.begin > at)
            emit(out, step->behavior, &(part){{at, match.begin}, step->is_inverted}, &last, &has_last);
        emit(out, step->behavior, &(part){match, !step->is_inverted}, &last, &has_last);
        at = match.end;
    }
    if (piece.end > at)
        emit(out, step->behavior, &(part){{at, piece.end}, step->is_inverted}, &last, &has_last);
    if (has_last)
        keep(out, step->behavior, &last);
    free(matches.data);
    return st;
}

/* A copy of all pieces, each with a space in front that does not begin with one. */
static void add_spaces(const cdp_pieces *from, cdp_bytes *text, cdp_spans *spans) {
    for (size_t i = 0; i < from->spans.n; i++) {
        const cdp_span piece = from->spans.data[i];
        const size_t begin = text->n;
        if (from->text[piece.begin] != ' ')
            cdp_bytes_add(text, " ", 1);
        cdp_bytes_add(text, from->text + piece.begin, piece.end - piece.begin);
        cdp_spans_add(spans, begin, text->n);
    }
    spans->is_failed |= text->is_failed;
}

static cdp_status run_step(const cdp_pre_step *step, cdp_pieces *pieces) {
    cdp_spans next = {0};
    cdp_bytes text = {0};
    cdp_status st = CDP_OK;
    for (size_t i = 0; st == CDP_OK && step->regex != NULL && i < pieces->spans.n; i++)
        st = split_piece(step, pieces->text, pieces->spans.data[i], &next);
    if (step->regex == NULL) {
        add_spaces(pieces, &text, &next);
        free(pieces->own.data);
        pieces->own = text;
        pieces->text = text.data;
    }
    free(pieces->spans.data);
    pieces->spans = next;
    return st == CDP_OK && next.is_failed ? cdp_fail(CDP_SYSTEM, "no memory for the pieces of a text") : st;
}

cdp_status cdp_pretokenizer_split(const cdp_pretokenizer *p, cdp_text text, cdp_pieces *out) {
    *out = (cdp_pieces){.text = text.data};
    if (text.n == 0)
        return CDP_OK;
    cdp_spans_add(&out->spans, 0, text.n);
    if (out->spans.is_failed)
        return cdp_fail(CDP_SYSTEM, "no memory for the pieces of a text");
    for (int i = 0; i < p->n_steps; i++)
        CDP_TRY(run_step(&p->steps[i], out));
    return CDP_OK;
}

void cdp_pieces_free(cdp_pieces *pieces) {
    free(pieces->own.data);
    free(pieces->spans.data);
    *pieces = (cdp_pieces){0};
}
