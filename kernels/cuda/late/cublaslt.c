/* kernels/cuda/late/cublaslt.c - cuBLASLt, opened when it is called first.
 *
 * Linked the usual way its library costs every start of the program 80 ms and 200 MB of resident memory
 * (relocations of 540 MB), also on the CPU device. So the program defines the calls it makes, with the types
 * of the header, and each goes on to the library's own. Where the library is missing they return
 * CUBLAS_STATUS_NOT_INITIALIZED.
 */
#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* The library's own function, or NULL. Called by the main thread alone. */
static void *find(const char *name) {
    static void *library; /* open until the process ends */
    if (library == NULL)
        library = dlopen("libcublasLt.so." TEXT(CUBLAS_VER_MAJOR), RTLD_NOW | RTLD_LOCAL);
    return library == NULL ? NULL : dlsym(library, name);
}

#define PASS_ON(name, parameters, arguments)                                                                 \
    cublasStatus_t name parameters {                                                                         \
        static __typeof__(name) *own;                                                                        \
        if (own == NULL)                                                                                     \
            *(void **)&own = find(#name);                                                                    \
        return own == NULL ? CUBLAS_STATUS_NOT_INITIALIZED : own arguments;                                  \
    }

PASS_ON(cublasLtCreate, (cublasLtHandle_t * handle), (handle))
PASS_ON(cublasLtDestroy, (cublasLtHandle_t handle), (handle))
PASS_ON(cublasLtMatmulDescCreate,
        (cublasLtMatmulDesc_t * desc, cublasComputeType_t compute, cudaDataType_t scale),
        (desc, compute, scale))
PASS_ON(cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t desc), (desc))
PASS_ON(cublasLtMatmulDescSetAttribute,
        (cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t which, const void *value, size_t n_bytes),
        (desc, which, value, n_bytes))
PASS_ON(cublasLtMatrixLayoutCreate,
        (cublasLtMatrixLayout_t * layout, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld),
        (layout, type, rows, cols, ld))
PASS_ON(cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t layout), (layout))
PASS_ON(cublasLtMatrixLayoutSetAttribute,
        (cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t which, const void *value,
         size_t n_bytes),
        (layout, which, value, n_bytes))
PASS_ON(cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t * preference), (preference))
PASS_ON(cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t preference), (preference))
PASS_ON(cublasLtMatmulPreferenceSetAttribute,
        (cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t which, const void *value,
         size_t n_bytes),
        (preference, which, value, n_bytes))
PASS_ON(cublasLtMatmulAlgoGetHeuristic,
        (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
         cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
         cublasLtMatmulPreference_t preference, int n_wanted, cublasLtMatmulHeuristicResult_t results[],
         int *n_results),
        (handle, desc, a, b, c, d, preference, n_wanted, results, n_results))
PASS_ON(cublasLtMatmul,
        (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
         cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
         const void *c, cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
         const cublasLtMatmulAlgo_t *algo, void *workspace, size_t n_workspace_bytes, cudaStream_t stream),
        (handle, desc, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algo, workspace,
         n_workspace_bytes, stream))

const char *cublasLtGetStatusString(cublasStatus_t status) {
    static __typeof__(cublasLtGetStatusString) *own;
    if (own == NULL)
        *(void **)&own = find("cublasLtGetStatusString");
    return own == NULL ? "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR) " is not there" : own(status);
}

size_t cublasLtGetVersion(void) {
    static __typeof__(cublasLtGetVersion) *own;
    if (own == NULL)
        *(void **)&own = find("cublasLtGetVersion");
    return own == NULL ? 0 : own();
}
