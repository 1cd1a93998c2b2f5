#include "launcher/jobs/bench.h"

/* Tokens whose keys and values are read for positions [first, end), `chunk` of them at a time: a chunk reads
 * what lies before it once, a window at most. */
static double looked_back(int first, int end, int chunk, int window) {
    double sum = 0;
    for (int at = first; at < end; at += chunk) {
        const int n = chunk < end - at ? chunk : end - at;
        const int seen = at + n;
        sum += window > 0 && seen > window + n - 1 ? window + n - 1 : seen;
    }
    return sum;
}

static double head_elements(const cdp_model_card *card) {
    return (double)card->vocab * card->hidden;
}

/* Rows of one run that go through the head. */
static double head_rows(const cdp_bench_test *test) {
    return (double)test->batch * (test->n_answer + (test->n_prompt > 0 ? 1 : 0));
}

double cdp_bench_bytes(const cdp_model_card *card, const cdp_run_shape *run, const cdp_bench_test *test) {
    const double token = (double)cdp_kv_block_bytes(card, run) / CDP_KV_BLOCK_TOKENS;
    const double n_heads = head_rows(test) < test->n_steps ? head_rows(test) : test->n_steps;
    double sum = n_heads * head_elements(card) * (double)cdp_dtype_bytes(run->dtype);
    for (int i = 0; i < card->n_layers; i++) {
        const int window = card->layers[i].window;
        const int begin = test->depth + test->n_prompt, end = begin + test->n_answer;
        sum += test->n_steps * (double)cdp_layer_weight_bytes(card, run, i);
        sum += test->batch * token *
               (looked_back(test->depth, begin, run->chunk, window) +
                looked_back(begin, end, /*chunk=*/1, window));
    }
    return sum;
}

double cdp_bench_flop(const cdp_model_card *card, const cdp_run_shape *run, const cdp_bench_test *test) {
    const double rows = (double)test->batch * (test->n_prompt + test->n_answer);
    double layers = 0; /* elements; norms and biases among them are a thousandth */
    for (int i = 0; i < card->n_layers; i++)
        layers += (double)cdp_layer_weight_bytes(card, run, i) / (double)cdp_dtype_bytes(run->dtype);
    return 2 * (layers * rows + head_elements(card) * head_rows(test));
}

cdp_bench_rates cdp_bench_rates_of(const cdp_bench *bench, const cdp_bench_test *test) {
    const cdp_plan *plan = bench->run->plan;
    const double n_tokens = (double)test->batch * (test->n_prompt + test->n_answer);
    const double seconds = n_tokens / test->median;
    cdp_bench_rates r = {.bytes_per_s = cdp_bench_bytes(bench->run->card, &plan->run, test) / seconds,
                         .flop_per_s = cdp_bench_flop(bench->run->card, &plan->run, test) / seconds};
    r.of_stream = r.bytes_per_s / (bench->bytes_per_s * plan->n_active);
    r.of_peak = r.flop_per_s / (bench->flop_per_s * plan->n_active);
    return r;
}
