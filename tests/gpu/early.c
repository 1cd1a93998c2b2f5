/* Kernels that begin before the one ahead of them is done touch nothing of its work before they wait: every
 * operation of every case, on kernels whose loads and stores are looked at (tests/standin/traced). And the
 * fault, planted.
 */
#include <cublasLt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/standin/standin.h"
#include "tests/standin/wrong.h"
#include "tests/support/layer_case.h"

enum { BYTES = WRONG_THREADS * 4 };

static void assert_caught(cdp_status launched, const char *text) {
    assert_int_equal(launched, CDP_OK);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    if (strstr(standin_last_fault(), text) == NULL)
        fail_msg("the fault found is \"%s\", expected \"%s\"", standin_last_fault(), text);
    standin_recover();
}

static void test_planted(void **state) {
    (void)state;
    float *weights = NULL, *x = NULL, *out = NULL;
    assert_int_equal(cudaMalloc((void **)&weights, BYTES), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&x, BYTES), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&out, BYTES), cudaSuccess);
    assert_int_equal(cudaMemset(weights, 0, BYTES), cudaSuccess);
    assert_int_equal(right_copy(x, weights, NULL), CDP_OK);
    assert_int_equal(wrong_early_read(out, weights), CDP_OK); /* nobody writes these: right */
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    assert_int_equal(right_copy(x, weights, NULL), CDP_OK);
    assert_caught(wrong_early_read(out, x), "reads what the kernels before it may still write");
    assert_int_equal(right_copy(x, weights, NULL), CDP_OK);
    assert_int_equal(wrong_early_read(out, weights), CDP_OK);
    assert_caught(wrong_early_read(out, x),
                  "reads what the kernels before it may still write"); /* the one before that */
    assert_caught(wrong_early_write(out, x), "writes ");
    cudaFree(weights);
    cudaFree(x);
    cudaFree(out);
}

/* What cuBLASLt computes is the work of a kernel like any other. */
static void test_planted_product(void **state) {
    (void)state;
    enum { N = 16 };
    const float one = 1, zero = 0;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtHandle_t blas = NULL;
    cublasLtMatmulDesc_t operation = NULL;
    cublasLtMatrixLayout_t matrix = NULL;
    float *x = NULL, *y = NULL, *out = NULL;
    assert_int_equal(cudaMalloc((void **)&x, BYTES), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&y, BYTES), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&out, BYTES), cudaSuccess);
    assert_int_equal(cudaMemset(x, 0, BYTES), cudaSuccess);
    assert_int_equal(cublasLtCreate(&blas), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                     CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                                    sizeof transposed),
                     CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatrixLayoutCreate(&matrix, CUDA_R_32F, N, N, N), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatmul(blas, operation, &one, x, matrix, x, matrix, &zero, y, matrix, y, matrix,
                                    NULL, NULL, 0, NULL),
                     CUBLAS_STATUS_SUCCESS);
    assert_int_equal(wrong_early_read(out, x), CDP_OK); /* an operand: right */
    assert_caught(wrong_early_read(out, y), "reads what the kernels before it may still write");
    cublasLtMatrixLayoutDestroy(matrix);
    cublasLtMatmulDescDestroy(operation);
    cublasLtDestroy(blas);
    cudaFree(x);
    cudaFree(y);
    cudaFree(out);
}

static void test_operations(void **state) {
    (void)state;
    for (int i = 0; i < test_n_layer_specs; i++) {
        cdp_device *device = NULL;
        assert_int_equal(cdp_device_open_cuda(&device, &(cdp_cuda_options){.index = 0}), CDP_OK);
        layer_case *c = test_layer_open(&test_layer_specs[i], device);
        for (int step = 0; step < test_layer_steps(); step++)
            test_layer_play(c, step);
        test_layer_close(c);
    }
    assert_int_equal(standin_count().faults, 4); /* those that were planted */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planted),
        cmocka_unit_test(test_planted_product),
        cmocka_unit_test(test_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
