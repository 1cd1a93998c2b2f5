/* tests/standin/cublaslt.cpp - the calls of cuBLASLt that cdpipe makes: d = alpha op(a) op(b) + beta c,
 * column-major, sums in f32. What the library would refuse or silently do wrong is refused here, with a line
 * that says what.
 */
#include <cublasLt.h>
#include <memory>
#include <vector>

#include "kernels/dtype.h"
#include "tests/standin/inside.h"

namespace {

struct operation {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = nullptr;
};

struct layout {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
};

struct preference {
    uint64_t workspace = 0;
    uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_MASK; /* how parts of k may be added: as it likes */
    uint32_t alignment[4] = {256, 256, 256, 256};        /* of a, b, c, d: what the heuristic may count on */
};

/* What a product is, for the algorithm that was chosen for it: no pointers. */
struct shape {
    operation op;
    layout a, b, c, d;
    uint32_t alignment[4];
};

/* An algorithm as cdpipe carries it: the number of the shape it is for. */
std::vector<shape> *const shapes = new std::vector<shape>;
enum : uint64_t { ALGORITHM_MARK = 0x5354414e44494e00u };

size_t bytes_of(cudaDataType type) {
    return type == CUDA_R_32F ? 4 : 2;
}

cdp_dtype dtype_of(cudaDataType type) {
    return type == CUDA_R_32F ? CDP_F32 : type == CUDA_R_16F ? CDP_F16 : CDP_BF16;
}

bool is_known(cudaDataType type) {
    return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF;
}

template <typename T> cublasStatus_t refuse(T code, const char *why) {
    standin_report("cuBLASLt: %s", why);
    return code;
}

/* NULL where the product is one that the library has. */
const char *problem(const shape &s) {
    const uint64_t m = s.op.transpose_a == CUBLAS_OP_N ? s.a.rows : s.a.cols;
    const uint64_t k = s.op.transpose_a == CUBLAS_OP_N ? s.a.cols : s.a.rows;
    const uint64_t k2 = s.op.transpose_b == CUBLAS_OP_N ? s.b.rows : s.b.cols;
    const uint64_t n = s.op.transpose_b == CUBLAS_OP_N ? s.b.cols : s.b.rows;
    if (m == 0 || n == 0 || k == 0)
        return "an empty matrix";
    if (k != k2 || s.d.rows != m || s.d.cols != n || s.c.rows != m || s.c.cols != n)
        return "shapes that do not fit together";
    for (const layout *l : {&s.a, &s.b, &s.c, &s.d})
        if (!is_known(l->type) || l->ld < (int64_t)l->rows)
            return "a type it does not have, or a leading dimension below the rows";
    if (s.a.type != s.b.type || s.c.type != s.d.type || (s.d.type != CUDA_R_32F && s.d.type != s.a.type))
        return "a mixture of types it does not have";
    if (s.op.scale != CUDA_R_32F ||
        (s.op.compute != CUBLAS_COMPUTE_32F && s.op.compute != CUBLAS_COMPUTE_32F_PEDANTIC &&
         s.op.compute != CUBLAS_COMPUTE_32F_FAST_TF32))
        return "an arithmetic the stand-in does not have";
    if (s.op.epilogue != CUBLASLT_EPILOGUE_DEFAULT && s.op.epilogue != CUBLASLT_EPILOGUE_BIAS)
        return "an epilogue the stand-in does not have";
    return nullptr;
}

/* (outer, inner) floats, inner the summed dimension. */
std::vector<float> unpack(const void *data, const layout &l, bool is_inner_first, uint64_t outer,
                          uint64_t inner) {
    std::vector<float> out(outer * inner);
    const cdp_dtype dtype = dtype_of(l.type);
    for (uint64_t o = 0; o < outer; o++)
        for (uint64_t i = 0; i < inner; i++) {
            const uint64_t row = is_inner_first ? i : o, col = is_inner_first ? o : i;
            out[o * inner + i] = cdp_load(data, dtype, col * (uint64_t)l.ld + row);
        }
    return out;
}

/* Eight running sums, so that the compiler can keep them in one register. */
float dot(const float *a, const float *b, uint64_t n) {
    float sum[8] = {}, total = 0;
    uint64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            sum[j] += a[i + (uint64_t)j] * b[i + (uint64_t)j];
    for (; i < n; i++)
        sum[0] += a[i] * b[i];
    for (float part : sum)
        total += part;
    return total;
}

standin_progress multiply(const shape &s, float alpha, const void *a, const void *b, float beta,
                          const void *c, void *d) {
    const bool is_a_plain = s.op.transpose_a == CUBLAS_OP_N, is_b_plain = s.op.transpose_b == CUBLAS_OP_N;
    const uint64_t m = s.d.rows, n = s.d.cols, k = is_a_plain ? s.a.cols : s.a.rows;
    const std::vector<float> left = unpack(a, s.a, !is_a_plain, m, k),
                             right = unpack(b, s.b, is_b_plain, n, k);
    for (uint64_t column = 0; column < n; column++)
        for (uint64_t row = 0; row < m; row++) {
            float value = alpha * dot(&left[row * k], &right[column * k], k);
            if (beta != 0.0f)
                value += beta * cdp_load(c, dtype_of(s.c.type), column * (uint64_t)s.c.ld + row);
            if (s.op.epilogue == CUBLASLT_EPILOGUE_BIAS)
                value += cdp_load(s.op.bias, dtype_of(s.d.type), row);
            cdp_store(d, dtype_of(s.d.type), column * (uint64_t)s.d.ld + row, value);
        }
    const size_t size = bytes_of(s.d.type);
    standin_library_wrote("cublasLtMatmul", d, m * size, (size_t)s.d.ld * size, n);
    standin_counted.products++;
    return STANDIN_DONE;
}

template <typename T> T *inside(void *handle) {
    return static_cast<T *>(handle);
}

size_t extent(const layout &l) {
    return ((l.cols - 1) * (uint64_t)l.ld + l.rows) * bytes_of(l.type);
}

/* Which kernel of the library it takes hangs on all of these. */
std::string key_of(const shape &s) {
    std::string key = "product";
    for (const layout *l : {&s.a, &s.b, &s.c, &s.d})
        for (int64_t part : {(int64_t)l->type, (int64_t)l->rows, (int64_t)l->cols, l->ld})
            key += " " + std::to_string(part);
    return key;
}

bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    const uintptr_t x = reinterpret_cast<uintptr_t>(a), y = reinterpret_cast<uintptr_t>(b);
    return x < y + b_bytes && y < x + a_bytes;
}

