/* The stand-in's cuBLASLt has the products that the library has, and says why it has not the others: mixtures
 * of types, sums rounded part by part, results that lie over what they are made of.
 */
#include <cublasLt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/standin/standin.h"

enum { N = 16, MATRIX = N * N * 4 }; /* room for f32 */

#define GOOD(call) assert_int_equal(call, CUBLAS_STATUS_SUCCESS)

typedef struct product {
    cublasLtHandle_t blas;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t in, out, other;
    cublasLtMatmulHeuristicResult_t found;
} product;

/* in^T in, of N x N: what the heuristic says to it. */
static cublasStatus_t open_product(product *p, cudaDataType_t in, cudaDataType_t out, uint32_t reduction) {
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const uint64_t workspace = 0;
    cublasLtMatmulPreference_t preference;
    int n_found = 0;
    GOOD(cublasLtCreate(&p->blas));
    GOOD(cublasLtMatmulDescCreate(&p->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    GOOD(cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                        sizeof transposed));
    GOOD(cublasLtMatrixLayoutCreate(&p->in, in, N, N, N));
    GOOD(cublasLtMatrixLayoutCreate(&p->out, out, N, N, N));
    GOOD(cublasLtMatrixLayoutCreate(&p->other, out, N, N, N));
    GOOD(cublasLtMatmulPreferenceCreate(&preference));
    GOOD(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                              &workspace, sizeof workspace));
    GOOD(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                              &reduction, sizeof reduction));
    const cublasStatus_t code = cublasLtMatmulAlgoGetHeuristic(p->blas, p->operation, p->in, p->in, p->out,
                                                               p->out, preference, 1, &p->found, &n_found);
    assert_int_equal(n_found, code == CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulPreferenceDestroy(preference);
    return code;
}

static void close_product(product *p) {
    cublasLtMatrixLayoutDestroy(p->other);
    cublasLtMatrixLayoutDestroy(p->out);
    cublasLtMatrixLayoutDestroy(p->in);
    cublasLtMatmulDescDestroy(p->operation);
    cublasLtDestroy(p->blas);
}

static void mixtures_of_types_are_those_of_the_library(void **state) {
    (void)state;
    const uint32_t any = CUBLASLT_REDUCTION_SCHEME_MASK, f32 = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const struct {
        cudaDataType_t in, out;
        uint32_t reduction;
        const char *why; /* NULL: it has this one */
    } cases[] = {
        {CUDA_R_32F, CUDA_R_32F, any, NULL},
        {CUDA_R_16BF, CUDA_R_32F, any, NULL},
        {CUDA_R_16F, CUDA_R_32F, f32, NULL},
        {CUDA_R_16BF, CUDA_R_16BF, f32, NULL},
        {CUDA_R_16F, CUDA_R_16F, f32, NULL},
        {CUDA_R_16BF, CUDA_R_16BF, any, "rounded to the result's 16 bits"},
        {CUDA_R_32F, CUDA_R_16BF, f32, "a mixture of types"},
        {CUDA_R_16F, CUDA_R_16BF, f32, "a mixture of types"},
        {CUDA_R_16BF, CUDA_R_16F, f32, "a mixture of types"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        product p;
        const cublasStatus_t code = open_product(&p, cases[i].in, cases[i].out, cases[i].reduction);
        if ((code == CUBLAS_STATUS_SUCCESS) != (cases[i].why == NULL))
            fail_msg("case %zu: status %d", i, (int)code);
        if (cases[i].why != NULL)
            assert_non_null(strstr(standin_last_fault(), cases[i].why));
        close_product(&p);
    }
}

static cublasStatus_t multiply(const product *p, const void *in, const void *c,
                               cublasLtMatrixLayout_t c_layout, void *d) {
    const float alpha = 1, beta = 1;
    return cublasLtMatmul(p->blas, p->operation, &alpha, in, p->in, in, p->in, &beta, c, c_layout, d, p->out,
                          &p->found.algo, NULL, 0, NULL);
}

static void a_result_lies_over_c_alone(void **state) {
    (void)state;
    product p;
    float ones[N * N], got[N * N];
    char *memory = NULL; /* in, then out */
    for (int i = 0; i < N * N; i++)
        ones[i] = 1;
    GOOD(open_product(&p, CUDA_R_32F, CUDA_R_32F, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    assert_int_equal(cudaMalloc((void **)&memory, (size_t)2 * MATRIX), cudaSuccess);
    for (int i = 0; i < 2; i++)
        assert_int_equal(cudaMemcpy(memory + (size_t)i * MATRIX, ones, MATRIX, cudaMemcpyHostToDevice),
                         cudaSuccess);
    GOOD(multiply(&p, memory, memory + MATRIX, p.out, memory + MATRIX));
    assert_int_equal(cudaMemcpy(got, memory + MATRIX, MATRIX, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int i = 0; i < N * N; i++)
        assert_true(got[i] == N + 1);
    assert_int_not_equal(multiply(&p, memory, memory + MATRIX, p.other, memory + MATRIX),
                         CUBLAS_STATUS_SUCCESS);
    assert_non_null(strstr(standin_last_fault(), "not in one layout"));
    assert_int_not_equal(multiply(&p, memory, memory + MATRIX, p.out, memory + 256), CUBLAS_STATUS_SUCCESS);
    assert_non_null(strstr(standin_last_fault(), "over what is multiplied"));
    cudaFree(memory);
    close_product(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixtures_of_types_are_those_of_the_library),
        cmocka_unit_test(a_result_lies_over_c_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
