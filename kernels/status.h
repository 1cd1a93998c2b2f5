/* kernels/status.h - how every function of cdpipe says what went wrong.
 *
 * A function that can fail returns a cdp_status. Where the fact is known, cdp_fail() is called once with
 * the one line that a person will read; on the way up CDP_TRY adds a hop to the trail.
 * launcher/main.c prints the line and ends the process with the status.
 *
 *     cdpipe: error: model.safetensors: tensor "a" appears twice
 *         at planner/tensor_index.c:88  read_header(...)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One code per class of failure; the number is also the exit code of the program (sysexits). */
typedef enum cdp_status {
    CDP_OK = 0,
    CDP_USAGE = 64,       /* wrong command line or environment */
    CDP_BAD_DATA = 65,    /* a prompt or input line that cannot be used */
    CDP_NO_INPUT = 66,    /* a file is missing or cannot be read */
    CDP_UNAVAILABLE = 69, /* no GPU, no peer, or the plan does not fit */
    CDP_INTERNAL = 70,    /* our own fault, the watchdog, a sticky device error */
    CDP_SYSTEM = 71,      /* the operating system refused: memory, threads, files */
    CDP_IO = 74,          /* reading or writing failed half way */
    CDP_STOPPED = 75,     /* stopped early by a signal: run again to go on */
    CDP_BAD_MODEL = 78,   /* a broken or unsupported model or configuration */
} cdp_status;

/* Keep the first message of this thread (printf style, no newline, no "error:") and return `code`. A
 * message that is already there stays: the first fault is the cause, later ones follow from it. Bytes that
 * come from outside pass through cdp_escape() first. */
cdp_status cdp_fail(cdp_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The message kept for this thread, "" if none. Valid until the next cdp_fail or cdp_error_clear. */
const char *cdp_error_message(void);

/* The hops of the trail, one line each, "" if none. */
const char *cdp_error_trail(void);

/* Forget message and trail of this thread: the fault was handled. */
void cdp_error_clear(void);

/* Add one hop to the trail; called by CDP_TRY. */
void cdp_trail(const char *file, int line, const char *call);

/* Copy n bytes of foreign text into out (at most out_size with its NUL), control bytes and bytes that are
 * not UTF-8 written as \xNN, cut with "..." where it is too long. Returns out. */
char *cdp_escape(char *out, size_t out_size, const char *text, size_t n);

#define CDP_TRY(call)                                                                                        \
    do {                                                                                                     \
        cdp_status st_ = (call);                                                                             \
        if (st_ != CDP_OK) {                                                                                 \
            cdp_trail(__FILE__, __LINE__, #call);                                                            \
            return st_;                                                                                      \
        }                                                                                                    \
    } while (0)

/* For functions that own things: on failure keep the status in `st` and go to the one cleanup label. */
#define CDP_TRY_GOTO(call, st, label)                                                                        \
    do {                                                                                                     \
        (st) = (call);                                                                                       \
        if ((st) != CDP_OK) {                                                                                \
            cdp_trail(__FILE__, __LINE__, #call);                                                            \
            goto label;                                                                                      \
        }                                                                                                    \
    } while (0)

#ifdef __cplusplus
}
#endif
