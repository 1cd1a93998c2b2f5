#include "launcher/text/pretokenizer.h"

#include "planner/json.h"

/* The pattern that ByteLevel uses where use_regex is on; published with GPT-2. */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static cdp_status add_step(cdp_pretokenizer *p, const char *name, const char *pattern, size_t n,
                           cdp_split_behavior behavior, bool is_inverted) {
    if (p->n_steps == CDP_MAX_STEPS)
        return cdp_fail(CDP_BAD_MODEL, "%s: pre_tokenizer has more than %d steps", name, CDP_MAX_STEPS);
    cdp_split_step *step = &p->steps[p->n_steps];
    *step = (cdp_split_step){NULL, behavior, is_inverted};
    CDP_TRY(cdp_regex_open(&step->regex, name, pattern, n));
    p->n_steps++;
    return CDP_OK;
}

static bool flag(const cJSON *json, const char *key, bool otherwise) {
    const cJSON *item = cdp_json_get(json, key);
    return cJSON_IsBool(item) ? cJSON_IsTrue(item) : otherwise;
}

static cdp_status open_byte_level(cdp_pretokenizer *p, const char *name, const cJSON *json) {
    p->is_byte_level = true;
    if (flag(json, "add_prefix_space", true)) {
        if (p->n_steps > 0)
            return cdp_fail(CDP_BAD_MODEL,
                            "%s: ByteLevel with add_prefix_space behind another step is not supported", name);
        p->adds_space = true;
    }
    if (!flag(json, "use_regex", true))
        return CDP_OK;
    return add_step(p, name, gpt2_pattern, sizeof gpt2_pattern - 1, CDP_SPLIT_ISOLATED, false);
}

/* A fixed text as a pattern: every byte quoted. */
static cdp_status add_literal(cdp_pretokenizer *p, const char *name, const char *text,
                              cdp_split_behavior behavior, bool is_inverted) {
    cdp_bytes quoted = {0};
    for (; *text != '\0'; text++) {
        if (strchr("\\^$.|?*+()[]{}-/#&", *text) != NULL)
            cdp_bytes_add(&quoted, "\\", 1);
        cdp_bytes_add(&quoted, text, 1);
    }
    const cdp_status st = quoted.is_failed || quoted.data == NULL
                              ? cdp_fail(CDP_BAD_MODEL, "%s: Split with an empty pattern", name)
                              : add_step(p, name, quoted.data, quoted.n, behavior, is_inverted);
    free(quoted.data);
    return st;
}

static cdp_status open_split(cdp_pretokenizer *p, const char *name, const cJSON *json) {
    static const char *const words[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
    const cJSON *pattern = cdp_json_get(json, "pattern"), *behavior = cdp_json_get(json, "behavior");
    int which = -1;
    for (int i = 0; cJSON_IsString(behavior) && i < 5; i++)
        if (strcmp(behavior->valuestring, words[i]) == 0)
            which = i;
    if (which < 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: Split: behavior is no known word", name);
    const cJSON *regex = cdp_json_get(pattern, "Regex"), *text = cdp_json_get(pattern, "String");
    const bool is_inverted = flag(json, "invert", false);
    if (cJSON_IsString(regex))
        return add_step(p, name, regex->valuestring, strlen(regex->valuestring), (cdp_split_behavior)which,
                        is_inverted);
    if (cJSON_IsString(text))
        return add_literal(p, name, text->valuestring, (cdp_split_behavior)which, is_inverted);
    return cdp_fail(CDP_BAD_MODEL, "%s: Split: pattern is neither Regex nor String", name);
}

static cdp_status open_step(cdp_pretokenizer *p, const char *name, const cJSON *json) {
    const cJSON *type = cdp_json_get(json, "type"), *step;
    const char *word = cJSON_IsString(type) ? type->valuestring : "?";
    if (p->is_byte_level)
        return cdp_fail(CDP_BAD_MODEL, "%s: pre_tokenizer %.40s behind ByteLevel is not supported", name,
                        word);
    if (strcmp(word, "Sequence") == 0) {
        cJSON_ArrayForEach(step, cdp_json_get(json, "pretokenizers")) CDP_TRY(open_step(p, name, step));
        return CDP_OK;
    }
    if (strcmp(word, "ByteLevel") == 0)
        return open_byte_level(p, name, json);
    if (strcmp(word, "Split") == 0)
        return open_split(p, name, json);
    if (strcmp(word, "Digits") == 0) {
        const bool is_individual = flag(json, "individual_digits", false);
        return add_step(p, name, is_individual ? "\\p{N}" : "\\p{N}+", is_individual ? 5 : 6,
                        CDP_SPLIT_ISOLATED, false);
    }
    char shown[64];
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

/* Gives the pieces of one part list by the behaviour; `last` is the piece that is still growing. */
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
    if (*has_last && !(behavior == CDP_SPLIT_REMOVED && last->is_match))
        cdp_spans_add(out, last->span.begin, last->span.end);
    *last = *now;
    *has_last = true;
}

static cdp_status split_piece(const cdp_split_step *step, const char *text, cdp_span piece, cdp_spans *out) {
    cdp_spans matches = {0};
    const cdp_status st = cdp_regex_find(step->regex, text, piece.begin, piece.end, &matches);
    part last = {0};
    bool has_last = false;
    size_t at = piece.begin;
    for (size_t i = 0; st == CDP_OK && i <= matches.n; i++) {
        const cdp_span match = i < matches.n ? matches.data[i] : (cdp_span){piece.end, piece.end};
        if (match.begin > at)
            emit(out, step->behavior, &(part){{at, match.begin}, step->is_inverted}, &last, &has_last);
        if (match.end > match.begin)
            emit(out, step->behavior, &(part){match, !step->is_inverted}, &last, &has_last);
        at = match.end;
    }
    if (has_last && !(step->behavior == CDP_SPLIT_REMOVED && last.is_match))
        cdp_spans_add(out, last.span.begin, last.span.end);
    free(matches.data);
    return st;
}

cdp_status cdp_pretokenizer_split(const cdp_pretokenizer *p, const char *text, size_t n, cdp_spans *pieces) {
    *pieces = (cdp_spans){0};
    if (n > 0)
        cdp_spans_add(pieces, 0, n);
    cdp_status st = CDP_OK;
    for (int s = 0; st == CDP_OK && s < p->n_steps; s++) {
        cdp_spans next = {0};
        for (size_t i = 0; st == CDP_OK && i < pieces->n; i++)
            st = split_piece(&p->steps[s], text, pieces->data[i], &next);
        free(pieces->data);
        *pieces = next;
    }
    return st == CDP_OK && pieces->is_failed ? cdp_fail(CDP_SYSTEM, "no memory for the pieces of a text")
                                             : st;
}
