/* status: how far a batch job is, from its output alone: the manifest, the records, the lock. A status file
 * that says "running" is not asked, because a run that was killed cannot take it back. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/batch/journal.h"
#include "launcher/batch/manifest.h"
#include "launcher/batch/output.h"
#include "launcher/batch/record.h"
#include "launcher/jobs/jobs.h"
#include "planner/json.h"

typedef struct seen {
    uint64_t n_done, n_failed, n_torn, n_total;
    bool is_held, is_whole;
    cdp_ledger ids; /* of the records, to find one that is there twice */
    char holder[160];
} seen;

static cdp_status on_record(void *of, const char *text, size_t n, uint64_t number) {
    seen *s = of;
    cdp_hash128 id;
    bool is_error;
    CDP_TRY(cdp_record_identify(&id, &is_error, text, n, number));
    s->n_done++;
    s->n_failed += is_error;
    return cdp_ledger_add(&s->ids, id, 0, (uint32_t)number, 0);
}

/* The number of lines the job has; what is there without a manifest is no batch job's. */
static cdp_status read_total(seen *s, const char *output, bool has_records) {
    cJSON *manifest = NULL;
    CDP_TRY(cdp_manifest_read(&manifest, output));
    const cJSON *lines = cdp_json_get(cdp_json_get(manifest, "input"), "lines");
    cdp_status st = CDP_OK;
    if (cJSON_IsNumber(lines))
        s->n_total = (uint64_t)lines->valuedouble;
    else if (manifest != NULL || has_records)
        st = cdp_fail(CDP_BAD_DATA, "%s has no manifest of a batch job", output);
    cJSON_Delete(manifest);
    return st;
}

static cdp_status judge(seen *s, const char *output) {
    uint32_t first, second;
    if (!cdp_ledger_sort(&s->ids, &first, &second))
        return cdp_fail(CDP_BAD_DATA, "%s: records %u and %u have the same id", output, first + 1,
                        second + 1);
    CDP_TRY(read_total(s, output, s->n_done > 0 || s->is_whole));
    if (s->n_done > s->n_total)
        return cdp_fail(CDP_BAD_DATA, "%s: %" PRIu64 " records, its manifest has %" PRIu64 " lines", output,
                        s->n_done, s->n_total);
    if (s->is_whole && (s->n_done < s->n_total || s->n_torn > 0))
        return cdp_fail(CDP_BAD_DATA, "%s is not in the making, but has %" PRIu64 " of %" PRIu64 " records",
                        output, s->n_done, s->n_total);
    return s->is_whole ? CDP_OK : CDP_STOPPED;
}

static cdp_status look(seen *s, const char *output) {
    cdp_output out;
    cdp_journal journal = {.fd = -1};
    cdp_status st = cdp_output_look(&out, output, &s->is_held);
    if (st == CDP_OK && out.state == CDP_OUTPUT_STREAM)
        st = cdp_fail(CDP_BAD_DATA, "%s is no regular file", output);
    if (st == CDP_OK)
        st = cdp_journal_read(&journal, &cdp_disk_real, output, &s->ids);
    if (st == CDP_OK)
        st = cdp_output_read(&out, on_record, s, &s->n_torn);
    s->is_whole = out.state == CDP_OUTPUT_WHOLE;
    memcpy(s->holder, journal.holder, sizeof s->holder);
    cdp_journal_close(&journal);
    cdp_output_close(&out);
    return st == CDP_OK ? judge(s, output) : st;
}

static const char *name_state(const seen *s, cdp_status st) {
    return st == CDP_OK ? "complete" : st != CDP_STOPPED ? "damaged" : s->is_held ? "running" : "unfinished";
}

static void print(const seen *s, const cdp_options *o, cdp_status st) {
    if (o->json) {
        printf("{\"output\": ");
        cdp_json_write_quoted(stdout, o->output, strlen(o->output));
        printf(", \"state\": \"%s\", \"done\": %" PRIu64 ", \"failed\": %" PRIu64 ", \"total\": %" PRIu64
               ", \"torn_bytes\": %" PRIu64 ", \"holder\": ",
               name_state(s, st), s->n_done, s->n_failed, s->n_total, s->n_torn);
        cdp_json_write_quoted(stdout, s->is_held ? s->holder : "", s->is_held ? strlen(s->holder) : 0);
        printf("}\n");
        return;
    }
    printf("%s: %" PRIu64 " of %" PRIu64 " done, %" PRIu64 " failed", name_state(s, st), s->n_done,
           s->n_total, s->n_failed);
    if (s->is_held)
        printf(", held by %s", s->holder[0] != '\0' ? s->holder : "another process");
    printf("\n");
}

cdp_status cdp_job_status(const cdp_options *options) {
    seen s = {0};
    cdp_status st = look(&s, options->output);
    if (st != CDP_NO_INPUT)
        print(&s, options, st);
    cdp_ledger_close(&s.ids);
    if (fflush(stdout) != 0)
        st = cdp_fail(CDP_IO, "writing the result: %s", strerror(errno));
    return st;
}
