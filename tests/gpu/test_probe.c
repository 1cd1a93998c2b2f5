/* What a kernel may use works as CUDA says: launches, shared memory, shuffles, votes, atomics, tiles,
 * products, copies, streams, events, graphs. Runs on the stand-in, in every order of threads and blocks, and
 * on a real GPU.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/dtype.h"
#include "tests/gpu/orders.h"
#include "tests/gpu/probe.h"
#include "tests/support/random.h"

#define GOOD(call) assert_int_equal(call, cudaSuccess)

/* Device memory with a copy of n_bytes of `from` (NULL: zeros). */
static void *device_copy(const void *from, size_t n_bytes) {
    void *memory = NULL;
    GOOD(cudaMalloc(&memory, n_bytes));
    if (from != NULL)
        GOOD(cudaMemcpy(memory, from, n_bytes, cudaMemcpyHostToDevice));
    else
        GOOD(cudaMemset(memory, 0, n_bytes));
    return memory;
}

static void take_back(void *to, void *memory, size_t n_bytes) {
    GOOD(cudaMemcpy(to, memory, n_bytes, cudaMemcpyDeviceToHost));
    GOOD(cudaFree(memory));
}

static void test_norm(void **state) {
    (void)state;
    enum { ROWS = 5, DIM = 300 };
    float x[ROWS * DIM], got[ROWS * DIM], first[ROWS * DIM];
    test_random r = {7};
    for (int i = 0; i < ROWS * DIM; i++)
        x[i] = test_random_signed(&r);
    for (int order = 0; order < test_n_orders(); order++) {
        test_set_order(order);
        void *const in = device_copy(x, sizeof x), *const out = device_copy(NULL, sizeof got);
        assert_int_equal(probe_norm(out, in, ROWS, DIM, 1e-5f, NULL), CDP_OK);
        take_back(got, out, sizeof got);
        GOOD(cudaFree(in));
        for (int row = 0; row < ROWS; row++) {
            double sum = 0;
            for (int i = 0; i < DIM; i++)
                sum += (double)x[row * DIM + i] * (double)x[row * DIM + i];
            for (int i = 0; i < DIM; i++)
                assert_true(fabs((double)got[row * DIM + i] - x[row * DIM + i] / sqrt(sum / DIM + 1e-5)) <
                            1e-5);
        }
        if (order == 0)
            memcpy(first, got, sizeof got);
        assert_memory_equal(first, got, sizeof got);
    }
}

static void check_product(bool is_bf16) {
    uint16_t a[16 * 16], b[16 * 8];
    float got[16 * 8];
    const cdp_dtype dtype = is_bf16 ? CDP_BF16 : CDP_F16;
    test_random r = {11};
    for (size_t i = 0; i < 16 * 16; i++)
        cdp_store(a, dtype, i, test_random_signed(&r));
    for (size_t i = 0; i < 16 * 8; i++)
        cdp_store(b, dtype, i, test_random_signed(&r));
    for (int order = 0; order < test_n_orders(); order++) {
        test_set_order(order);
        void *const da = device_copy(a, sizeof a), *const db = device_copy(b, sizeof b);
        void *const out = device_copy(NULL, sizeof got);
        assert_int_equal(probe_product(out, da, db, is_bf16, NULL), CDP_OK);
        take_back(got, out, sizeof got);
        GOOD(cudaFree(da));
        GOOD(cudaFree(db));
        for (size_t row = 0; row < 16; row++)
            for (size_t column = 0; column < 8; column++) {
                double want = 0;
                for (size_t k = 0; k < 16; k++)
                    want +=
                        (double)cdp_load(a, dtype, row * 16 + k) * (double)cdp_load(b, dtype, k * 8 + column);
                assert_true(fabs((double)got[row * 8 + column] - want) < 1e-5);
            }
    }
}

static void test_product(void **state) {
    (void)state;
    check_product(true);
    check_product(false);
}

