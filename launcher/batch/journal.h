/* launcher/batch/journal.h - OUT.attempts: which prompt was in flight when a run died, so that one that kills
 * the engine each time cannot loop for ever.
 *
 *     run 4711 node7 BOOT 12      pid, host, boot id and the host's count of out-of-memory kills
 *     start 17                    line 17 of the input went to the engine
 *     alone 18                    the same, with no company
 *     crash 1 signal 11           rank 1 died by its own fault (evidence.h)
 *     stop                        the run ended in order
 *
 * A run without `stop`, or with `crash`, died; what it started and has no record was in flight. A kill from
 * outside (preemption, kill -9) is no fault of the prompts: without evidence a death counts little. One
 * culprit charges its whole company, so the charged run alone, before all others, and only what dies alone is
 * condemned:
 *
 *     suspect     1 death with evidence, or 5 without
 *     condemned   2 deaths with evidence, one of them alone; or 5 alone without
 *
 * The file is plain lines, appended by single writes; a run that completes removes it.
 */
#pragma once

#include "launcher/batch/disk.h"
#include "launcher/batch/ledger.h"

typedef struct cdp_suspect {
    uint32_t line; /* number in the input */
    int n_proven, n_proven_alone;
    int n_silent, n_silent_alone;
} cdp_suspect;

typedef struct cdp_journal {
    const cdp_disk *disk;
    char *path; /* OUT.attempts */
    int fd;
    cdp_suspect *charged; /* every line without a record that was in flight when a run died */
    int n_charged, room;
    char holder[160]; /* "pid 4711 on node7": who wrote the last run line, "" if nobody */
} cdp_journal;

/* Read what is there; lines that have their record in the ledger are acquitted. A torn or strange line is
 * passed over. Nothing is written. The caller closes *out in every case. */
cdp_status cdp_journal_read(cdp_journal *out, const cdp_disk *disk, const char *output,
                            const cdp_ledger *ledger);

/* This run begins; from here on the file is written. */
cdp_status cdp_journal_begin(cdp_journal *journal);
cdp_status cdp_journal_start(cdp_journal *journal, uint32_t line, bool is_alone);
cdp_status cdp_journal_stop(cdp_journal *journal);

/* The job is complete: the file goes. */
void cdp_journal_remove(cdp_journal *journal);
void cdp_journal_close(cdp_journal *journal);

bool cdp_suspect_runs_alone(const cdp_suspect *suspect);
bool cdp_suspect_is_condemned(const cdp_suspect *suspect);
