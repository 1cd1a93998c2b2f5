#include "kernels/cuda/gemm.h"

#include <stdlib.h>

#include "kernels/log.h"

/* A product that cuBLASLt has planned: prompts come in few shapes, chunk after chunk. */
typedef struct gemm_plan {
    cdp_dtype dtype, out_dtype;
    int n_out, k, n_rows, out_cols, x_cols;
    uint64_t last_use; /* 0: empty */
    bool is_missing;   /* cuBLASLt has no algorithm for it */
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t w, x, out;
    cublasLtMatmulAlgo_t algorithm;
} gemm_plan;

enum { PLANS = 64 };

struct cuda_gemm {
    uint64_t uses;
    gemm_plan plans[PLANS];
};

cdp_status cuda_gemm_open(cuda_gemm **out) {
    *out = calloc(1, sizeof **out);
    return *out != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the products' plans");
}

static void forget(gemm_plan *plan) {
    if (plan->operation != NULL)
        cublasLtMatmulDescDestroy(plan->operation);
    if (plan->w != NULL)
        cublasLtMatrixLayoutDestroy(plan->w);
    if (plan->x != NULL)
        cublasLtMatrixLayoutDestroy(plan->x);
    if (plan->out != NULL)
        cublasLtMatrixLayoutDestroy(plan->out);
    *plan = (gemm_plan){0};
}

void cuda_gemm_close(cuda_gemm *gemm) {
    for (int i = 0; gemm != NULL && i < PLANS; i++)
        forget(&gemm->plans[i]);
    free(gemm);
}

bool cuda_gemm_takes(const cdp_tensor *w) {
    return (size_t)w->cols * cdp_dtype_bytes(w->dtype) % 16 == 0;
}

bool cuda_gemm_writes(const cdp_tensor *w, cdp_dtype dtype) {
    return dtype == CDP_F32 ||
           (dtype == CDP_BF16 && w->dtype == CDP_BF16 && (size_t)w->rows * cdp_dtype_bytes(dtype) % 16 == 0);
}

static cudaDataType_t type_of(cdp_dtype dtype) {
    return dtype == CDP_BF16 ? CUDA_R_16BF : dtype == CDP_F16 ? CUDA_R_16F : CUDA_R_32F;
}

#define BLAS_TRY(call) CDP_TRY(cdp_from_cublas(call, #call))

/* Every pointer is a multiple of 16 bytes at least; said, or cuBLASLt counts on 256. Where k is cut, the
 * parts are added in f32 in the workspace: not in the result, in whose 16 bits each part would be rounded. */
static cdp_status set_limits(cublasLtMatmulPreference_t preference) {
    const size_t workspace = CDP_CUDA_BLAS_BYTES;
    const uint32_t alignment = 16, reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    BLAS_TRY(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &workspace, sizeof workspace));
    BLAS_TRY(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                  &reduction, sizeof reduction));
    for (size_t i = 0; i < sizeof aligned / sizeof aligned[0]; i++)
        BLAS_TRY(cublasLtMatmulPreferenceSetAttribute(preference, aligned[i], &alignment, sizeof alignment));
    return CDP_OK;
}

static cdp_status choose_algorithm(gemm_plan *plan, cublasLtHandle_t blas) {
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t found;
    int n_found = 0;
    BLAS_TRY(cublasLtMatmulPreferenceCreate(&preference));
    const cdp_status st = set_limits(preference);
    cublasStatus_t code = CUBLAS_STATUS_SUCCESS;
    if (st == CDP_OK)
        code = cublasLtMatmulAlgoGetHeuristic(blas, plan->operation, plan->w, plan->x, plan->out, plan->out,
                                              preference, 1, &found, &n_found);
    cublasLtMatmulPreferenceDestroy(preference);
    CDP_TRY(st);
    plan->is_missing = code == CUBLAS_STATUS_NOT_SUPPORTED || n_found == 0;
    if (plan->is_missing)
        cdp_note("cuBLASLt has no product of %d rows with (%d, %d) %s as %s: the kernel for few rows does it",
                 plan->n_rows, plan->n_out, plan->k, cdp_dtype_name(plan->dtype),
                 cdp_dtype_name(plan->out_dtype));
    else
        plan->algorithm = found.algo;
    return plan->is_missing ? CDP_OK : cdp_from_cublas(code, "cublasLtMatmulAlgoGetHeuristic");
}