static void test_rank(void **state) {
    (void)state;
    enum { N = 200 };
    float x[N];
    int got[N];
    test_random r = {3};
    for (int i = 0; i < N; i++)
        x[i] = roundf(test_random_signed(&r) * 20); /* many are equal */
    for (int order = 0; order < test_n_orders(); order++) {
        test_set_order(order);
        void *const in = device_copy(x, sizeof x), *const out = device_copy(NULL, sizeof got);
        assert_int_equal(probe_rank(out, in, N, NULL), CDP_OK);
        take_back(got, out, sizeof got);
        GOOD(cudaFree(in));
        for (int i = 0; i < N; i++) {
            int want = 0;
            for (int k = 0; k < N; k++)
                want += x[k] < x[i] || (x[k] == x[i] && k < i);
            assert_int_equal(got[i], want);
        }
    }
}

/* A chain over two streams with an event between, eagerly and as a graph that is replayed on other contents.
 */
static void test_streams(void **state) {
    (void)state;
    enum { N = 1000, BYTES = N * 16 };
    unsigned char *const host = malloc(BYTES), *const back = malloc(BYTES);
    for (int order = 0; order < test_n_orders(); order++) {
        test_set_order(order);
        cudaStream_t one = NULL, two = NULL;
        cudaEvent_t fork = NULL, join = NULL;
        GOOD(cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking));
        GOOD(cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking));
        GOOD(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
        GOOD(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
        void *const a = device_copy(NULL, BYTES), *const b = device_copy(NULL, BYTES),
                    *const c = device_copy(NULL, BYTES);
        GOOD(cudaDeviceSynchronize()); /* streams of their own do not wait for the zeros */
        cudaGraph_t graph = NULL;
        cudaGraphExec_t exec = NULL;
        GOOD(cudaStreamBeginCapture(one, cudaStreamCaptureModeThreadLocal));
        for (int round = 0; round < 3; round++) {
            if (round == 1) {
                GOOD(cudaStreamEndCapture(one, &graph));
                GOOD(cudaGraphInstantiate(&exec, graph, 0));
                GOOD(cudaGraphDestroy(graph));
            }
            if (round > 0) {
                memset(host, round + order * 16, BYTES);
                GOOD(cudaMemcpyAsync(a, host, BYTES, cudaMemcpyHostToDevice, one));
            }
            if (round == 2) {
                GOOD(cudaGraphLaunch(exec, one));
            } else {
                assert_int_equal(probe_copy(b, a, N, one), CDP_OK);
                GOOD(cudaEventRecord(fork, one));
                GOOD(cudaStreamWaitEvent(two, fork, 0));
                assert_int_equal(probe_copy(c, b, N, two), CDP_OK);
                GOOD(cudaEventRecord(join, two));
                GOOD(cudaStreamWaitEvent(one, join, 0));
            }
            if (round > 0) {
                GOOD(cudaMemcpyAsync(back, c, BYTES, cudaMemcpyDeviceToHost, one));
                GOOD(cudaEventRecord(join, one));
                cudaError_t code;
                while ((code = cudaEventQuery(join)) == cudaErrorNotReady)
                    continue;
                GOOD(code);
                assert_memory_equal(host, back, BYTES);
            }
        }
        GOOD(cudaGraphExecDestroy(exec));
        GOOD(cudaFree(a));
        GOOD(cudaFree(b));
        GOOD(cudaFree(c));
        GOOD(cudaEventDestroy(fork));
        GOOD(cudaEventDestroy(join));
        GOOD(cudaStreamDestroy(one));
        GOOD(cudaStreamDestroy(two));
    }
    free(host);
    free(back);
}

int main(void) {
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess) {
        printf("no GPU: %s\n", cudaGetErrorString(cudaGetLastError()));
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_product),
        cmocka_unit_test(test_rank),
        cmocka_unit_test(test_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
