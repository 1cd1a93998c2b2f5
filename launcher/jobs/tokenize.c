/* tokenize: text to ids and back, for people and for scripts. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/completion/prompt.h"
#include "launcher/jobs/jobs.h"
#include "launcher/text/buffer.h"
#include "planner/json.h"

static const cdp_json_limits line_limits = {16 << 20, 4 << 20, 8, true, CDP_BAD_DATA};

static void print_text(const char *key, const char *text, size_t n) {
    printf("\"%s\": ", key);
    cdp_json_write_quoted(stdout, text, n);
}

static void print_ids(const int32_t *ids, size_t n) {
    printf("\"ids\": [");
    for (size_t i = 0; i < n; i++)
        printf("%s%d", i > 0 ? ", " : "", ids[i]);
    printf("]");
}

static cdp_status encode(const cdp_tokenizer *tokenizer, const cdp_options *o, const char *text, size_t n,
                         bool as_json, bool with_pieces) {
    int32_t *ids = NULL;
    size_t n_ids = 0;
    CDP_TRY(cdp_tokenizer_encode(tokenizer, text, n, !o->no_special, &ids, &n_ids));
    if (as_json) {
        printf("{");
        print_ids(ids, n_ids);
        for (size_t i = 0; with_pieces && i < n_ids; i++) {
            size_t n_piece = 0;
            const char *piece = cdp_tokenizer_bytes(tokenizer, ids[i], &n_piece);
            fputs(i == 0 ? ", \"pieces\": [" : ", ", stdout);
            cdp_json_write_quoted(stdout, piece != NULL ? piece : "", n_piece);
        }
        printf("%s}\n", !with_pieces ? "" : n_ids == 0 ? ", \"pieces\": []" : "]");
    } else {
        for (size_t i = 0; i < n_ids; i++)
            printf("%s%d", i > 0 ? "," : "", ids[i]);
        printf("\n");
    }
    free(ids);
    return CDP_OK;
}

static cdp_status decode(const cdp_tokenizer *tokenizer, const cdp_options *o, const int32_t *ids,
                         size_t n_ids, bool as_json) {
    char *text = NULL;
    size_t n = 0;
    CDP_TRY(cdp_tokenizer_decode(tokenizer, ids, n_ids, o->skip_special, &text, &n));
    if (as_json) {
        printf("{");
        print_text("text", text, n);
        printf("}\n");
    } else {
        fwrite(text, 1, n, stdout);
        printf("\n");
    }
    free(text);
    return CDP_OK;
}

/* One line of --json-lines: a string to encode, or an array of ids to decode. */
static cdp_status one_line(const cdp_tokenizer *tokenizer, const cdp_options *o, const cJSON *value,
                           int number) {
    if (!o->decode) {
        if (!cJSON_IsString(value))
            return cdp_fail(CDP_BAD_DATA, "line %d: expected a JSON string", number);
        return encode(tokenizer, o, value->valuestring, strlen(value->valuestring), true, false);
    }
    if (!cJSON_IsArray(value))
        return cdp_fail(CDP_BAD_DATA, "line %d: expected an array of ids", number);
    int32_t *ids = calloc((size_t)cJSON_GetArraySize(value) + 1, sizeof *ids);
    size_t n = 0;
    const cJSON *item;
    if (ids == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the ids");
    cdp_status st = CDP_OK;
    cJSON_ArrayForEach(item, value) {
        if (!cJSON_IsNumber(item) || item->valuedouble < 0 ||
            item->valuedouble >= cdp_tokenizer_size(tokenizer) ||
            item->valuedouble != (double)(int32_t)item->valuedouble)
            st = cdp_fail(CDP_BAD_DATA, "line %d: entry %zu is no id of this tokenizer", number, n + 1);
        else
            ids[n++] = (int32_t)item->valuedouble;
    }
    if (st == CDP_OK)
        st = decode(tokenizer, o, ids, n, true);
    free(ids);
    return st;
}

/* The next line of standard input without its end; false when there is none. Of a line that is too long only
 * its length is right. */
static bool next_line(cdp_bytes *line, size_t *n_out) {
    int c;
    line->n = *n_out = 0;
    while ((c = getc_unlocked(stdin)) != EOF && c != '\n')
        if (++*n_out <= line_limits.max_bytes)
            cdp_bytes_add(line, &(char){(char)c}, 1);
    return c != EOF || *n_out > 0;
}

static bool is_blank(const cdp_bytes *line) {
    return line->n == 0 || strspn(line->data, " \t\r") == line->n;
}

static cdp_status answer_line(const cdp_tokenizer *tokenizer, const cdp_options *o, const cdp_bytes *line,
                              size_t n, int number) {
    char name[32];
    cJSON *value = NULL;
    const size_t n_mark = number == 1 && n >= 3 && memcmp(line->data, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    snprintf(name, sizeof name, "line %d", number);
    if (n > line_limits.max_bytes)
        return cdp_fail(CDP_BAD_DATA, "%s: %zu bytes, at most %zu are read", name, n, line_limits.max_bytes);
    CDP_TRY(cdp_json_parse(&value, name, line->data + n_mark, n - n_mark, &line_limits));
    const cdp_status st = one_line(tokenizer, o, value, number);
    cJSON_Delete(value);
    return st;
}

/* Blank lines have no answer. Each answer leaves at once: the other end of a pipe may wait for it. */
static cdp_status all_lines(const cdp_tokenizer *tokenizer, const cdp_options *o) {
    cdp_bytes line = {0};
    size_t n;
    cdp_status st = CDP_OK;
    for (int number = 1; st == CDP_OK && next_line(&line, &n); number++) {
        if (is_blank(&line))
            continue;
        st = line.is_failed ? cdp_fail(CDP_SYSTEM, "line %d: no memory for %zu bytes", number, n)
                            : answer_line(tokenizer, o, &line, n, number);
        if (st == CDP_BAD_DATA) { /* the fault of that line alone */
            printf("{");
            print_text("error", cdp_error_message(), strlen(cdp_error_message()));
            printf("}\n");
            cdp_error_clear();
            st = CDP_OK;
        }
        if (st == CDP_OK && fflush(stdout) != 0)
            st = cdp_fail(CDP_IO, "writing an answer: %s", strerror(errno));
    }
    if (st == CDP_OK && ferror(stdin))
        st = cdp_fail(CDP_NO_INPUT, "standard input: %s", strerror(errno));
    free(line.data);
    return st;
}

static cdp_status run(const cdp_tokenizer *tokenizer, const cdp_options *o) {
    if (o->json_lines)
        return all_lines(tokenizer, o);
    cdp_prompt prompt;
    cdp_status st = cdp_prompt_read(&prompt, o, NULL);
    if (st == CDP_OK && o->prompt_ids != NULL) {
        const cdp_model_card any = {.vocab = cdp_tokenizer_size(tokenizer), .bos = -1};
        st = cdp_prompt_encode(&prompt, o, tokenizer, &any);
        if (st == CDP_OK)
            st = decode(tokenizer, o, prompt.ids, prompt.n_ids, o->json);
    } else if (st == CDP_OK) {
        st = o->decode ? cdp_fail(CDP_USAGE, "--decode needs --prompt-ids")
                       : encode(tokenizer, o, prompt.text, prompt.n_text, o->json, true);
    }
    cdp_prompt_close(&prompt);
    return st;
}

cdp_status cdp_job_tokenize(const cdp_options *options) {
    cdp_tokenizer *tokenizer = NULL;
    CDP_TRY(cdp_tokenizer_open(&tokenizer, options->model));
    cdp_status st = run(tokenizer, options);
    cdp_tokenizer_close(tokenizer);
    if (st == CDP_OK && fflush(stdout) != 0)
        st = cdp_fail(CDP_IO, "writing the result: %s", strerror(errno));
    return st;
}