static cdp_status make(gemm_plan *plan, cublasLtHandle_t blas) {
    const cudaDataType_t type = type_of(plan->dtype);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    BLAS_TRY(cublasLtMatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    BLAS_TRY(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                            sizeof transposed));
    BLAS_TRY(cublasLtMatrixLayoutCreate(&plan->w, type, (uint64_t)plan->k, (uint64_t)plan->n_out, plan->k));
    BLAS_TRY(
        cublasLtMatrixLayoutCreate(&plan->x, type, (uint64_t)plan->k, (uint64_t)plan->n_rows, plan->x_cols));
    BLAS_TRY(cublasLtMatrixLayoutCreate(&plan->out, type_of(plan->out_dtype), (uint64_t)plan->n_out,
                                        (uint64_t)plan->n_rows, plan->out_cols));
    return choose_algorithm(plan, blas);
}

static bool is_same(const gemm_plan *a, const gemm_plan *b) {
    return a->dtype == b->dtype && a->out_dtype == b->out_dtype && a->n_out == b->n_out && a->k == b->k &&
           a->n_rows == b->n_rows && a->out_cols == b->out_cols && a->x_cols == b->x_cols;
}

/* The plan of this shape: known, or made in the place that was not used for the longest time. */
static cdp_status find(cuda_gemm *gemm, cublasLtHandle_t blas, const gemm_plan *wanted, gemm_plan **out) {
    gemm_plan *oldest = &gemm->plans[0];
    for (int i = 0; i < PLANS; i++) {
        gemm_plan *plan = &gemm->plans[i];
        if (plan->last_use > 0 && is_same(plan, wanted)) {
            *out = plan;
            plan->last_use = ++gemm->uses;
            return CDP_OK;
        }
        if (plan->last_use < oldest->last_use)
            oldest = plan;
    }
    forget(oldest);
    *oldest = *wanted;
    const cdp_status st = make(oldest, blas);
    if (st != CDP_OK) {
        forget(oldest);
        return st;
    }
    oldest->last_use = ++gemm->uses;
    *out = oldest;
    return CDP_OK;
}

/* out = alpha x w^T + beta out, in place: the library wants one layout for both then. */
static cdp_status multiply(const gemm_plan *plan, cdp_device *device, void *out, const void *x, const void *w,
                           float alpha, float beta) {
    BLAS_TRY(cublasLtMatmul(cdp_cuda_blas(device), plan->operation, &alpha, w, plan->w, x, plan->x, &beta,
                            out, plan->out, out, plan->out, &plan->algorithm, cdp_cuda_blas_workspace(device),
                            CDP_CUDA_BLAS_BYTES, cdp_cuda_stream(device)));
    return CDP_OK;
}

static cdp_status plan_of(cuda_gemm *gemm, cdp_device *device, const cuda_gemm_out *out, const cuda_rows *x,
                          const cdp_tensor *w, int n_rows, gemm_plan **plan_out) {
    const gemm_plan wanted = {.dtype = w->dtype,
                              .out_dtype = out->dtype,
                              .n_out = w->rows,
                              .k = w->cols,
                              .n_rows = n_rows,
                              .out_cols = out->cols,
                              .x_cols = (int)(x->row_bytes / cdp_dtype_bytes(w->dtype))};
    return find(gemm, cdp_cuda_blas(device), &wanted, plan_out);
}

cdp_status cuda_gemm_has(cuda_gemm *gemm, cdp_device *device, const cuda_gemm_out *out, const cuda_rows *x,
                         const cdp_tensor *w, int n_rows, bool *has_out) {
    gemm_plan *plan = NULL;
    *has_out = false;
    CDP_TRY(plan_of(gemm, device, out, x, w, n_rows, &plan));
    *has_out = !plan->is_missing;
    return CDP_OK;
}

cdp_status cuda_gemm_run(cuda_gemm *gemm, cdp_device *device, const cuda_gemm_out *out, const cuda_rows *x,
                         const cdp_tensor *w, float scale, int n_rows) {
    if (n_rows == 0)
        return CDP_OK;
    const float beta = out->is_added ? 1.0f : 0.0f;
    gemm_plan *plan = NULL;
    CDP_TRY(plan_of(gemm, device, out, x, w, n_rows, &plan));
    if (w->dtype != CDP_F16)
        return multiply(plan, device, out->data, x->data, w->data, scale, beta);
    const char *low = (const char *)x->data + x->row_bytes / 2;
    CDP_TRY(multiply(plan, device, out->data, x->data, w->data, scale * CUDA_SPLIT_HIGH, beta));
    return multiply(plan, device, out->data, low, w->data, scale * CUDA_SPLIT_HIGH / CUDA_SPLIT_LOW, 1.0f);
}
