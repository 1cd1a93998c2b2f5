/* tests/standin/cudart.h - what the calls of the CUDA runtime begin and end with. */
#pragma once

#include "tests/standin/queues.h"

/* What every entry point returns through: the last error of the thread is kept. */
cudaError_t standin_note(cudaError_t code);

/* No driver, no GPU, another rank's GPU, or a context that is dead; else cudaSuccess. */
cudaError_t standin_context(const char *what);

/* Of a call that has waited for work: an error of it that stays, or one that is due now. */
cudaError_t standin_after_sync(void);

#define CONTEXT_OR_RETURN()                                                                                  \
    do {                                                                                                     \
        const cudaError_t context_code = standin_context(__func__);                                          \
        if (context_code != cudaSuccess)                                                                     \
            return standin_note(context_code);                                                               \
    } while (0)

/* Calls that may synchronise: not while a capture forbids them. */
#define UNCAPTURED_OR_RETURN()                                                                               \
    do {                                                                                                     \
        CONTEXT_OR_RETURN();                                                                                 \
        const cudaError_t capture_code = standin_forbidden_in_capture();                                     \
        if (capture_code != cudaSuccess)                                                                     \
            return standin_note(capture_code);                                                               \
    } while (0)

enum { STANDIN_STATIC_SHARED = 48 * 1024, STANDIN_OPTIN_SHARED = 227 * 1024 }; /* bytes a block may have */
