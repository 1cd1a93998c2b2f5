/* --trace: a time line that opens in ui.perfetto.dev: valid JSON, every event with the fields its kind needs,
 * every slice of a track inside the one that was open or behind it, a rank a process, every step on every
 * rank, arrows whose two ends lie in slices of one step, and clocks that agree: a step begins on a rank only
 * after the rank before has begun it. Costs measured by bench are taken by plan and by a run.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "planner/json.h"
#include "tests/support/data.h"
#include "tests/support/golden.h"

static const char model[] = "examples/shakespeare";
enum {
    MAX_SLICES = 8192,
    MAX_ARROWS = 1024,
    MAX_RANKS = 4,
    ABSENT_US = 50000, /* a main thread without a core sees so late what its workers did (times.h) */
};

typedef struct slice {
    int pid, tid, order;
    double from, to;
    int step;
} slice;

static char dir[] = "/tmp/cdpipe-trace-XXXXXX";

static int make_dir(void **state) {
    (void)state;
    return mkdtemp(dir) == NULL;
}
static int remove_dir(void **state) {
    (void)state;
    static const char *const names[] = {"trace.json", "costs.json"};
    char path[64];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir); /* also a failure where a temporary file was left */
}

static const cdp_json_limits limits = {
    .max_bytes = 64 << 20, .max_nodes = 2000000, .max_depth = 20, .fault_code = CDP_BAD_DATA};

static int by_track_and_time(const void *a, const void *b) {
    const slice *x = a, *y = b;
    if (x->pid != y->pid)
        return x->pid - y->pid;
    if (x->tid != y->tid)
        return x->tid - y->tid;
    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    return x->to != y->to ? (x->to > y->to ? -1 : 1) : x->order - y->order; /* the outer one first */
}

/* Times are printed to a nanosecond, so sums may be off by one of the last digit. */
static void check_nesting(slice *slices, int n) {
    double open[16];
    int depth = 0;
    qsort(slices, (size_t)n, sizeof *slices, by_track_and_time);
    for (int i = 0; i < n; i++) {
        const bool is_new =
            i == 0 || slices[i].pid != slices[i - 1].pid || slices[i].tid != slices[i - 1].tid;
        depth = is_new ? 0 : depth;
        while (depth > 0 && open[depth - 1] <= slices[i].from + 2e-3)
            depth--;
        if (depth > 0 && slices[i].to > open[depth - 1] + 2e-3)
            fail_msg("rank %d, track %d, step %d: a slice to %.3f us ends behind the one it lies in, %.3f us",
                     slices[i].pid, slices[i].tid, slices[i].step, slices[i].to, open[depth - 1]);
        assert_true(depth < 16);
        open[depth++] = slices[i].to;
    }
}

static double number(const cJSON *event, const char *name) {
    const cJSON *n = golden_get(event, name);
    if (!cJSON_IsNumber(n))
        fail_msg("an event whose %s is no number", name);
    return n->valuedouble;
}

static const char *text(const cJSON *event, const char *name) {
    const cJSON *t = golden_get(event, name);
    if (!cJSON_IsString(t))
        fail_msg("an event whose %s is no string", name);
    return t->valuestring;
}

static slice read_slice(const cJSON *e, int order) {
    const double from = number(e, "ts"), length = number(e, "dur");
    assert_true(from >= 0 && length > 0);
    slice s = {.pid = (int)number(e, "pid"),
               .tid = (int)number(e, "tid"),
               .order = order,
               .from = from,
               .to = from + length};
    assert_int_equal(sscanf(text(e, "name"), "step %d", &s.step), 1);
    return s;
}

static void check_name(const cJSON *e) {
    const char *name = text(e, "name");
    const cJSON *args = golden_get(e, "args");
    number(e, "pid");
    if (strcmp(name, "thread_name") == 0)
        number(e, "tid");
    if (strcmp(name, "process_sort_index") == 0)
        number(args, "sort_index");
    else
        assert_true(text(args, "name")[0] != '\0' &&
                    (strcmp(name, "thread_name") == 0 || strcmp(name, "process_name") == 0));
}

