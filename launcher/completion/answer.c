#include "launcher/completion/answer.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/fault.h"
#include "launcher/streams.h"

void cdp_answer_start(cdp_answer *out, const cdp_tokenizer *tokenizer, FILE *to, const char *const *stops,
                      int n_stops) {
    *out = (cdp_answer){.has_tokenizer = tokenizer != NULL, .to = to, .stops = stops, .n_stops = n_stops};
    for (int i = 0; i < n_stops; i++)
        if (strlen(stops[i]) > out->longest_stop)
            out->longest_stop = strlen(stops[i]);
    if (tokenizer != NULL)
        cdp_detokenizer_start(&out->stream, tokenizer, true);
}

static cdp_status append(cdp_answer *answer, const char *text, size_t n) {
    if (answer->n_text + n + 1 > answer->room) {
        const size_t room = 2 * (answer->n_text + n) + 256;
        char *grown = realloc(answer->text, room);
        if (grown == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for an answer of %zu bytes", answer->n_text + n);
        answer->text = grown;
        answer->room = room;
    }
    memcpy(answer->text + answer->n_text, text, n);
    answer->n_text += n;
    answer->text[answer->n_text] = '\0';
    return CDP_OK;
}

/* Print up to `end`. */
static cdp_status print_to(cdp_answer *answer, size_t end) {
    if (answer->to == NULL || end <= answer->n_printed)
        return CDP_OK;
    const size_t n = end - answer->n_printed;
    CDP_TRY(cdp_fault_pass("write"));
    if (fwrite(answer->text + answer->n_printed, 1, n, answer->to) != n || fflush(answer->to) != 0)
        return cdp_stream_failed("the text");
    answer->n_printed = end;
    return CDP_OK;
}

/* Look for the first stop text that ends in the new part, and cut there. */
static void find_stop(cdp_answer *answer, size_t old_end) {
    const size_t from = old_end > answer->longest_stop ? old_end - answer->longest_stop : 0;
    size_t first = answer->n_text;
    for (int i = 0; i < answer->n_stops; i++) {
        const char *at =
            memmem(answer->text + from, answer->n_text - from, answer->stops[i], strlen(answer->stops[i]));
        if (at != NULL && (size_t)(at - answer->text) < first)
            first = (size_t)(at - answer->text);
    }
    if (first == answer->n_text)
        return;
    answer->n_text = first;
    answer->text[first] = '\0';
    answer->is_stopped = true;
}

/* What cannot be the beginning of a stop text any more, up to a whole character. */
static size_t safe_end(const cdp_answer *answer) {
    const size_t held = answer->longest_stop > 0 ? answer->longest_stop - 1 : 0;
    size_t end = answer->n_text > held ? answer->n_text - held : 0;
    while (end > 0 && end < answer->n_text && ((unsigned char)answer->text[end] & 0xC0) == 0x80)
        end--;
    return end;
}

static cdp_status take_text(cdp_answer *answer, const char *text, size_t n) {
    const size_t old_end = answer->n_text;
    CDP_TRY(append(answer, text, n));
    if (answer->n_stops > 0)
        find_stop(answer, old_end);
    return print_to(answer, answer->is_stopped ? answer->n_text : safe_end(answer));
}

cdp_status cdp_answer_add(cdp_answer *answer, int32_t id, bool is_hidden) {
    if (!answer->has_tokenizer) {
        char number[16];
        snprintf(number, sizeof number, answer->n_text > 0 ? " %d" : "%d", id);
        return take_text(answer, number, strlen(number));
    }
    if (is_hidden)
        return CDP_OK;
    char *text = NULL;
    size_t n = 0;
    CDP_TRY(cdp_detokenizer_push(&answer->stream, id, &text, &n));
    const cdp_status st = n > 0 ? take_text(answer, text, n) : CDP_OK;
    free(text);
    return st;
}

cdp_status cdp_answer_end(cdp_answer *answer) {
    char *text = NULL;
    size_t n = 0;
    if (answer->has_tokenizer && !answer->is_stopped)
        CDP_TRY(cdp_detokenizer_flush(&answer->stream, &text, &n));
    cdp_status st = n > 0 ? take_text(answer, text, n) : CDP_OK;
    free(text);
    if (st == CDP_OK)
        st = print_to(answer, answer->n_text);
    if (st == CDP_OK && answer->to != NULL && (fputc('\n', answer->to) == EOF || fflush(answer->to) != 0))
        st = cdp_stream_failed("the text");
    return st;
}

void cdp_answer_close(cdp_answer *answer) {
    free(answer->text);
    answer->text = NULL;
}
