/* The stand-in catches what it is there for: kernels and streams with one fault each (tests/standin/wrong.h).
 *
 * A fault that ends the process (an access out of bounds, a host that follows a device pointer) is planted in
 * a process of its own: this program with the fault's name.
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/gpu/orders.h"
#include "tests/standin/wrong.h"
#include "tests/support/spawn.h"

#define GOOD(call) assert_int_equal(call, cudaSuccess)

enum { N = WRONG_THREADS, BYTES = N * 4 };
static float x[N], out[N];
static float *device_x, *device_out;

static int open_memory(void **state) {
    (void)state;
    for (int i = 0; i < N; i++)
        x[i] = (float)(i % 7);
    GOOD(cudaMalloc((void **)&device_x, BYTES));
    GOOD(cudaMalloc((void **)&device_out, BYTES));
    GOOD(cudaMemcpy(device_x, x, BYTES, cudaMemcpyHostToDevice));
    return 0;
}

static int close_memory(void **state) {
    (void)state;
    standin_recover();
    cudaFree(device_x);
    cudaFree(device_out);
    return 0;
}

/* What is in `out` after everything ran; zeros when the context died. */
static cudaError_t fetch(void) {
    memset(out, 0, sizeof out);
    const cudaError_t code = cudaDeviceSynchronize();
    return code != cudaSuccess ? code : cudaMemcpy(out, device_out, BYTES, cudaMemcpyDeviceToHost);
}

/* The kernel before dies with a line that holds `text`; the context stays dead until it is made anew. */
static void assert_caught(cdp_status launched, const char *text) {
    assert_int_equal(launched, CDP_OK);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    if (strstr(standin_last_fault(), text) == NULL)
        fail_msg("the fault found is \"%s\", expected \"%s\"", standin_last_fault(), text);
    assert_int_equal(right_copy(device_out, device_x, NULL), CDP_INTERNAL);
    cdp_error_clear();
    standin_recover();
    assert_int_equal(right_copy(device_out, device_x, NULL), CDP_OK);
    GOOD(fetch());
    assert_memory_equal(out, x, BYTES);
}

static bool is_right_sum(void) {
    float sum = 0;
    for (int i = 0; i < N; i++)
        sum += x[i];
    for (int i = 0; i < N; i++)
        if (!(fabsf(out[i] - sum) < 1e-3f))
            return false;
    return true;
}

static void test_missing_barrier(void **state) {
    (void)state;
    for (int order = 0; order < test_n_orders(); order++) {
        test_set_order(order);
        assert_int_equal(wrong_no_barrier(device_out, device_x), CDP_OK);
        GOOD(fetch());
        assert_false(is_right_sum());
    }
    test_set_order(0);
}

static void test_wrong_mask(void **state) {
    (void)state;
    assert_caught(wrong_mask_left(device_out, device_x), "threads wait for others that never come");
    assert_non_null(strstr(standin_last_fault(), "tests/standin/wrong.cu"));
    test_set_order(1); /* the other half is gone before */
    assert_caught(wrong_mask_left(device_out, device_x), "are named but have left the kernel");
    test_set_order(0);
    assert_caught(wrong_mask_elsewhere(device_out, device_x), "threads wait for others that never come");
    assert_caught(wrong_mask_two_lines(device_out, device_x), "wait elsewhere or with another mask");
    assert_caught(wrong_source(device_out, device_x), "read from a lane that is not named");
    assert_caught(wrong_two_barriers(device_out, device_x), "is at this barrier");
    assert_caught(wrong_part_short(device_out, device_x), "threads wait for others that never come");
    assert_caught(wrong_part_two_sizes(device_out, device_x), "is at this barrier, 0001");
}

static void test_unwaited_copy(void **state) {
    (void)state;
    for (int is_committed = 0; is_committed < 2; is_committed++) {
        assert_int_equal(wrong_unwaited_copy(device_out, device_x, is_committed), CDP_OK);
        GOOD(fetch());
        for (int i = 0; i < 4; i++)
            assert_true(isnan(out[i]));
    }
}