/* Every event is a slice, an end of an arrow or a name. */
static int read_events(const cJSON *events, slice *out, const cJSON **arrows, int *n_arrows) {
    const cJSON *e;
    int n = 0;
    *n_arrows = 0;
    cJSON_ArrayForEach(e, events) {
        const char *phase = text(e, "ph");
        assert_true(n < MAX_SLICES && *n_arrows < MAX_ARROWS);
        if (strcmp(phase, "X") == 0) {
            out[n] = read_slice(e, n);
            n++;
        } else if (strcmp(phase, "s") == 0 || strcmp(phase, "f") == 0) {
            arrows[(*n_arrows)++] = e;
        } else if (strcmp(phase, "M") == 0) {
            check_name(e);
        } else {
            fail_msg("an event of the kind %s", phase);
        }
    }
    return n;
}

/* The one slice of its track that an arrow's end lies in. */
static const slice *slice_around(const cJSON *end, const slice *slices, int n) {
    const double at = number(end, "ts");
    const int pid = (int)number(end, "pid"), tid = (int)number(end, "tid");
    const slice *found = NULL;
    for (int i = 0; i < n; i++) {
        const slice *s = &slices[i];
        if (s->pid != pid || s->tid != tid || at < s->from || at > s->to - 5e-4) /* `to` is a sum */
            continue;
        assert_null(found);
        found = s;
    }
    if (found == NULL)
        fail_msg("rank %d, track %d: an arrow ends at %.3f us in no slice", pid, tid, at);
    return found;
}

/* Perfetto pairs the ends by category, name and id. An end without "bp" would belong to the next slice. */
static void check_arrows(const cJSON *const *arrows, int n_arrows, const slice *slices, int n) {
    for (int i = 0; i < n_arrows; i++) {
        const cJSON *start = arrows[i], *end = NULL;
        if (strcmp(text(start, "ph"), "s") != 0)
            continue;
        const double id = number(start, "id");
        assert_true(id >= 0 && id == floor(id));
        for (int k = 0; k < n_arrows; k++) {
            if (k == i || number(arrows[k], "id") != id ||
                strcmp(text(arrows[k], "cat"), text(start, "cat")) != 0 ||
                strcmp(text(arrows[k], "name"), text(start, "name")) != 0)
                continue;
            assert_null(end); /* one start and one end an id */
            end = arrows[k];
        }
        if (end == NULL)
            fail_msg("the arrow %.0f has no other end", id);
        assert_string_equal(text(end, "ph"), "f");
        assert_string_equal(text(end, "bp"), "e");
        const slice *from = slice_around(start, slices, n), *to = slice_around(end, slices, n);
        assert_int_equal(from->step, to->step);
        assert_int_equal(from->pid + 1, to->pid);
        assert_true(number(start, "ts") <= number(end, "ts") + ABSENT_US);
    }
}

/* Track 0 of each rank holds its layers, step by step. Steps are there on every rank, and none begins before
 * the rank before has begun it, as far as that was seen. */
static void check_steps(const slice *slices, int n, int np, int n_steps) {
    double *began = calloc((size_t)np * (size_t)n_steps, sizeof *began);
    int n_layers_slices = 0;
    for (int i = 0; i < n; i++) {
        if (slices[i].tid != 0)
            continue;
        assert_in_range(slices[i].step, 0, n_steps - 1);
        began[slices[i].pid * n_steps + slices[i].step] = slices[i].from + 1;
        n_layers_slices++;
    }
    assert_int_equal(n_layers_slices, np * n_steps);
    for (int rank = 1; rank < np; rank++)
        for (int step = 0; step < n_steps; step++)
            if (began[rank * n_steps + step] + ABSENT_US <= began[(rank - 1) * n_steps + step])
                fail_msg("step %d begins on rank %d at %.3f us, on the rank before at %.3f us", step, rank,
                         began[rank * n_steps + step], began[(rank - 1) * n_steps + step]);
    free(began);
}

