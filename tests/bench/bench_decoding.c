/* What looking at layers costs: tokens a second of Conservative Dynamic, all layers and lazily, and of DoLa,
 * beside plain decoding in the same run.
 *
 *     bench_decoding --model DIR [--threads N ...]    alone, or under mpirun; options are cdpipe's
 *
 * Inside the timed window: from the submission of `batch` greedy sequences of 8 prompt tokens to their 16th
 * new token, engine, transport, head, walk and sampler included. Ways alternate within a round, after one
 * that is not measured; a ratio is that of one round's pair, and its median, least and most are told. stdout:
 * CSV.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm/watchdog.h"
#include "launcher/completion/completion.h"

enum { N_WAYS = 7, N_BATCHES = 2, ROUNDS = 5, MAX_BATCH = 8, N_PROMPT = 8, N_NEW = 16 };

typedef struct way {
    const char *name, *decoding, *window;
    bool is_lazy;
    const char *method; /* NULL: trough */
    double decay;
    cdp_decoding settled;
} way;

static way ways[N_WAYS] = {
    {.name = "plain", .decoding = "standard", .window = "all"},
    {.name = "all layers", .decoding = "conservative-dynamic", .window = "all"},
    {.name = "all layers lazily", .decoding = "conservative-dynamic", .window = "all", .is_lazy = true},
    {.name = "window 10 lazily", .decoding = "conservative-dynamic", .window = "10", .is_lazy = true},
    {.name = "consistency", .decoding = "conservative-dynamic", .window = "all", .method = "consistency"},
    {.name = "consistency with decay",
     .decoding = "conservative-dynamic",
     .window = "all",
     .method = "consistency",
     .decay = 0.8},
    {.name = "dola low", .decoding = "dola", .window = "all"}};
static cdp_options base;

typedef struct sample {
    double wall_s, cpu_s; /* cpu_s: of this process, all threads; what a busy machine leaves comparable */
} sample;

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static cdp_status prepare(cdp_run *run, void *of, int *n_tokens_out) {
    (void)of;
    *n_tokens_out = N_PROMPT + N_NEW;
    for (int i = 0; i < N_WAYS; i++) {
        cdp_options o = base;
        o.tap_window = ways[i].window;
        o.cd_lazy = ways[i].is_lazy;
        o.cd_method = ways[i].method != NULL ? ways[i].method : "trough";
        o.cd_decay = ways[i].decay;
        CDP_TRY(cdp_decoding_settle(&ways[i].settled, ways[i].decoding, &o, run->card));
        run->n_taps = ways[i].settled.n_taps > run->n_taps ? ways[i].settled.n_taps : run->n_taps;
    }
    return CDP_OK;
}

/* One batch from its submission to its last token. */
static cdp_status measure(cdp_run *run, cdp_sampler *sampler, const way *w, int batch, sample *out) {
    static cdp_completion completions[MAX_BATCH];
    int32_t prompts[MAX_BATCH][N_PROMPT];
    cdp_status st = CDP_OK;
    const int64_t began = cdp_now_ns();
    const double cpu_began = cpu_seconds();
    for (int i = 0; i < batch; i++) {
        for (int k = 0; k < N_PROMPT; k++)
            prompts[i][k] =
                (int32_t)(((unsigned)(i * N_PROMPT + k) * 2654435761u) % (unsigned)run->card->vocab);
        const cdp_completion_request request = {.id = "",
                                                .prompt = prompts[i],
                                                .n_prompt = N_PROMPT,
                                                .limit = N_PROMPT + N_NEW,
                                                .sampling = cdp_sampling_default(),
                                                .decoding = &w->settled,
                                                .ignores_eos = true};
        CDP_TRY(cdp_completion_start(&completions[i], run, sampler, &request));
    }
    st = cdp_engine_run(run->engine);
    out->wall_s = (double)(cdp_now_ns() - began) * 1e-9;
    out->cpu_s = cpu_seconds() - cpu_began;
    for (int i = 0; i < batch; i++)
        cdp_completion_close(&completions[i]);
    return st;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median, least and most of the rounds' ratios to plain decoding. */
static void tell_ratio(double *ratios) {
    qsort(ratios, ROUNDS, sizeof *ratios, ascending);
    printf(",%.3f,%.3f,%.3f", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
}

static void tell(const way *w, int batch, const sample *plain, const sample *these) {
    double rates[ROUNDS], wall[ROUNDS], cpu[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        rates[r] = batch * N_NEW / these[r].wall_s;
        wall[r] = these[r].wall_s / plain[r].wall_s;
        cpu[r] = these[r].cpu_s / plain[r].cpu_s;
    }
    qsort(rates, ROUNDS, sizeof *rates, ascending);
    printf("%d,%s,%.1f", batch, w->name, rates[ROUNDS / 2]);
    tell_ratio(wall);
    tell_ratio(cpu);
    printf("\n");
    fflush(stdout);
}

static cdp_status work(cdp_run *run, void *of) {
    static const int batches[N_BATCHES] = {1, MAX_BATCH};
    cdp_sampler *sampler;
    (void)of;
    CDP_TRY(cdp_sampler_open(&sampler, run->card->vocab));
    printf("batch,way,tokens_per_s,wall_ratio,least,most,cpu_ratio,least,most\n");
    for (int b = 0; b < N_BATCHES; b++) {
        sample samples[N_WAYS][ROUNDS], unmeasured;
        for (int i = 0; i < N_WAYS; i++)
            CDP_TRY(measure(run, sampler, &ways[i], batches[b], &unmeasured));
        for (int r = 0; r < ROUNDS; r++)
            for (int k = 0; k < N_WAYS; k++) { /* another one first in each round */
                const int i = (k + r) % N_WAYS;
                CDP_TRY(measure(run, sampler, &ways[i], batches[b], &samples[i][r]));
            }
        for (int i = 0; i < N_WAYS; i++)
            tell(&ways[i], batches[b], samples[0], samples[i]);
    }
    cdp_sampler_close(sampler);
    return CDP_OK;
}

static void leave(int exit_code) {
    _Exit(exit_code);
}

int main(int argc, char **argv) {
    cdp_world *world = NULL;
    static cdp_run run;
    const cdp_watchdog_options watch = {.limit_s = 60, .leave = leave};
    const cdp_job_spec spec = {.prepare = prepare, .work = work, .max_batch = MAX_BATCH};
    cdp_status st = cdp_options_parse(&base, argc, argv);
    if (st == CDP_OK)
        st = cdp_world_open(&world);
    if (st == CDP_OK)
        st = cdp_watchdog_start(world, &watch);
    if (st == CDP_OK)
        st = cdp_run_job(&run, &base, world, &spec);
    if (st != CDP_OK)
        fprintf(stderr, "bench_decoding: %s\n", cdp_error_message());
    if (run.is_alone)
        _Exit(1);
    cdp_run_close(&run);
    cdp_watchdog_stop(world);
    cdp_world_close(world);
    return st == CDP_OK ? 0 : 1;
}
