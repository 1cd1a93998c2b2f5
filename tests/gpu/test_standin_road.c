/* The roads between GPUs, on fake ones: the same bits by every road, links that are tested before they are
 * trusted, and peers that are absent, gone or wrong. */
#include "tests/support/spawn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STANDIN CDPIPE_TEST_BIN_DIR "/../standin/cdpipe"
#define WITHOUT_NCCL CDPIPE_TEST_BIN_DIR "/../standin/without_nccl"
#define MODEL "tests/golden/models/llama"

static test_run *model_run(int np, const char *map) {
    test_run *run = test_run_open(60.0);
    test_run_env(run, "STANDIN_GPUS=2G,1G,3G");
    if (np > 1)
        test_run_mpirun(run, np);
    test_run_add(run, STANDIN, "--model", MODEL, "--prompt-ids", "5,6,7,8,9,10,11,12", "--max-new-tokens",
                 "4", "--temperature", "0", "--ignore-eos", "--chunk", "3", "--device", "cuda", NULL);
    if (map != NULL)
        test_run_add(run, "--device-map", map, NULL);
    return run;
}

static void expect(test_run *run, int code, const char *text) {
    test_run_go(run);
    if (run->exit_code != code || run->timed_out || (text != NULL && strstr(run->err, text) == NULL))
        fail_msg(
            "exit code %d (expected %d), signal %d, timed out %d after %.1f s, expected \"%s\"; stdout: %s; "
            "stderr: %s",
            run->exit_code, code, run->signal, run->timed_out, run->elapsed_s, text != NULL ? text : "",
            run->out, run->err);
    if (strstr(run->err, "standin: ") !=
        NULL) /* a fault the stand-in found, such as another rank's GPU touched */
        fail_msg("stderr: %s", run->err);
    assert_int_equal(test_run_left(run), 0);
}

static void expect_within(test_run *run, int code, const char *text, double most_s) {
    expect(run, code, text);
    if (run->elapsed_s > most_s)
        fail_msg("took %.1f s, at most %.1f are fine; stderr: %s", run->elapsed_s, most_s, run->err);
}

/* The sixteen digits after "# logits #". */
static void hash_of(const test_run *run, char *out, size_t out_size) {
    const char *at = strstr(run->err, "# logits #");
    if (at == NULL)
        fail_msg("no logits hash in: %s", run->err);
    snprintf(out, out_size, "%.16s", at + strlen("# logits #"));
}

static void expect_hash(test_run *run, const char *hash) {
    char mine[24];
    hash_of(run, mine, sizeof mine);
    assert_string_equal(mine, hash);
}

/* What one GPU computes, for all the others. */
static const char *hash_of_one(void) {
    static char hash[24];
    if (hash[0] != '\0')
        return hash;
    test_run *run = model_run(1, NULL);
    expect(run, 0, "road local");
    hash_of(run, hash, sizeof hash);
    test_run_close(run);
    return hash;
}