bool is_same(const shape &x, const shape &y) {
    const layout *const mine[] = {&x.a, &x.b, &x.c, &x.d}, *const theirs[] = {&y.a, &y.b, &y.c, &y.d};
    for (int i = 0; i < 4; i++)
        if (mine[i]->type != theirs[i]->type || mine[i]->rows != theirs[i]->rows ||
            mine[i]->cols != theirs[i]->cols || mine[i]->ld != theirs[i]->ld)
            return false;
    return x.op.transpose_a == y.op.transpose_a && x.op.transpose_b == y.op.transpose_b &&
           x.op.epilogue == y.op.epilogue && x.op.compute == y.op.compute;
}

} // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    *handle = reinterpret_cast<cublasLtHandle_t>(new int(0));
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete reinterpret_cast<int *>(handle);
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void) {
    return CUBLAS_VERSION;
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
           : status == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE"
           : status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                                   : "CUBLAS_STATUS_EXECUTION_FAILED";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    *desc = reinterpret_cast<cublasLtMatmulDesc_t>(new operation{compute, scale});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
    delete inside<operation>(desc);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t which,
                                              const void *value, size_t n_bytes) {
    operation *const op = inside<operation>(desc);
    void *const to = which == CUBLASLT_MATMUL_DESC_TRANSA         ? static_cast<void *>(&op->transpose_a)
                     : which == CUBLASLT_MATMUL_DESC_TRANSB       ? static_cast<void *>(&op->transpose_b)
                     : which == CUBLASLT_MATMUL_DESC_EPILOGUE     ? static_cast<void *>(&op->epilogue)
                     : which == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? static_cast<void *>(&op->bias)
                                                                  : nullptr;
    const size_t wanted = which == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof op->bias : 4;
    if (to == nullptr || n_bytes != wanted)
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "an attribute of a product it does not know, or of another size");
    memcpy(to, value, n_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
    *out = reinterpret_cast<cublasLtMatrixLayout_t>(new layout{type, rows, cols, ld});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t handle) {
    delete inside<layout>(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t handle,
                                                cublasLtMatrixLayoutAttribute_t which, const void *value,
                                                size_t n_bytes) {
    layout *const l = inside<layout>(handle);
    void *const to = which == CUBLASLT_MATRIX_LAYOUT_ROWS   ? static_cast<void *>(&l->rows)
                     : which == CUBLASLT_MATRIX_LAYOUT_COLS ? static_cast<void *>(&l->cols)
                     : which == CUBLASLT_MATRIX_LAYOUT_LD   ? static_cast<void *>(&l->ld)
                                                            : nullptr;
    if (to == nullptr || n_bytes != 8)
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "an attribute of a layout it does not know, or of another size");
    memcpy(to, value, n_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = reinterpret_cast<cublasLtMatmulPreference_t>(new preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t handle) {
    delete inside<preference>(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t handle,
                                                    cublasLtMatmulPreferenceAttributes_t which,
                                                    const void *value, size_t n_bytes) {
    preference *const p = inside<preference>(handle);
    const int operand = which == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES   ? 0
                        : which == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES ? 1
                        : which == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES ? 2
                        : which == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES ? 3
                                                                              : -1;
    void *const to = which == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? static_cast<void *>(&p->workspace)
                     : which == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK
                         ? static_cast<void *>(&p->reduction)
                     : operand >= 0 ? static_cast<void *>(&p->alignment[operand])
                                    : nullptr;
    if (to == nullptr || n_bytes != (to == &p->workspace ? sizeof p->workspace : sizeof(uint32_t)))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "a preference it does not know, or of another size");
    memcpy(to, value, n_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t handle, int n_wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *n_results) {
    shape s = {*inside<operation>(desc), *inside<layout>(a), *inside<layout>(b),
               *inside<layout>(c),       *inside<layout>(d), {}};
    const preference *const p = inside<preference>(handle);
    memcpy(s.alignment, p->alignment, sizeof s.alignment);
    *n_results = 0;
    const char *const why = problem(s);
    if (why != nullptr)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, why);
    /* Where it cuts k it may add the parts in the result itself, each rounded: nobody here wants that. */
    if (s.d.type != CUDA_R_32F && (p->reduction & ~(uint32_t)CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) != 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "parts of sums that may be rounded to the result's 16 bits");
    /* Its kernels load 16 bytes of a column at a time: columns that start elsewhere have no algorithm. */
    for (const layout *l : {&s.a, &s.b})
        if ((uint64_t)l->ld * bytes_of(l->type) % 16 != 0)
            return CUBLAS_STATUS_NOT_SUPPORTED;
    if (n_wanted < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (standin_fault_due("product", "none")) /* it may have none for anything: a shape, a GPU, a version */
        return CUBLAS_STATUS_SUCCESS;
    shapes->push_back(s);
    results[0] = cublasLtMatmulHeuristicResult_t{};
    results[0].algo.data[0] = ALGORITHM_MARK;
    results[0].algo.data[1] = shapes->size() - 1;
    results[0].workspaceSize = p->workspace < 4096 ? p->workspace : 4096;
    results[0].state = CUBLAS_STATUS_SUCCESS;
    results[0].wavesCount = 1.0f;
    *n_results = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algorithm,
                              void *workspace, size_t n_workspace_bytes, cudaStream_t stream) {
    const shape s = {*inside<operation>(desc),  *inside<layout>(a_layout), *inside<layout>(b_layout),
                     *inside<layout>(c_layout), *inside<layout>(d_layout), {}};
    const char *const why = problem(s);
    if (why != nullptr)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, why);
    if (algorithm != nullptr) {
        if (algorithm->data[0] != ALGORITHM_MARK || algorithm->data[1] >= shapes->size() ||
            !is_same((*shapes)[algorithm->data[1]], s))
            return refuse(CUBLAS_STATUS_INVALID_VALUE, "an algorithm that was chosen for another product");
        const void *const operands[] = {a, b, c, d};
        for (int i = 0; i < 4; i++)
            if (reinterpret_cast<uintptr_t>(operands[i]) % (*shapes)[algorithm->data[1]].alignment[i] != 0)
                return refuse(CUBLAS_STATUS_INVALID_VALUE,
                              "a matrix that is aligned worse than was promised");
    }
    if (!standin_memory_has(a, extent(s.a)) || !standin_memory_has(b, extent(s.b)) ||
        !standin_memory_has(d, extent(s.d)) || !standin_memory_has(c, extent(s.c)) ||
        (n_workspace_bytes > 0 && !standin_memory_has(workspace, n_workspace_bytes)))
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "a matrix or workspace that does not lie in one allocation");
    if (overlap(a, extent(s.a), d, extent(s.d)) || overlap(b, extent(s.b), d, extent(s.d)))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "a result that is written over what is multiplied");
    if (c == d ? c_layout != d_layout : overlap(c, extent(s.c), d, extent(s.d)))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "c and d in one place, but not in one layout");
    if (!standin_load("cublasLtMatmul", key_of(s)))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    const float x = *static_cast<const float *>(alpha), y = *static_cast<const float *>(beta);
    const cudaError_t code =
        standin_queue_work(stream, "cublasLtMatmul", [=] { return multiply(s, x, a, b, y, c, d); });
    return code == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

} // extern "C"