static void test_unwritten_shared(void **state) {
    (void)state;
    assert_int_equal(wrong_unwritten(device_out), CDP_OK);
    GOOD(fetch());
    assert_true(isnan(out[0]));
    assert_true(out[1] == 0.0f);
}

static void test_alignment(void **state) {
    (void)state;
    assert_caught(wrong_alignment(device_out, device_x), "is no multiple of 16");
}

static void test_race_of_blocks(void **state) {
    (void)state;
    float first = -1;
    bool is_seen = false;
    for (int order = 0; order < test_n_orders(); order++) {
        test_set_order(order);
        assert_int_equal(wrong_race_of_blocks(device_out, 8), CDP_OK);
        GOOD(fetch());
        first = order == 0 ? out[0] : first;
        is_seen = is_seen || out[0] != first;
    }
    test_set_order(0);
    assert_true(is_seen);
}

static void test_overlap(void **state) {
    (void)state;
    assert_caught(wrong_overlap(device_out, device_x), "no thread calls ptx_wait_previous");
}

static void test_launch(void **state) {
    (void)state;
    assert_int_equal(wrong_launch(device_out, 1025, 0), CDP_INTERNAL);
    assert_int_equal(wrong_launch(device_out, 32, 228 * 1024), CDP_INTERNAL);
    assert_int_equal(wrong_launch(device_out, 0, 0), CDP_INTERNAL);
    cdp_error_clear();
    assert_int_equal(wrong_launch(device_out, 1024, 227 * 1024), CDP_OK);
    GOOD(fetch());
}

/* The results of a stream are read before anything says that they are there, by the host and by another
 * stream. */
static void test_early_stream_read(void **state) {
    (void)state;
    standin_set_late_ms(1000000);
    cudaStream_t one = NULL, two = NULL;
    cudaEvent_t event = NULL;
    float *device_end = NULL;
    GOOD(cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking));
    GOOD(cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking));
    GOOD(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    GOOD(cudaMalloc((void **)&device_end, BYTES));
    float *const back = malloc(BYTES);
    for (int has_event = 0; has_event < 2; has_event++) {
        memset(back, 0, BYTES);
        GOOD(cudaMemset(device_out, 0, BYTES));
        GOOD(cudaDeviceSynchronize());
        assert_int_equal(right_copy(device_out, device_x, one), CDP_OK);
        if (has_event) {
            GOOD(cudaEventRecord(event, one));
            GOOD(cudaStreamWaitEvent(two, event, 0));
        }
        assert_int_equal(right_copy(device_end, device_out, two), CDP_OK);
        GOOD(cudaMemcpyAsync(back, device_end, BYTES, cudaMemcpyDeviceToHost, two));
        assert_true(isnan(back[0])); /* the host, too early */
        GOOD(cudaStreamSynchronize(two));
        assert_int_equal(memcmp(back, x, BYTES) == 0, has_event);
    }
    free(back);
    GOOD(cudaDeviceSynchronize());
    GOOD(cudaEventDestroy(event));
    GOOD(cudaStreamDestroy(one));
    GOOD(cudaStreamDestroy(two));
    GOOD(cudaFree(device_end));
    standin_set_late_ms(1);
}

/* A capture that is used wrongly: calls that synchronise, a branch that does not come back. */
static void test_capture(void **state) {
    (void)state;
    cudaStream_t one = NULL, two = NULL;
    cudaEvent_t event = NULL;
    cudaGraph_t graph = NULL;
    void *memory = NULL;
    GOOD(cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking));
    GOOD(cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking));
    GOOD(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    GOOD(cudaStreamBeginCapture(one, cudaStreamCaptureModeGlobal));
    assert_int_equal(cudaMalloc(&memory, 16), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(one, &graph), cudaErrorStreamCaptureInvalidated);
    GOOD(cudaStreamBeginCapture(one, cudaStreamCaptureModeGlobal));
    GOOD(cudaEventRecord(event, one));
    GOOD(cudaStreamWaitEvent(two, event, 0));
    assert_int_equal(right_copy(device_out, device_x, two), CDP_OK);
    assert_int_equal(cudaStreamEndCapture(one, &graph), cudaErrorStreamCaptureUnjoined);
    GOOD(cudaEventDestroy(event));
    GOOD(cudaStreamDestroy(one));
    GOOD(cudaStreamDestroy(two));
}

