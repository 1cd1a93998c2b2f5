/* The lens on a terminal, as JSON, as a page. */
#include <math.h>
#include <string.h>

#include "kernels/utf8.h"
#include "launcher/completion/layers.h"
#include "launcher/jobs/lens.h"
#include "launcher/sample/entropy.h"
#include "launcher/streams.h"
#include "planner/json.h"
#include "planner/new_file.h"

enum { CELL = 9, NAME = 6 }; /* columns of a cell, and of the layer's name before them */

static size_t cell_of(const cdp_lens *lens, int position, int column) {
    return (size_t)position * (size_t)lens->n_layers + (size_t)column;
}

/* Entropy as a share of the most there can be. */
static double unsure(const cdp_lens *lens, size_t at) {
    const double share = cdp_nats_normalised((double)lens->nats[at], lens->run->card->vocab);
    return share > 0 ? share : 0; /* a vocabulary of one is always sure */
}

/* The terminal ------------------------------------------------------------------------------------------- */

/* A token in exactly `width` columns, as far as characters are one column wide: blanks and line ends are
 * shown by signs, because a token's first blank is half of what it says. */
static void put_cell_text(FILE *to, const cdp_lens *lens, int32_t id, int width) {
    size_t n = 0;
    char number[16];
    const char *bytes =
        lens->run->tokenizer != NULL ? cdp_tokenizer_bytes(lens->run->tokenizer, id, &n) : NULL;
    if (bytes == NULL) {
        snprintf(number, sizeof number, "%d", id);
        bytes = number;
        n = strlen(number);
    }
    int used = 0;
    for (size_t i = 0; i < n && used < width; used++) {
        size_t length;
        uint32_t c;
        const cdp_utf8_kind kind = cdp_utf8_next((const unsigned char *)bytes + i, n - i, &length, &c);
        if (c == ' ')
            fputs("\xC2\xB7", to); /* a middle dot */
        else if (c == '\n')
            fputs("\xE2\x86\xB5", to); /* an arrow down and left */
        else if (kind != CDP_UTF8_WHOLE || c < 0x20 || c == 0x7F)
            fputs("\xEF\xBF\xBD", to);
        else
            fwrite(bytes + i, 1, length, to);
        i += length;
    }
    fprintf(to, "%*s", width - used, "");
}

/* From a deep to a pale blue as a layer gets less sure: steps of the 256 colours, with a colour to write on
 * each. */
static void begin_shade(FILE *to, double share) {
    static const struct {
        double below;
        int back, front;
    } shades[] = {{0.02, 18, 231}, {0.08, 25, 231}, {0.18, 31, 231},
                  {0.35, 74, 16},  {0.6, 152, 16},  {INFINITY, 255, 16}};
    int i = 0;
    while (share >= shades[i].below)
        i++;
    fprintf(to, "\033[48;5;%dm\033[38;5;%dm", shades[i].back, shades[i].front);
}

static void put_layer(FILE *to, const cdp_lens *lens, int column, int first, int end, bool has_colours) {
    fprintf(to, "%4d  ", lens->layers[column]);
    for (int t = first; t < end; t++) {
        const size_t at = cell_of(lens, t, column);
        const int percent = (int)(100 * (double)lens->top[at]);
        if (has_colours)
            begin_shade(to, unsure(lens, at));
        put_cell_text(to, lens, lens->argmax[at], CELL - 3);
        fprintf(to, "%2d%s", percent < 99 ? percent : 99, has_colours ? "\033[0m" : "");
        fputs(column == cdp_lens_settled(lens, t) ? "<" : " ", to);
    }
    fputc('\n', to);
}

cdp_status cdp_lens_print(const cdp_lens *lens, FILE *to, int columns, bool has_colours) {
    const int per_line = columns > NAME + CELL ? (columns - NAME) / CELL : 1;
    for (int first = 0; first < lens->n_positions; first += per_line) {
        const int end = first + per_line < lens->n_positions ? first + per_line : lens->n_positions;
        fprintf(to, "%slayer ", first > 0 ? "\n" : "");
        for (int t = first; t < end; t++)
            put_cell_text(to, lens, lens->ids[t], CELL);
        fputc('\n', to);
        for (int column = 0; column < lens->n_layers; column++)
            put_layer(to, lens, column, first, end, has_colours);
    }
    fputs("\neach cell: the token a layer would put next and its probability in percent; <: from here on the "
          "last "
          "layer's\n",
          to);
    return fflush(to) == 0 ? CDP_OK : cdp_stream_failed("the table");
}