static void check_trace(int np) {
    static slice slices[MAX_SLICES];
    char path[64], ranks[8];
    snprintf(path, sizeof path, "%s/trace.json", dir);
    snprintf(ranks, sizeof ranks, "%d", np);
    const char *const words[] = {"--model",
                                 test_path(model),
                                 "--prompt-ids",
                                 "1179,37,47,26,199",
                                 "--chunk",
                                 "2",
                                 "--max-new-tokens",
                                 "20",
                                 "--ignore-eos",
                                 "--temperature",
                                 "0",
                                 "--device",
                                 "cpu",
                                 "--threads",
                                 "1",
                                 "--trace",
                                 path,
                                 NULL};
    cJSON *result = golden_run(np, words), *root = NULL;
    assert_int_equal(cJSON_GetArraySize(golden_get(result, "token_ids")), 20);
    assert_int_equal(cdp_json_read(&root, path, &limits), CDP_OK);
    const int n_steps = 3 + 19; /* three chunks of a prompt of five, then a token each */
    static const cJSON *arrows[MAX_ARROWS];
    int n_arrows;
    const int n = read_events(golden_get(root, "traceEvents"), slices, arrows, &n_arrows);
    check_arrows(arrows, n_arrows, slices, n);
    check_nesting(slices, n);
    check_steps(slices, n, np, n_steps);
    assert_int_equal(n_arrows, 2 * (np - 1) * n_steps);
    cJSON_Delete(root);
    cJSON_Delete(result);
}

static void test_trace_of_one(void **state) {
    (void)state;
    check_trace(1);
}
static void test_trace_of_two(void **state) {
    (void)state;
    check_trace(2);
}
static void test_trace_of_three(void **state) {
    (void)state;
    check_trace(3);
}

/* A path that cannot be written is said before the work, by all ranks. */
static void test_trace_refused(void **state) {
    (void)state;
    static const char *const paths[][2] = {
        {"/nowhere/trace.json", "rank 0: /nowhere/trace.json: No such file"},
        {"/", "rank 0: /: not a regular file"},
    };
    for (int i = 0; i < 2; i++) {
        test_run *run = test_run_open(30.0);
        test_run_mpirun(run, 2);
        test_run_add(run, CDPIPE_BIN, "--model", test_path(model), "--prompt-ids", "1", "--device", "cpu",
                     "--threads", "1", "--trace", paths[i][0], NULL);
        test_run_go(run);
        if (run->exit_code != 74 || strstr(run->err, paths[i][1]) == NULL)
            fail_msg("%s: exit %d\n%s", paths[i][0], run->exit_code, run->err);
        test_run_close(run);
    }
}

/* bench measures, plan and a run split by what it measured. */
static void test_costs(void **state) {
    (void)state;
    char path[64], given[256];
    snprintf(path, sizeof path, "%s/costs.json", dir);
    const char *const bench[] = {"bench",
                                 "--model",
                                 test_path(model),
                                 "--device",
                                 "cpu",
                                 "--threads",
                                 "1",
                                 "--pp",
                                 "0",
                                 "--tg",
                                 "8",
                                 "--batch",
                                 "1",
                                 "--repeat",
                                 "1",
                                 "--save-costs",
                                 path,
                                 NULL};
    cJSON_Delete(golden_run(2, bench));
    const char *const with[] = {"--model",
                                test_path(model),
                                "--prompt-ids",
                                "1,2",
                                "--max-new-tokens",
                                "2",
                                "--device",
                                "cpu",
                                "--threads",
                                "1",
                                "--costs",
                                path,
                                NULL};
    cJSON *result = golden_run(2, with);
    const cJSON *stage, *stages = golden_get(golden_get(result, "plan"), "stages");
    cJSON_ArrayForEach(stage, stages) { /* on a busy machine rank 1 may look too slow for any */
        const bool is_idle = cJSON_IsTrue(golden_get(stage, "idle"));
        assert_true(is_idle || golden_get(stage, "step_ms")->valuedouble > 0);
    }
    cJSON_Delete(result);
    /* Rank 1 four times as fast: it takes the more layers, whatever their bytes. */
    FILE *f = fopen(path, "w");
    snprintf(given, sizeof given,
             "{\"layers\": 8, \"vocab_ms\": 2, \"stages\": [{\"rank\": 0, \"layer_ms\": 4}, {\"rank\": 1, "
             "\"layer_ms\": 1}]}");
    fputs(given, f);
    fclose(f);
    result = golden_run(2, with);
    stages = golden_get(golden_get(result, "plan"), "stages");
    assert_int_equal(golden_get(cJSON_GetArrayItem(stages, 0), "end_layer")->valueint, 1); /* 6 ms and 7 ms */
    cJSON_Delete(result);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trace_of_one),   cmocka_unit_test(test_trace_of_two),
        cmocka_unit_test(test_trace_of_three), cmocka_unit_test(test_trace_refused),
        cmocka_unit_test(test_costs),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
