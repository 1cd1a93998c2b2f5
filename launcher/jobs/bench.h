/* launcher/jobs/bench.h - one measurement of bench, and what it moved and computed at least: the figures that
 * stand beside what the device was measured to reach.
 *
 *     pp   |== n_prompt ==|                     one prompt a sequence, to the logits of its last token
 *     tg   |-- depth -----||== n_answer ==|     one token after the other, when all are as deep
 *     pg   |== n_prompt ==||== n_answer ==|     both: early sequences generate while late ones are read
 *
 * bench.c measures, bench_limits.c counts, bench_faces.c shows.
 */
#pragma once

#include "launcher/run.h"

enum { CDP_BENCH_BATCHES = 16, CDP_BENCH_TESTS = 3 * CDP_BENCH_BATCHES };

typedef struct cdp_bench_test {
    const char *name;       /* "pp" | "tg" | "pg" */
    int n_prompt, n_answer; /* tokens of a sequence that are timed */
    int depth;              /* and before them, not timed */
    int batch;
    double median, least, most; /* tokens per second, of all sequences */
    double n_steps;             /* of one run, inside the timed window */
} cdp_bench_test;

typedef struct cdp_bench {
    const cdp_run *run;
    int n_tests;
    cdp_bench_test tests[CDP_BENCH_TESTS];
    double bytes_per_s, flop_per_s; /* what rank 0's device reaches */
} cdp_bench;

/* Bytes that the timed window of one run reads at least: in each step all weights of all layers, in each step
 * with home rows the head's, and the keys and values that each row, or each chunk of a prompt, looks back at.
 */
double cdp_bench_bytes(const cdp_model_card *card, const cdp_run_shape *run, const cdp_bench_test *test);

/* Operations of its products, two for each weight and row: attention is left out. */
double cdp_bench_flop(const cdp_model_card *card, const cdp_run_shape *run, const cdp_bench_test *test);

/* Both as rates of the median run, and as shares of what all active ranks reach together, each taken to be
 * like rank 0. */
typedef struct cdp_bench_rates {
    double bytes_per_s, flop_per_s, of_stream, of_peak;
} cdp_bench_rates;
cdp_bench_rates cdp_bench_rates_of(const cdp_bench *bench, const cdp_bench_test *test);

/* The result: a table for people, or the JSON object (CDP_IO when stdout cannot be written). */
void cdp_bench_print(const cdp_bench *bench);
cdp_status cdp_bench_print_json(const cdp_bench *bench);