/* A process of its own: for faults that end it, by a signal or by the address sanitizer, and for settings
 * that are read once. Whether it noticed the fault. */
static bool notices(const char *fault, const char *setting) {
    char self[512];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    test_run *run = test_run_open(60);
    test_run_add(run, self, fault, NULL);
    test_run_env(run, setting);
    test_run_go(run);
    const bool is_noticed = run->exit_code != 0;
    test_run_close(run);
    return is_noticed;
}

static void assert_ends(const char *fault) {
    if (!notices(fault, "STANDIN_GPUS=1G,1G"))
        fail_msg("%s went unnoticed", fault);
}

/* A kernel that forgets to wait is a fault where it may begin early, and only there. */
static void test_early_launch(void **state) {
    (void)state;
    static const char *const plain[] = {"STANDIN_PTX=80", "STANDIN_DRIVER=12020", "STANDIN_GPUS=1G@8.6"};
    assert_true(notices("overlap", "STANDIN_GPUS=1G@9.0"));
    assert_true(notices("overlap", "STANDIN_GPUS=1G@10.0"));
    assert_true(notices("overlap", "STANDIN_DRIVER=12030"));
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (notices("overlap", plain[i]))
            fail_msg("%s: launched to overlap", plain[i]);
}

static void test_out_of_bounds(void **state) {
    (void)state;
    assert_ends("off-by-one");
    assert_ends("host-reads-device");
    assert_ends("other-gpu");
#ifdef __SANITIZE_ADDRESS__
    assert_ends("beyond-static");
    assert_ends("beyond-dynamic");
#endif
}

/* A thread that does not say which GPU, in a process that uses another than the first. */
static void *allocate_anywhere(void *argument) {
    cudaError_t *code = argument;
    void *memory = NULL;
    *code = cudaMalloc(&memory, BYTES);
    return NULL;
}

static cudaError_t touch_other_gpu(void) {
    cudaError_t code = cudaSetDevice(1);
    pthread_t thread;
    assert_int_equal(code, cudaSuccess);
    assert_int_equal(pthread_create(&thread, NULL, allocate_anywhere, &code), 0);
    pthread_join(thread, NULL);
    return code;
}

/* 0 only when nothing was noticed. */
static int plant(const char *fault) {
    open_memory(NULL);
    cdp_status st = CDP_OK;
    if (strcmp(fault, "off-by-one") == 0)
        st = wrong_off_by_one(device_out, device_x, N);
    else if (strcmp(fault, "beyond-static") == 0)
        st = wrong_beyond_shared(device_out, device_x, N + 1, false);
    else if (strcmp(fault, "beyond-dynamic") == 0)
        st = wrong_beyond_shared(device_out, device_x, N + 1, true);
    else if (strcmp(fault, "other-gpu") == 0)
        return (int)touch_other_gpu();
    else if (strcmp(fault, "overlap") == 0)
        st = wrong_overlap(device_out, device_x);
    const cudaError_t code = cudaDeviceSynchronize();
    if (strcmp(fault, "host-reads-device") == 0)
        printf("%g\n", (double)*(volatile float *)device_x);
    return st != CDP_OK ? (int)st : (int)code;
}

int main(int argc, char **argv) {
    if (argc > 1)
        return plant(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_barrier),   cmocka_unit_test(test_wrong_mask),
        cmocka_unit_test(test_unwaited_copy),     cmocka_unit_test(test_unwritten_shared),
        cmocka_unit_test(test_alignment),         cmocka_unit_test(test_race_of_blocks),
        cmocka_unit_test(test_overlap),           cmocka_unit_test(test_launch),
        cmocka_unit_test(test_early_stream_read), cmocka_unit_test(test_capture),
        cmocka_unit_test(test_out_of_bounds),     cmocka_unit_test(test_early_launch),
    };
    return cmocka_run_group_tests(tests, open_memory, close_memory);
}
