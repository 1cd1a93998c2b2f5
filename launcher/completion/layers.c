#include "launcher/completion/layers.h"

#include <math.h>
#include <string.h>

#include "kernels/log.h"
#include "launcher/sample/entropy.h"
#include "planner/json.h"

static const char *shown_token(char *out, size_t out_size, const cdp_run *run, int32_t token) {
    size_t n = 0;
    const char *bytes = run->tokenizer != NULL ? cdp_tokenizer_bytes(run->tokenizer, token, &n) : NULL;
    if (bytes == NULL)
        snprintf(out, out_size, "%d", token);
    else
        cdp_escape(out, out_size, bytes, n);
    return out;
}

void cdp_layers_say_token(const cdp_completion *c, int32_t token) {
    char shown[128];
    if (c->choice == NULL || !cdp_log_speaks())
        return;
    const cdp_layer_log *log = cdp_choice_log(c->choice);
    const int selected = log->selected[log->n_tokens - 1];
    shown_token(shown, sizeof shown, c->run, token);
    if (c->request.decoding->kind == CDP_DECODING_DOLA) {
        cdp_note("token %d: against state %d of %d, token='%s'", log->n_tokens, selected, log->n_layers,
                 shown);
        return;
    }
    const int top_k = c->request.decoding->entropy_top_k;
    const double nats =
        (double)log->nats[(size_t)(log->n_tokens - 1) * (size_t)log->n_layers + (size_t)selected];
    cdp_note("token %d: selected layer %d/%d, entropy=%.4f nats (%.4f bits, %.1f%% of the most), token='%s'",
             log->n_tokens, selected, log->n_layers - 1, nats, cdp_nats_to_bits(nats),
             100 * cdp_nats_normalised(nats, top_k > 0 ? top_k : c->run->card->vocab), shown);
}

void cdp_layers_say_summary(const cdp_completion *c) {
    if (c->choice == NULL)
        return;
    const cdp_layer_log *log = cdp_choice_log(c->choice);
    const bool is_dola = c->request.decoding->kind == CDP_DECODING_DOLA;
    int n_left = 0;
    double depth = 0, sum = 0;
    for (int i = 0; i < log->n_tokens; i++) {
        const int above = log->n_layers - 1 - log->selected[i];
        n_left += above > 0;
        depth += above;
        sum += log->selected[i];
    }
    if (log->n_tokens == 0)
        return;
    if (is_dola)
        cdp_note("layers: %d tokens against state %.1f of %d on average", log->n_tokens, sum / log->n_tokens,
                 log->n_layers);
    else
        cdp_note("layers: %.1f%% of %d tokens left the last layer, those by %.1f layers on average",
                 100.0 * n_left / log->n_tokens, log->n_tokens, n_left > 0 ? depth / n_left : 0);
}

void cdp_write_token_text(FILE *to, const cdp_tokenizer *tokenizer, int32_t token) {
    size_t n = 0;
    const char *bytes = tokenizer != NULL && token >= 0 ? cdp_tokenizer_bytes(tokenizer, token, &n) : NULL;
    if (bytes == NULL) {
        fputs("null", to);
        return;
    }
    cdp_json_write_quoted(to, bytes, n);
}

typedef void (*write_cell)(FILE *to, const cdp_completion *c, size_t at);

static void write_real(FILE *to, float value) {
    if (isnan(value))
        fputs("null", to);
    else
        fprintf(to, "%.7g", (double)value);
}

static void write_nats(FILE *to, const cdp_completion *c, size_t at) {
    write_real(to, cdp_choice_log(c->choice)->nats[at]);
}

static void write_cosine(FILE *to, const cdp_completion *c, size_t at) {
    write_real(to, cdp_choice_log(c->choice)->cosines[at]);
}

static void write_argmax(FILE *to, const cdp_completion *c, size_t at) {
    const int32_t id = cdp_choice_log(c->choice)->argmax[at];
    if (id < 0)
        fputs("null", to);
    else
        fprintf(to, "%d", id);
}

static void write_argmax_text(FILE *to, const cdp_completion *c, size_t at) {
    cdp_write_token_text(to, c->run->tokenizer, cdp_choice_log(c->choice)->argmax[at]);
}

/* "NAME": [[a value a layer], a row a token] */
static void write_table(FILE *to, const cdp_completion *c, const char *name, write_cell write) {
    const cdp_layer_log *log = cdp_choice_log(c->choice);
    fprintf(to, ", \"%s\": [", name);
    for (int t = 0; t < log->n_tokens; t++)
        for (int i = 0; i < log->n_layers; i++) {
            fputs(i > 0 ? ", " : t > 0 ? "], [" : "[", to);
            write(to, c, (size_t)t * (size_t)log->n_layers + (size_t)i);
        }
    fputs(log->n_tokens > 0 ? "]]" : "]", to);
}

void cdp_write_layers(FILE *to, const cdp_completion *c) {
    if (c->choice == NULL)
        return;
    const cdp_layer_log *log = cdp_choice_log(c->choice);
    fprintf(to, "\"decoding\": \"%s\", ",
            c->request.decoding->kind == CDP_DECODING_DOLA ? "dola" : "conservative-dynamic");
    cdp_write_ids(to, "selected_layers", log->selected, (size_t)log->n_tokens);
    if (!c->request.keeps_layers)
        return;
    if (c->request.decoding->entropy_top_k > 0)
        fprintf(to, ", \"entropy_top_k\": %d", c->request.decoding->entropy_top_k);
    write_table(to, c, "layer_entropies", write_nats);
    if (log->cosines != NULL)
        write_table(to, c, "layer_cosines", write_cosine);
    write_table(to, c, "all_layer_tokens", write_argmax_text);
    write_table(to, c, "all_layer_token_ids", write_argmax);
    fputs(", \"generated_text\": ", to);
    cdp_write_text_value(to, c);
    fputs(", ", to);
    cdp_write_ids(to, "generated_token_ids", c->tokens, (size_t)c->n_tokens);
    fputs(", \"generated_tokens\": [", to);
    for (int t = 0; t < c->n_tokens; t++) {
        fputs(t > 0 ? ", " : "", to);
        cdp_write_token_text(to, c->run->tokenizer, c->tokens[t]);
    }
    fputs("]", to);
}
