#include "launcher/batch/status_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/world.h"
#include "kernels/log.h"
#include "launcher/batch/disk.h"
#include "planner/json.h"

static void write_file(cdp_status_file *f, const char *exit_code, const char *reason) {
    char *text = NULL, host[64] = "?";
    size_t n = 0;
    FILE *to = f->path != NULL && !f->is_broken ? open_memstream(&text, &n) : NULL;
    if (to == NULL)
        return;
    gethostname(host, sizeof host - 1);
    fprintf(to, "{\"state\": \"%s\", \"exit_code\": %s, \"reason\": ", f->state, exit_code);
    cdp_json_write_quoted(to, reason, strlen(reason));
    fputs(", \"host\": ", to);
    cdp_json_write_quoted(to, host, strlen(host));
    fprintf(to,
            ", \"pid\": %ld, \"ranks\": %d, \"done\": %" PRIu64 ", \"failed\": %" PRIu64
            ", \"total\": %" PRIu64 ", \"time\": %lld}\n",
            (long)getpid(), f->n_ranks, f->n_done, f->n_failed, f->n_total, (long long)time(NULL));
    if (fclose(to) == 0 &&
        cdp_disk_replace(&cdp_disk_real, f->path, text, n, /*is_durable=*/false) != CDP_OK) {
        cdp_note("the status file is given up: %s", cdp_error_message());
        cdp_error_clear();
        f->is_broken = true;
    }
    free(text);
    f->written_ns = cdp_now_ns();
}

void cdp_status_file_enter(cdp_status_file *f, const char *state) {
    f->state = state;
    write_file(f, "null", "");
}

void cdp_status_file_turn(cdp_status_file *f) {
    if (f->path != NULL && cdp_now_ns() - f->written_ns >= 1000000000)
        write_file(f, "null", "");
}

void cdp_status_file_end(cdp_status_file *f, cdp_status exit_code, const char *reason) {
    char code[16], *kept = strdup(reason); /* writing may touch the message it comes from */
    snprintf(code, sizeof code, "%d", (int)exit_code);
    f->state = exit_code == CDP_OK ? "done" : exit_code == CDP_STOPPED ? "stopped" : "failed";
    write_file(f, code, kept != NULL ? kept : "");
    free(kept);
}
