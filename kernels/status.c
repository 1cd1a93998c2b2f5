#include "kernels/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/utf8.h"

/* The only state of the error trail; one per thread, because a reader thread may fail while the main thread
 * goes on. Whoever joins a thread carries its message over. */
static _Thread_local char message[1024];
static _Thread_local char trail[2048];

cdp_status cdp_fail(cdp_status code, const char *format, ...) {
    if (message[0] != '\0')
        return code;
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return code;
}

const char *cdp_error_message(void) {
    return message;
}
const char *cdp_error_trail(void) {
    return trail;
}

void cdp_error_clear(void) {
    message[0] = '\0';
    trail[0] = '\0';
}

void cdp_trail(const char *file, int line, const char *call) {
    const size_t used = strlen(trail);
    snprintf(trail + used, sizeof trail - used, "    at %s:%d  %.80s\n", file, line, call);
}

char *cdp_escape(char *out, size_t out_size, const char *text, size_t n) {
    size_t used = 0;
    for (size_t i = 0; i < n;) {
        if (used + 8 >= out_size) { /* room for one escape or the dots, and the NUL */
            snprintf(out + used, out_size - used, "...");
            return out;
        }
        const unsigned char *s = (const unsigned char *)text + i;
        size_t length;
        uint32_t code;
        if (cdp_utf8_next(s, n - i, &length, &code) != CDP_UTF8_WHOLE || code < 0x20 || code == 0x7F) {
            used += (size_t)snprintf(out + used, out_size - used, "\\x%02X", s[0]);
            i += 1;
        } else {
            memcpy(out + used, s, length);
            used += length;
            i += length;
        }
    }
    out[used] = '\0';
    return out;
}