static void every_road_brings_the_same_bits(void **state) {
    (void)state;
    static const struct {
        int np;
        const char *map, *road, *text;
    } cases[] = {
        {2, "2,3", "auto", "road nccl"},   {2, "0,5", "nccl", "road nccl"}, {2, "2,3", "mpi", "road mpi"},
        {3, "1,2,2", "auto", "road nccl"}, {3, "1,2,2", "mpi", "road mpi"}, {3, "1,0,4", "nccl", "road nccl"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_run *run = model_run(cases[i].np, cases[i].map);
        test_run_add(run, "--road", cases[i].road, NULL);
        expect(run, 0, cases[i].text);
        expect_hash(run, hash_of_one());
        test_run_close(run);
    }
}

/* Any legal order of streams, and work that runs as late as it may: what is read too early shows. */
static void late_streams_change_nothing(void **state) {
    (void)state;
    static const char *const settings[][2] = {{"STANDIN_LATE_MS=20", "STANDIN_ORDER=shuffled:7"},
                                              {"STANDIN_LATE_MS=0", "STANDIN_ORDER=descending"}};
    for (size_t i = 0; i < 2; i++) {
        test_run *run = model_run(3, "1,2,2");
        test_run_env(run, settings[i][0]);
        test_run_env(run, settings[i][1]);
        expect(run, 0, "road nccl");
        expect_hash(run, hash_of_one());
        test_run_close(run);
    }
}

/* A link that fails its test is given up by all ranks, for the next road. */
static void roads_that_fail_are_left_by_all(void **state) {
    (void)state;
    static const struct {
        int np;
        const char *map, *fault, *timeout, *text; /* short where it is waited for, long on a busy machine */
    } cases[] = {
        {2, "2,3", "STANDIN_FAULT=1:nccl-send:corrupt:4", "30",
         "# road nccl failed: rank 0: the link from rank 1 to rank 0 changes bytes: byte 384 of test "
         "message 2 (768 bytes) came as 0x"},
        {3, "1,2,2", "STANDIN_FAULT=1:nccl-send:corrupt:2", "30",
         "# road nccl failed: rank 2: the link from rank 1 to rank 2 changes bytes: byte 0 of test message 0 "
         "(1 bytes)"},
        {2, "2,3", "STANDIN_FAULT=0:nccl-init:refused", "30",
         "# road nccl failed: rank 0: NCCL, edge 0 from rank 0 to rank 1: making the communicator: unhandled "
         "system "
         "error: refused on demand"},
        {2, "2,3", "STANDIN_FAULT=1:nccl-init:absent", "4",
         "from rank 0 to rank 1: the communicator did not come up in time"},
        {3, "1,2,2", "STANDIN_FAULT=2:nccl-init:absent:2", "4", " in time"},
        {2, "2,3", "STANDIN_FAULT=0:nccl-send:lost:1", "4", "the first byte did not get through in time"},
        {2, "2,3", "STANDIN_FAULT=0:nccl-send:lost:3", "4", "the test message"},
        {3, "1,2,2", "STANDIN_FAULT=2:nccl-send:gone:6", "30", "the peer closed the connection"},
        {2, "2,3", "STANDIN_FAULT=1:nccl-send:error:2", "30",
         "an error while the ring runs: unhandled system error: an error on demand"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_run *run = model_run(cases[i].np, cases[i].map);
        test_run_env(run, cases[i].fault);
        test_run_add(run, "--step-timeout", cases[i].timeout, NULL);
        expect(run, 0, cases[i].text);
        if (strstr(run->err, "road mpi") == NULL)
            fail_msg("case %zu: not by mpi: %s", i, run->err);
        expect_hash(run, hash_of_one());
        test_run_close(run);
    }
}

/* Who insists on nccl gets its failure, agreed, and no other road. */
static void a_road_that_is_asked_for_is_not_replaced(void **state) {
    (void)state;
    test_run *run = model_run(3, "1,2,2");
    test_run_env(run, "STANDIN_FAULT=1:nccl-send:corrupt:4");
    test_run_add(run, "--road", "nccl", NULL);
    expect(run, 69, "cdpipe: error: rank 2: the link from rank 1 to rank 2 changes bytes");
    test_run_close(run);
    run = model_run(2, "2,3");
    test_run_set(run, "cuda", "cpu");
    test_run_add(run, "--road", "nccl", NULL);
    expect(run, 69, "cdpipe: error: --road nccl: it connects GPUs");
    test_run_close(run);
}

/* By MPI the bytes pass pinned memory; its copies are tested as well. */
static void mpi_is_tested_too(void **state) {
    (void)state;
    test_run *run = model_run(2, "2,3");
    test_run_env(run, "STANDIN_FAULT=1:copy:corrupt:4");
    test_run_add(run, "--road", "mpi", NULL);
    expect(run, 69, "changes bytes");
    test_run_close(run);
}

/* The GPU may still wait for a peer when a communicator cannot be aborted: then there is no next road, and no
 * hang. */
static void an_abort_that_hangs_ends_the_run(void **state) {
    (void)state;
    test_run *run = model_run(2, "2,3");
    test_run_env(run, "STANDIN_FAULT=1:nccl-send:lost:3,0:nccl-abort:hang");
    test_run_env(run, "ASAN_OPTIONS=detect_leaks=0"); /* a device that was given up is left as it is */
    test_run_add(run, "--step-timeout", "2", NULL);
    expect_within(run, 69, "so no other road can be taken", 20);
    test_run_close(run);
}

static void peers_that_go_while_the_ring_runs_are_named(void **state) {
    (void)state;
    test_run *run = model_run(2, "2,3");
    test_run_env(run, "STANDIN_FAULT=1:nccl-send:gone:9"); /* the eight before it are the opening's */
    expect_within(run, 69, "the peer closed the connection", 15);
    test_run_close(run);
    run = model_run(3, "1,2,2");
    test_run_env(run, "CDPIPE_FAULT=1:step:kill9:3");
    test_run_go(run);
    /* NCCL sees a broken connection before anybody sees the death; the death is what is told. */
    const bool is_code = run->exit_code == 137 || run->exit_code == 70;
    if (!is_code || run->timed_out || run->elapsed_s > 15 ||
        strstr(run->err, "cdpipe: error: rank 1 (") == NULL || strstr(run->err, "the peer closed") != NULL)
        fail_msg("exit code %d after %.1f s; stderr: %s", run->exit_code, run->elapsed_s, run->err);
    assert_int_equal(test_run_left(run), 0);
    test_run_close(run);
}

/* NCCL says nothing of a message that never arrives: the rank that waits for it does, whichever edge it is.
 */
static void messages_lost_while_the_ring_runs_are_named(void **state) {
    (void)state;
    static const struct {
        int np;
        const char *map, *fault, *text; /* the eight messages before the lost one are the opening's */
    } cases[] = {
        {2, "2,3", "STANDIN_FAULT=0:nccl-send:lost:10", "cdpipe: error: rank 1 ("},
        {2, "2,3", "STANDIN_FAULT=1:nccl-send:lost:10", "cdpipe: error: rank 0 ("},
        {3, "1,2,2", "STANDIN_FAULT=1:nccl-send:lost:9", "cdpipe: error: rank 2 ("},
    };
    test_run *runs[3];
    for (int i = 0; i < 3; i++) {
        runs[i] = model_run(cases[i].np, cases[i].map);
        test_run_env(runs[i], cases[i].fault);
        test_run_add(runs[i], "--step-timeout", "6", NULL);
        test_run_start(runs[i]);
    }
    test_run_wait_all(runs, 3);
    for (int i = 0; i < 3; i++) {
        if (runs[i]->exit_code != 70 || runs[i]->timed_out || strstr(runs[i]->err, cases[i].text) == NULL ||
            strstr(runs[i]->err, " s and does not arrive: leaving with 70") == NULL)
            fail_msg("%s: exit code %d after %.1f s; stderr: %s", cases[i].fault, runs[i]->exit_code,
                     runs[i]->elapsed_s, runs[i]->err);
        assert_int_equal(test_run_left(runs[i]), 0);
        test_run_close(runs[i]);
    }
}

/* An error inside a kernel ends the process, with everything that tells the card. */
static void dead_contexts_end_the_rank(void **state) {
    (void)state;
    test_run *run = model_run(2, "2,3");
    test_run_env(run, "STANDIN_FAULT=1:launch:sticky:20");
    test_run_go(run);
    if (run->exit_code != 70 || run->timed_out || run->elapsed_s > 15 ||
        strstr(run->err, "cdpipe: error: rank 1 (GPU 1 stand-in GPU, GPU-") == NULL ||
        strstr(run->err, "cudaError") == NULL)
        fail_msg("exit code %d after %.1f s; stderr: %s", run->exit_code, run->elapsed_s, run->err);
    assert_int_equal(test_run_left(run), 0);
    test_run_close(run);
}

static void different_versions_are_told_before_nccl_does(void **state) {
    (void)state;
    test_run *run = test_run_open(60.0);
    test_run_env(run, "STANDIN_GPUS=2G,2G");
    test_run_mpirun(run, 2);
    test_run_add(run, "sh", "-c",
                 "STANDIN_NCCL_VERSION=2280$OMPI_COMM_WORLD_RANK exec " STANDIN " --model " MODEL
                 " --prompt-ids 5,6 --max-new-tokens 2 --device-map 2,3 --road nccl",
                 NULL);
    expect(run, 69, "runs NCCL 2.28.0, rank 1 runs 2.28.1");
    test_run_close(run);
    run = model_run(2, "2,3");
    test_run_env(run, "STANDIN_NCCL_VERSION=21806");
    expect(run, 0, "# road nccl failed: rank 0: NCCL 2.18.6 is here, and cdpipe needs 2.19 or newer");
    test_run_close(run);
    run = model_run(2, "2,3");
    test_run_env(run, "STANDIN_NCCL_VERSION=none");
    expect(run, 0, "ncclGetVersion: libnccl.so.2 is not there");
    assert_non_null(strstr(run->err, "road mpi"));
    test_run_close(run);
    run = model_run(2, "2,3");
    test_run_env(run, "NCCL_COMM_ID=127.0.0.1:4711");
    expect(run, 64, "NCCL_COMM_ID is set");
    test_run_close(run);
}

/* stdout is for text, of an NCCL too that says there what it is when it is asked for warnings. */
static void nccl_says_nothing_on_stdout(void **state) {
    (void)state;
    test_run *run = model_run(2, "2,3");
    test_run_env(run, "STANDIN_NCCL_VERSION=22105");
    expect(run, 0, "road nccl");
    assert_null(strstr(run->out, "NCCL"));
    test_run_close(run);
}

/* Kernels of several communicators that begin in the order of the calls would have the ring wait for itself:
 * who asks NCCL for that order does not get it, with old drivers neither. */
static void launches_have_no_order(void **state) {
    (void)state;
    static const char *const drivers[] = {"STANDIN_DRIVER=12030", "STANDIN_DRIVER=12020"};
    for (int i = 0; i < 2; i++) {
        test_run *run = model_run(3, "1,2,2");
        test_run_env(run, drivers[i]);
        test_run_env(run, "NCCL_LAUNCH_ORDER_IMPLICIT=1");
        expect(run, 0, "# NCCL_LAUNCH_ORDER_IMPLICIT=1 would have the ring wait for itself: it is 0 now");
        assert_non_null(strstr(run->err, "road nccl"));
        expect_hash(run, hash_of_one());
        test_run_close(run);
    }
}

/* Who asks CUDA for one queue would have sends wait behind receives: the stand-in sees it. */
static void queues_are_enough(void **state) {
    (void)state;
    test_run *run = model_run(3, "1,2,2");
    test_run_env(run, "CUDA_DEVICE_MAX_CONNECTIONS=1");
    expect(run, 0, "road nccl");
    expect_hash(run, hash_of_one());
    test_run_close(run);
}

/* A build without NCCL is rank 1, or every rank: the ring takes the next road as one, and says why. */
static test_run *without_nccl(bool is_one, const char *road) {
    test_run *run = test_run_open(60.0);
    test_run_env(run, "STANDIN_GPUS=2G,1G,3G");
    test_run_env(run, is_one ? "MANY=" STANDIN : "MANY=" WITHOUT_NCCL);
    test_run_mpirun(run, 2);
    test_run_add(run, "sh", "-c",
                 "[ $OMPI_COMM_WORLD_RANK = 0 ] || MANY=" WITHOUT_NCCL "; exec $MANY --model " MODEL
                 " --prompt-ids 5,6,7,8,9,10,11,12 --max-new-tokens 4 "
                 "--temperature 0 --ignore-eos --chunk 3 --device cuda --device-map 2,3 --road $0",
                 road, NULL);
    return run;
}

static void builds_without_nccl_take_the_next_road(void **state) {
    (void)state;
    static const char why[] = "NCCL was not there when cdpipe was built";
    for (int is_one = 0; is_one < 2; is_one++) {
        char said[160];
        snprintf(said, sizeof said, "# road nccl: rank %d: %s; hidden states go through host memory by MPI",
                 is_one, why);
        test_run *run = without_nccl(is_one, "auto");
        expect(run, 0, said);
        assert_non_null(strstr(run->err, "road mpi"));
        expect_hash(run, hash_of_one());
        test_run_close(run);
        snprintf(said, sizeof said, "cdpipe: error: --road nccl: rank %d: %s", is_one, why);
        run = without_nccl(is_one, "nccl");
        expect(run, 69, said);
        test_run_close(run);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_road_brings_the_same_bits),
        cmocka_unit_test(late_streams_change_nothing),
        cmocka_unit_test(roads_that_fail_are_left_by_all),
        cmocka_unit_test(a_road_that_is_asked_for_is_not_replaced),
        cmocka_unit_test(mpi_is_tested_too),
        cmocka_unit_test(an_abort_that_hangs_ends_the_run),
        cmocka_unit_test(peers_that_go_while_the_ring_runs_are_named),
        cmocka_unit_test(messages_lost_while_the_ring_runs_are_named),
        cmocka_unit_test(dead_contexts_end_the_rank),
        cmocka_unit_test(different_versions_are_told_before_nccl_does),
        cmocka_unit_test(nccl_says_nothing_on_stdout),
        cmocka_unit_test(launches_have_no_order),
        cmocka_unit_test(queues_are_enough),
        cmocka_unit_test(builds_without_nccl_take_the_next_road),
    };
    return cmocka_run_group_tests_name("road", tests, NULL, NULL);
}
