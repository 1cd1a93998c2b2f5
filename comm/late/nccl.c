/* comm/late/nccl.c - NCCL, opened when it is called first: a run of one rank or on the CPU never loads its
 * 200 MB.
 *
 * The program defines the calls it makes, with the types of the header, and each goes on to the library's
 * own. Where the library is missing they return ncclSystemError, and the text says so.
 */
#include <dlfcn.h>
#include <nccl.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define LIBRARY "libnccl.so." TEXT(NCCL_MAJOR)

/* The library's own function, or NULL. The first call is the main thread's. */
static void *find(const char *name) {
    static void *library; /* open until the process ends */
    if (library == NULL)
        library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    return library == NULL ? NULL : dlsym(library, name);
}

#define PASS_ON(name, parameters, arguments)                                                                 \
    ncclResult_t name parameters {                                                                           \
        static __typeof__(name) *own;                                                                        \
        if (own == NULL)                                                                                     \
            *(void **)&own = find(#name);                                                                    \
        return own == NULL ? ncclSystemError : own arguments;                                                \
    }

PASS_ON(ncclGetVersion, (int *version), (version))
PASS_ON(ncclGetUniqueId, (ncclUniqueId * id), (id))
PASS_ON(ncclCommInitRankConfig,
        (ncclComm_t * comm, int n_ranks, ncclUniqueId id, int rank, ncclConfig_t *config),
        (comm, n_ranks, id, rank, config))
PASS_ON(ncclCommCount, (const ncclComm_t comm, int *count), (comm, count))
PASS_ON(ncclCommGetAsyncError, (ncclComm_t comm, ncclResult_t *state), (comm, state))
PASS_ON(ncclCommAbort, (ncclComm_t comm), (comm))
PASS_ON(ncclSend,
        (const void *from, size_t n, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream),
        (from, n, type, peer, comm, stream))
PASS_ON(ncclRecv, (void *to, size_t n, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream),
        (to, n, type, peer, comm, stream))

const char *ncclGetErrorString(ncclResult_t code) {
    static __typeof__(ncclGetErrorString) *own;
    if (own == NULL)
        *(void **)&own = find("ncclGetErrorString");
    return own == NULL ? LIBRARY " is not there" : own(code);
}

const char *ncclGetLastError(ncclComm_t comm) {
    static __typeof__(ncclGetLastError) *own;
    if (own == NULL)
        *(void **)&own = find("ncclGetLastError");
    return own == NULL ? "" : own(comm);
}
