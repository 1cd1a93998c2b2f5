#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "launcher/template/template.h"

cdp_status cdp_clock_read(cdp_clock *out) {
    const char *given = getenv("CDPIPE_NOW");
    if (given == NULL || given[0] == '\0') {
        const time_t now = time(NULL);
        struct tm tm;
        localtime_r(&now, &tm);
        *out = (cdp_clock){tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec};
        return CDP_OK;
    }
    int n = 0;
    const int read = sscanf(given, "%4d-%2d-%2dT%2d:%2d:%2d%n", &out->year, &out->month, &out->day,
                            &out->hour, &out->minute, &out->second, &n);
    if (read != 6 || given[n] != '\0' || out->year < 1000 || out->month < 1 || out->month > 12 ||
        out->day < 1 || out->day > 31 || out->hour < 0 || out->hour > 23 || out->minute < 0 ||
        out->minute > 59 || out->second < 0 || out->second > 60) {
        char shown[64];
        return cdp_fail(CDP_USAGE, "CDPIPE_NOW: \"%s\" is no time like 2026-03-07T15:04:05",
                        cdp_escape(shown, sizeof shown, given, strlen(given)));
    }
    return CDP_OK;
}
