#include "kernels/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_speaking; /* the log level: set once at start, read by everybody */

void cdp_log_open(bool speaks) {
    is_speaking = speaks;
}
bool cdp_log_speaks(void) {
    return is_speaking;
}

static bool (*ready)(void); /* kernels/ cannot know what there is to look after meanwhile */

void cdp_log_set_ready(bool (*is_ready)(void)) {
    ready = is_ready;
}

void cdp_note(const char *format, ...) {
    if (!is_speaking)
        return;
    char line[2048] = "# ";
    va_list args;
    va_start(args, format);
    vsnprintf(line + 2, sizeof line - 3, format, args);
    va_end(args);
    size_t n = strlen(line);
    line[n++] = '\n';
    if (ready != NULL && !ready())
        return;
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* a note that nobody can read is no reason to stop */
}