/* JSON --------------------------------------------------------------------------------------------------- */

typedef void (*write_cell)(const cdp_lens *lens, FILE *to, size_t at);

static void write_nats(const cdp_lens *lens, FILE *to, size_t at) {
    fprintf(to, "%.7g", (double)lens->nats[at]);
}
static void write_top(const cdp_lens *lens, FILE *to, size_t at) {
    fprintf(to, "%.7g", (double)lens->top[at]);
}
static void write_id(const cdp_lens *lens, FILE *to, size_t at) {
    fprintf(to, "%d", lens->argmax[at]);
}
static void write_token(const cdp_lens *lens, FILE *to, size_t at) {
    cdp_write_token_text(to, lens->run->tokenizer, lens->argmax[at]);
}

/* "NAME": a row a position, a value a layer. */
static void write_table(const cdp_lens *lens, FILE *to, const char *name, write_cell write) {
    fprintf(to, ", \"%s\": [", name);
    for (int t = 0; t < lens->n_positions; t++)
        for (int i = 0; i < lens->n_layers; i++) {
            fputs(i > 0 ? ", " : t > 0 ? "], [" : "[", to);
            write(lens, to, cell_of(lens, t, i));
        }
    fputs("]]", to);
}

void cdp_lens_write_json(const cdp_lens *lens, FILE *to) {
    cdp_write_ids(to, "token_ids", lens->ids, (size_t)lens->n_positions);
    fputs(", \"tokens\": [", to);
    for (int t = 0; t < lens->n_positions; t++) {
        fputs(t > 0 ? ", " : "", to);
        cdp_write_token_text(to, lens->run->tokenizer, lens->ids[t]);
    }
    fprintf(to, "], \"n_prompt\": %d, ", lens->n_prompt);
    cdp_write_ids(to, "layers", lens->layers, (size_t)lens->n_layers);
    fputs(", \"settled_layers\": [", to);
    for (int t = 0; t < lens->n_positions; t++)
        fprintf(to, "%s%d", t > 0 ? ", " : "", lens->layers[cdp_lens_settled(lens, t)]);
    fputs("]", to);
    write_table(lens, to, "layer_entropies", write_nats);
    write_table(lens, to, "layer_probabilities", write_top);
    write_table(lens, to, "all_layer_tokens", write_token);
    write_table(lens, to, "all_layer_token_ids", write_id);
}

/* The page ----------------------------------------------------------------------------------------------- */

static const char page_head[] =
    "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
    "content=\"width=device-width\">\n<title>cdpipe lens</title>\n<style>\n"
    ":root{color-scheme:light "
    "dark;--paper:#fff;--ink:#1b1f24;--faint:#68707a;--line:#d9dee4;--mark:#d9480f}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#14171a;--ink:#e6e9ec;--faint:#99a1ab;--line:#343a41;"
    "--mark:#ffa94d}}\n"
    "body{font:15px/1.5 system-ui,sans-serif;background:var(--paper);color:var(--ink);margin:2rem}\n"
    "h1{font-size:1.3rem;margin:0}p{color:var(--faint);max-width:48rem;margin:.4rem 0 1rem}\n"
    ".frame{overflow:auto;max-height:80vh;border:1px solid var(--line);border-radius:6px}\n"
    "table{border-collapse:separate;border-spacing:0;font:12px/1.3 ui-monospace,monospace}\n"
    "th,td{padding:.25rem .5rem;white-space:pre;text-align:left;border-bottom:1px solid var(--line);"
    "border-right:1px solid var(--line)}\n"
    "th{background:var(--paper);font-weight:600}thead th{position:sticky;top:0;z-index:2}"
    "th:first-child{position:sticky;left:0;z-index:1;text-align:right;color:var(--faint)}"
    "thead th:first-child{z-index:3}\n"
    ".new{color:var(--mark)}td small{opacity:.75;margin-left:.4em}\n"
    "td.settled{box-shadow:inset 0 3px 0 var(--mark)}\n"
    ".key{display:inline-block;width:12rem;height:.8rem;border-radius:3px;vertical-align:middle;margin:0 "
    ".5rem;"
    "background:linear-gradient(90deg,hsl(212 75% 24%),hsl(205 60% 58%),hsl(200 45% 92%))}\n"
    "</style>\n";

