#include "launcher/text/pretokenizer.h"

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

/* Cut one piece at its matches; `matches` is room that is kept from piece to piece. A match may be empty: it
 * is a border all the same. */
static cdp_status split_piece(const cdp_pre_step *step, cdp_regex_work *work, const char *text,
                              cdp_span piece, cdp_spans *matches, cdp_spans *out) {
    part last = {0};
    bool has_last = false;
    size_t at = piece.begin;
    matches->n = 0;
    if (step->regex != NULL)
        CDP_TRY(cdp_regex_find(step->regex, work, text, piece.begin, piece.end, matches));
    else
        cdp_find_fixed(step->fixed.data, step->fixed.n, text, piece.begin, piece.end, matches);
    for (size_t i = 0; i < matches->n; i++) {
        const cdp_span match = matches->data[i];
        if (match.begin > at)
            emit(out, step->behavior, &(part){{at, match.begin}, step->is_inverted}, &last, &has_last);
        emit(out, step->behavior, &(part){match, !step->is_inverted}, &last, &has_last);
        at = match.end;
    }
    if (piece.end > at)
        emit(out, step->behavior, &(part){{at, piece.end}, step->is_inverted}, &last, &has_last);
    if (has_last)
        keep(out, step->behavior, &last);
    return CDP_OK;
}

static cdp_status split_all(const cdp_pre_step *step, cdp_regex_work *work, cdp_pieces *pieces,
                            cdp_spans *out) {
    cdp_spans matches = {0};
    cdp_status st = CDP_OK;
    for (size_t i = 0; st == CDP_OK && i < pieces->spans.n; i++)
        st = split_piece(step, work, pieces->text, pieces->spans.data[i], &matches, out);
    out->is_failed |= matches.is_failed;
    free(matches.data);
    return st;
}

/* Append a piece with every space replaced. */
static void add_replaced(cdp_bytes *out, const cdp_bytes *by, const char *piece, size_t n) {
    size_t kept = 0;
    for (size_t at = 0; at < n; at++) {
        if (piece[at] != ' ')
            continue;
        cdp_bytes_add(out, piece + kept, at - kept);
        cdp_bytes_add(out, by->data, by->n);
        kept = at + 1;
    }
    cdp_bytes_add(out, piece + kept, n - kept);
}

static bool begins_with(const char *text, size_t n, const char *sign, size_t n_sign) {
    return n >= n_sign && memcmp(text, sign, n_sign) == 0;
}

/* A copy of all pieces, changed: SPACE and METASPACE. */
static void change_all(const cdp_pre_step *step, cdp_pieces *pieces, cdp_spans *out) {
    const bool is_meta = step->kind == CDP_PRE_METASPACE;
    const char *sign = is_meta ? step->fixed.data : " ";
    const size_t n_sign = is_meta ? step->fixed.n : 1;
    cdp_bytes text = {0};
    pieces->is_beginning = pieces->is_beginning && pieces->spans.n > 0 && pieces->spans.data[0].begin == 0;
    for (size_t i = 0; i < pieces->spans.n; i++) {
        const cdp_span span = pieces->spans.data[i];
        const char *piece = pieces->text + span.begin;
        const size_t n = span.end - span.begin, begin = text.n;
        const bool wants_sign = step->scheme == CDP_PREPEND_ALWAYS ||
                                (step->scheme == CDP_PREPEND_FIRST && i == 0 && pieces->is_beginning);
        if (wants_sign && piece[0] != ' ' && !begins_with(piece, n, sign, n_sign))
            cdp_bytes_add(&text, sign, n_sign);
        if (is_meta)
            add_replaced(&text, &step->fixed, piece, n);
        else
            cdp_bytes_add(&text, piece, n);
        cdp_spans_add(out, begin, text.n);
    }
    out->is_failed |= text.is_failed;
    free(pieces->own.data);
    pieces->own = text;
    pieces->text = text.data;
}

static cdp_status run_step(const cdp_pre_step *step, cdp_regex_work *work, cdp_pieces *pieces) {
    cdp_spans next = {0};
    cdp_status st = CDP_OK;
    if (step->kind == CDP_PRE_SPLIT)
        st = split_all(step, work, pieces, &next);
    else
        change_all(step, pieces, &next);
    free(pieces->spans.data);
    pieces->spans = next;
    return st == CDP_OK && next.is_failed ? cdp_fail(CDP_SYSTEM, "no memory for the pieces of a text") : st;
}

cdp_status cdp_pretokenizer_split(const cdp_pretokenizer *p, cdp_text text, cdp_regex_work *work,
                                  cdp_pieces *out) {
    *out = (cdp_pieces){.text = text.data, .is_beginning = text.is_beginning};
    if (text.n == 0)
        return CDP_OK;
    cdp_spans_add(&out->spans, 0, text.n);
    if (out->spans.is_failed)
        return cdp_fail(CDP_SYSTEM, "no memory for the pieces of a text");
    for (int i = 0; i < p->n_steps; i++)
        CDP_TRY(run_step(&p->steps[i], work, out));
    return CDP_OK;
}

void cdp_pieces_free(cdp_pieces *pieces) {
    free(pieces->own.data);
    free(pieces->spans.data);
    *pieces = (cdp_pieces){0};
}
