/* late_missing: on a machine without cuBLASLt and NCCL the calls made late fail, each with words that say
 * why. Linked with the files of late/; no library opens here. */
#include <cublasLt.h>
#include <dlfcn.h>
#include <nccl.h>
#include <stdio.h>
#include <string.h>

void *dlopen(const char *name, int flags) {
    (void)flags;
    printf("asked for %s\n", name);
    return NULL;
}

static int expect(const char *what, int is_so) {
    printf("%s: %s\n", what, is_so ? "as it should be" : "WRONG");
    return !is_so;
}

int main(void) {
    int version = 0, n_wrong = 0;
    cublasLtHandle_t handle = NULL;
    n_wrong += expect("ncclGetVersion", ncclGetVersion(&version) == ncclSystemError);
    n_wrong += expect("ncclCommAbort", ncclCommAbort(NULL) == ncclSystemError);
    n_wrong += expect("ncclGetErrorString",
                      strcmp(ncclGetErrorString(ncclSystemError), "libnccl.so.2 is not there") == 0);
    n_wrong += expect("ncclGetLastError", strcmp(ncclGetLastError(NULL), "") == 0);
    n_wrong += expect("cublasLtCreate", cublasLtCreate(&handle) == CUBLAS_STATUS_NOT_INITIALIZED);
    n_wrong +=
        expect("cublasLtGetStatusString",
               strstr(cublasLtGetStatusString(CUBLAS_STATUS_NOT_INITIALIZED), " is not there") != NULL);
    return n_wrong != 0;
}