/* Text of a page: its signs escaped; what is not a character shows as one sign. */
static void put_escaped(FILE *to, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        switch (bytes[i]) {
        case '<':
            fputs("&lt;", to);
            break;
        case '>':
            fputs("&gt;", to);
            break;
        case '&':
            fputs("&amp;", to);
            break;
        case '"':
            fputs("&quot;", to);
            break;
        case '\n':
            fputs("\xE2\x86\xB5", to);
            break;
        default:
            fputc((unsigned char)bytes[i] < 0x20 ? '?' : bytes[i], to);
        }
}

static void put_token(FILE *to, const cdp_lens *lens, int32_t id) {
    size_t n = 0;
    const char *bytes =
        lens->run->tokenizer != NULL ? cdp_tokenizer_bytes(lens->run->tokenizer, id, &n) : NULL;
    if (bytes == NULL)
        fprintf(to, "%d", id);
    else if (n == 1 && bytes[0] == ' ')
        fputs("\xC2\xB7", to); /* a cell that looks empty says nothing */
    else
        put_escaped(to, bytes, n);
}

/* Deep blue for sure, pale for unsure; the writing stays readable on each. */
static void put_cell(FILE *to, const cdp_lens *lens, int position, int column) {
    const size_t at = cell_of(lens, position, column);
    const double share =
        sqrt(unsure(lens, at) < 1 ? unsure(lens, at) : 1); /* small differences matter most */
    const double light = share < 0.5 ? 24 + 68 * share : 58 + 68 * (share - 0.5);
    fprintf(
        to,
        "<td style=\"background:hsl(%.0f %.0f%% %.0f%%);color:%s\"%s title=\"layer %d: p %.4f, entropy %.4f "
        "nats (%.4f bits)\">",
        212 - 12 * share, 75 - 30 * share, light, light > 52 ? "#101418" : "#fff",
        column == cdp_lens_settled(lens, position) ? " class=\"settled\"" : "", lens->layers[column],
        (double)lens->top[at], (double)lens->nats[at], cdp_nats_to_bits((double)lens->nats[at]));
    put_token(to, lens, lens->argmax[at]);
    fprintf(to, "<small>%.0f</small></td>", 100 * (double)lens->top[at]);
}

static void put_page(FILE *to, const cdp_lens *lens, const char *model) {
    fputs(page_head, to);
    fputs("<h1>What each layer would say next</h1>\n<p>Model ", to);
    put_escaped(to, model, strlen(model));
    fprintf(to,
            ", %d layers. Under each token of the text (<span class=\"new\">coloured</span> where the model "
            "wrote it "
            "itself) stands, layer by layer, the token that layer would put next, with its probability in "
            "percent. "
            "Surer <span class=\"key\"></span> less sure. The bar above a cell marks where the last layer's "
            "choice "
            "is made and stays.</p>\n<div class=\"frame\"><table><thead><tr><th>layer</th>",
            lens->run->card->n_layers);
    for (int t = 0; t < lens->n_positions; t++) {
        fprintf(to, "<th%s>", t >= lens->n_prompt ? " class=\"new\"" : "");
        put_token(to, lens, lens->ids[t]);
        fputs("</th>", to);
    }
    fputs("</tr></thead>\n<tbody>\n", to);
    for (int column = 0; column < lens->n_layers; column++) {
        fprintf(to, "<tr><th>%d</th>", lens->layers[column]);
        for (int t = 0; t < lens->n_positions; t++)
            put_cell(to, lens, t, column);
        fputs("</tr>\n", to);
    }
    fputs("</tbody></table></div>\n</html>\n", to);
}

cdp_status cdp_lens_write_html(const cdp_lens *lens, const char *path, const char *model) {
    cdp_new_file file;
    cdp_status st = cdp_new_file_open(&file, path);
    if (st == CDP_OK) {
        put_page(file.to, lens, model);
        st = cdp_new_file_end(&file, /*is_durable=*/false);
    }
    cdp_new_file_close(&file);
    return st;
}
