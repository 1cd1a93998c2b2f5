/* What bench shows: a table for people, JSON for machines. */
#include <stdio.h>

#include "launcher/jobs/bench.h"
#include "launcher/report.h"

/* How a rank's time went in test k: the difference of two marks, as shares. */
static void shares_of(const cdp_rank_report *report, int k, double shares[3]) {
    const cdp_pipeline_times *a = &report->marks[k], *b = &report->marks[k + 1];
    const double parts[3] = {b->busy_s - a->busy_s, b->wait_s - a->wait_s, b->send_s - a->send_s};
    const double total = parts[0] + parts[1] + parts[2];
    for (int i = 0; i < 3; i++)
        shares[i] = total > 0 ? parts[i] / total : 0;
}

/* Share of all stages' time in which nothing was computed. */
static double bubble_of(const cdp_run *run, int k) {
    double busy = 0, total = 0;
    for (int rank = 0; rank < run->size; rank++) {
        const cdp_pipeline_times *a = &run->reports[rank].marks[k], *b = &run->reports[rank].marks[k + 1];
        busy += b->layers_s - a->layers_s + b->head_s - a->head_s;
        total += b->busy_s - a->busy_s + b->wait_s - a->wait_s + b->send_s - a->send_s;
    }
    return total > 0 && busy < total ? 1 - busy / total : 0;
}

static void print_test_json(const cdp_bench *bench, int k) {
    const cdp_run *run = bench->run;
    const cdp_bench_test *t = &bench->tests[k];
    const cdp_bench_rates rates = cdp_bench_rates_of(bench, t);
    printf("%s{\"test\": \"%s\", \"tokens\": %d, \"prompt_tokens\": %d, \"depth\": %d, \"batch\": %d, "
           "\"tokens_per_s\": {\"median\": %.3f, \"min\": %.3f, \"max\": %.3f}, \"stages\": [",
           k > 0 ? ", " : "", t->name, t->n_prompt + t->n_answer, t->n_prompt, t->depth, t->batch, t->median,
           t->least, t->most);
    for (int rank = 0, n = 0; rank < run->size; rank++) {
        double s[3];
        if (run->plan->stages[rank].is_idle)
            continue;
        shares_of(&run->reports[rank], k, s);
        printf("%s{\"rank\": %d, \"busy\": %.4f, \"wait\": %.4f, \"send\": %.4f}", n++ > 0 ? ", " : "", rank,
               s[0], s[1], s[2]);
    }
    printf("], \"bubble\": %.4f, \"bytes_per_s\": %.0f, \"bandwidth_share\": %.4f, \"flop_per_s\": %.0f, "
           "\"peak_share\": %.4f}",
           bubble_of(run, k), rates.bytes_per_s, rates.of_stream, rates.flop_per_s, rates.of_peak);
}

cdp_status cdp_bench_print_json(const cdp_bench *bench) {
    printf("{\"results\": [");
    for (int k = 0; k < bench->n_tests; k++)
        print_test_json(bench, k);
    printf("], \"bandwidth_bytes_per_s\": %.0f, \"peak_flop_per_s\": %.0f, \"ranks\": %d, \"threads\": %d, ",
           bench->bytes_per_s, bench->flop_per_s, bench->run->size, bench->run->cores.n);
    return cdp_report_print_json(bench->run, "rank_reports"); /* here "ranks" is how many there are */
}

static void print_test(const cdp_bench *bench, int k) {
    const cdp_run *run = bench->run;
    const cdp_bench_test *t = &bench->tests[k];
    const cdp_bench_rates rates = cdp_bench_rates_of(bench, t);
    char tokens[32];
    const bool has_both = t->n_prompt > 0 && t->n_answer > 0;
    snprintf(tokens, sizeof tokens, has_both ? "%d+%d" : "%d",
             has_both || t->n_answer == 0 ? t->n_prompt : t->n_answer, t->n_answer);
    printf("%-4s  %9s  %5d  %5d  %9.1f %9.1f %9.1f  %6.1f  %8.0f%%  %7.0f  %6.0f%%  %5.1f%%  ", t->name,
           tokens, t->depth, t->batch, t->median, t->least, t->most, 1e-9 * rates.bytes_per_s,
           100 * rates.of_stream, 1e-9 * rates.flop_per_s, 100 * rates.of_peak, 100 * bubble_of(run, k));
    for (int rank = 0; rank < run->size; rank++) {
        double s[3] = {0};
        if (!run->plan->stages[rank].is_idle)
            shares_of(&run->reports[rank], k, s);
        printf(" %3.0f%%", 100 * s[0]);
    }
    printf("\n");
}

void cdp_bench_print(const cdp_bench *bench) {
    const cdp_run *run = bench->run;
    const bool is_bf16 =
        run->plan->run.on_gpu || (run->tier == CDP_TIER_AMX && run->plan->run.dtype == CDP_BF16);
    printf(
        "test     tokens  depth  batch   tokens/s     least      most    GB/s  of stream  GFLOP/s  of peak  "
        "bubble  busy by stage\n");
    for (int k = 0; k < bench->n_tests; k++)
        print_test(bench, k);
    printf("rank 0 reads %.1f GB/s and multiplies at %.0f GFLOP/s (%s, %s), %d threads a rank%s\n",
           bench->bytes_per_s * 1e-9, bench->flop_per_s * 1e-9, is_bf16 ? "bf16" : "f32",
           run->plan->run.on_gpu ? "cuda" : cdp_cpu_tier_name(run->tier), run->cores.n,
           run->plan->n_active > 1 ? "; shares are of all ranks' together" : "");
}
