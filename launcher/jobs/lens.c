/* lens: every layer's opinion at every position of a text, or of its greedy continuation. */
#include "launcher/jobs/lens.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kernels/log.h"
#include "launcher/completion/completion.h"
#include "launcher/completion/prompt.h"
#include "launcher/jobs/jobs.h"
#include "launcher/report.h"
#include "launcher/sample/entropy.h"
#include "launcher/sample/logits_hash.h"
#include "planner/json.h"

enum { PLAIN_COLUMNS = 100, NO_COLUMN = -1 };

typedef struct lens_job {
    const cdp_options *options;
    cdp_prompt prompt;
    cdp_lens lens;
    int limit;
    int32_t *ids; /* (limit) the text and its continuation */
    int *layers;  /* (n_layers) */
    int *column;  /* (model's layers) of a layer, or NO_COLUMN */
    cdp_tap_set taps;
    bool has_ended; /* at an eos */
    cdp_job_figures figures;
} lens_job;

/* Layers to columns; the last one is always there. */
static cdp_status settle_layers(lens_job *job, cdp_run *run) {
    cdp_tap_set layers;
    const int n = run->card->n_layers;
    CDP_TRY(cdp_layers_parse(&layers, job->options->layers, n));
    cdp_taps_add(&layers, n - 1);
    job->layers = calloc((size_t)n, sizeof *job->layers);
    job->column = calloc((size_t)n, sizeof *job->column);
    if (job->layers == NULL || job->column == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d layers", n);
    for (int layer = 0; layer < n; layer++) {
        job->column[layer] = NO_COLUMN;
        if (!cdp_taps_has(&layers, layer))
            continue;
        job->column[layer] = job->lens.n_layers;
        job->layers[job->lens.n_layers++] = layer;
        if (layer < n - 1)
            cdp_taps_add(&job->taps, layer + 1);
    }
    run->n_taps = job->lens.n_layers - 1;
    return CDP_OK;
}

static cdp_status take_room(lens_job *job) {
    const size_t cells = (size_t)job->limit * (size_t)job->lens.n_layers;
    job->ids = calloc((size_t)job->limit + 1, sizeof *job->ids);
    job->lens.argmax = calloc(cells, sizeof *job->lens.argmax);
    job->lens.top = calloc(cells, sizeof *job->lens.top);
    job->lens.nats = calloc(cells, sizeof *job->lens.nats);
    if (job->ids == NULL || job->lens.argmax == NULL || job->lens.top == NULL || job->lens.nats == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d positions of %d layers", job->limit,
                        job->lens.n_layers);
    memcpy(job->ids, job->prompt.ids, job->prompt.n_ids * sizeof *job->ids);
    return CDP_OK;
}

static cdp_status prepare(cdp_run *run, void *of, int *n_tokens_out) {
    lens_job *job = of;
    const cdp_options *o = job->options;
    /* A lens looks at the text as it is; a continuation is asked for by its length. */
    const int n_new = cdp_options_origin(o, "max-new-tokens") == CDP_FROM_DEFAULT ? 0 : o->max_new_tokens;
    CDP_TRY(cdp_prompt_read(&job->prompt, o, run->world));
    CDP_TRY(cdp_prompt_encode(&job->prompt, o, run->tokenizer, run->card));
    CDP_TRY(settle_layers(job, run));
    CDP_TRY(cdp_completion_limit(&job->limit, job->prompt.n_ids, n_new, o->ctx));
    *n_tokens_out = job->limit;
    return take_room(job);
}

static cdp_status on_state(void *of, const cdp_row *row, int state, const float *logits, const float *hidden,
                           int *ask_out) {
    lens_job *job = of;
    cdp_lens *lens = &job->lens;
    const int vocab = lens->run->card->vocab;
    const cdp_certainty c = cdp_certainty_of(logits, vocab);
    const size_t at = (size_t)row->position * (size_t)lens->n_layers + (size_t)job->column[state - 1];
    (void)hidden, (void)ask_out;
    if (c.argmax < 0)
        return cdp_fail(CDP_BAD_DATA, "non-finite logits at position %d, layer %d", row->position, state - 1);
    lens->argmax[at] = c.argmax;
    lens->top[at] = (float)c.top;
    lens->nats[at] = (float)c.nats;
    if (state == lens->run->card->n_layers)
        job->figures.logits_hash =
            cdp_logits_hash_add(job->figures.logits_hash, cdp_logits_row_hash(logits, vocab));
    return CDP_OK;
}

static bool is_eos(const cdp_model_card *card, int32_t token) {
    bool found = false;
    for (int i = 0; i < card->n_eos; i++)
        found |= card->eos[i] == token;
    return found;
}

/* All layers of a row have been seen; behind the text the likeliest token goes on. */
static cdp_status on_logits(void *of, const cdp_row *row, const float *logits, int32_t *next_out) {
    lens_job *job = of;
    cdp_lens *lens = &job->lens;
    (void)logits;
    const int n = row->position + 1;
    lens->n_positions = n > lens->n_positions ? n : lens->n_positions;
    if (n < lens->n_prompt || n >= job->limit)
        return CDP_OK;
    const int32_t token = lens->argmax[(size_t)n * (size_t)lens->n_layers - 1];
    if (is_eos(lens->run->card, token))
        return CDP_OK;
    *next_out = job->ids[n] = token;
    return CDP_OK;
}

static cdp_status work(cdp_run *run, void *of) {
    lens_job *job = of;
    job->lens.run = run;
    job->lens.ids = job->ids;
    job->lens.layers = job->layers;
    job->lens.n_prompt = (int)job->prompt.n_ids;
    job->figures.logits_hash = CDP_LOGITS_HASH_START;
    const int64_t began = cdp_now_ns();
    const cdp_request request = {.prompt = job->prompt.ids,
                                 .n_prompt = job->lens.n_prompt,
                                 .limit = job->limit,
                                 .wants_all = true,
                                 .taps = &job->taps,
                                 .on_state = on_state,
                                 .on_logits = on_logits,
                                 .of = job};
    CDP_TRY(cdp_engine_submit(run->engine, &request));
    CDP_TRY(cdp_engine_run(run->engine));
    job->figures.n_prompt = job->lens.n_positions;
    job->figures.first_token_s = (double)(cdp_now_ns() - began) * 1e-9;
    return CDP_OK;
}

int cdp_lens_settled(const cdp_lens *lens, int position) {
    const int32_t *row = lens->argmax + (size_t)position * (size_t)lens->n_layers;
    int column = lens->n_layers - 1;
    while (column > 0 && row[column - 1] == row[lens->n_layers - 1])
        column--;
    return column;
}

/* Under mpirun every rank believes to be on a terminal: only our own start knows (self_start.c). */
static bool is_terminal(void) {
    const char *told = getenv("CDPIPE_TERMINAL_OUT");
    return told != NULL ? strcmp(told, "1") == 0 : !cdp_world_has_launcher() && isatty(STDOUT_FILENO);
}

static bool has_colours(const cdp_options *o) {
    const char *no = getenv("NO_COLOR");
    if (strcmp(o->color, "auto") != 0)
        return strcmp(o->color, "always") == 0;
    return is_terminal() && (no == NULL || *no == '\0');
}

static int columns_of_terminal(void) {
    struct winsize size;
    const char *told = getenv("COLUMNS");
    const int n = told != NULL ? atoi(told) : 0;
    if (n > 0)
        return n;
    return is_terminal() && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                                            : PLAIN_COLUMNS;
}

static cdp_status print_json(const cdp_run *run, const lens_job *job) {
    printf("{\"model\": ");
    cdp_json_write_quoted(stdout, job->options->model, strlen(job->options->model));
    printf(", ");
    cdp_lens_write_json(&job->lens, stdout);
    printf(", \"logits_hash\": \"%016" PRIx64 "\", \"timing\": {\"load_s\": %.6f, \"tokens_per_s\": %.3f}, ",
           job->figures.logits_hash, run->load_s, cdp_prompt_rate(&job->figures));
    return cdp_report_print_json(run, "ranks");
}

static cdp_status show(const cdp_run *run, const lens_job *job) {
    if (job->options->html != NULL)
        CDP_TRY(cdp_lens_write_html(&job->lens, job->options->html, job->options->model));
    if (job->options->json)
        return print_json(run, job);
    return cdp_lens_print(&job->lens, stdout, columns_of_terminal(), has_colours(job->options));
}

cdp_status cdp_job_lens(cdp_run *run, cdp_options *options, cdp_world *world) {
    lens_job job = {.options = options};
    const cdp_job_spec spec = {.prepare = prepare, .work = work, .of = &job, .opens_tokenizer = true};
    cdp_status st = cdp_run_job(run, options, world, &spec);
    if (run->rank == 0 && st == CDP_OK) {
        st = show(run, &job);
        cdp_report_end(run, &job.figures);
    }
    free(job.lens.nats);
    free(job.lens.top);
    free(job.lens.argmax);
    free(job.column);
    free(job.layers);
    free(job.ids);
    cdp_prompt_close(&job.prompt);
    return st;
}
