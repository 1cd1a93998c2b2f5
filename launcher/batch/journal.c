#include "launcher/batch/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/death.h"

enum { PROVEN_LIMIT = 2, SILENT_LIMIT = 5, MAX_IN_FLIGHT = 65536 };

bool cdp_suspect_runs_alone(const cdp_suspect *s) {
    return s->n_proven > 0 || s->n_silent >= SILENT_LIMIT;
}

bool cdp_suspect_is_condemned(const cdp_suspect *s) {
    return (s->n_proven >= PROVEN_LIMIT && s->n_proven_alone > 0) || s->n_silent_alone >= SILENT_LIMIT;
}

/* Where a run lives: its host, that host's boot, and how many processes the kernel has killed there for want
 * of memory. A count that has grown is the only trace such a death leaves. */
typedef struct whereabouts {
    char host[64], boot[40];
    long n_oom_kills;
} whereabouts;

static whereabouts here(void) {
    whereabouts w = {.host = "?", .boot = "?", .n_oom_kills = (long)cdp_death_oom_kills()};
    gethostname(w.host, sizeof w.host - 1);
    FILE *boot = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (boot != NULL && fscanf(boot, "%39s", w.boot) != 1)
        strcpy(w.boot, "?");
    if (boot != NULL)
        fclose(boot);
    return w;
}

/* The reading of one run: what it had in flight and how it ended. */
typedef struct flight {
    whereabouts at;
    bool has_begun, has_stopped, is_proven;
    int n;
    struct {
        uint32_t line;
        bool is_alone;
    } * lines; /* (n) without a record */
    int room;
} flight;

static cdp_status take_off(flight *f, uint32_t line, bool is_alone, const cdp_ledger *ledger) {
    const int64_t index = cdp_ledger_find_line(ledger, line);
    if (index == CDP_NO_LINE || (cdp_ledger_marks(ledger, (uint32_t)index) & CDP_LEDGER_DONE) ||
        f->n == MAX_IN_FLIGHT)
        return CDP_OK;
    if (f->n == f->room) {
        f->room = 2 * f->room + 16;
        void *grown = realloc(f->lines, (size_t)f->room * sizeof *f->lines);
        if (grown == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for the attempts of a job");
        f->lines = grown;
    }
    f->lines[f->n].line = line;
    f->lines[f->n++].is_alone = is_alone;
    return CDP_OK;
}

static cdp_suspect *find_charged(cdp_journal *j, uint32_t line) {
    for (int i = 0; i < j->n_charged; i++)
        if (j->charged[i].line == line)
            return &j->charged[i];
    if (j->n_charged == j->room) {
        const int room = 2 * j->room + 16;
        cdp_suspect *grown = realloc(j->charged, (size_t)room * sizeof *grown);
        if (grown == NULL)
            return NULL;
        j->charged = grown;
        j->room = room;
    }
    j->charged[j->n_charged] = (cdp_suspect){.line = line};
    return &j->charged[j->n_charged++];
}

/* The run is over: charge what it had in flight. A rank that dies makes mpirun tell the others to stop, and
 * rank 0 does so in order: `stop` acquits only where there is no evidence. */
static cdp_status land(cdp_journal *j, flight *f, const whereabouts *after) {
    const bool was_oom = strcmp(f->at.host, after->host) == 0 && strcmp(f->at.boot, after->boot) == 0 &&
                         after->n_oom_kills > f->at.n_oom_kills;
    const bool has_died = f->has_begun && (f->is_proven || was_oom || !f->has_stopped);
    for (int i = 0; has_died && i < f->n; i++) {
        cdp_suspect *s = find_charged(j, f->lines[i].line);
        if (s == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for the attempts of a job");
        const bool is_proven = f->is_proven || (was_oom && !f->has_stopped);
        s->n_proven += is_proven;
        s->n_proven_alone += is_proven && f->lines[i].is_alone;
        s->n_silent += !is_proven;
        s->n_silent_alone += !is_proven && f->lines[i].is_alone;
    }
    f->n = 0;
    f->has_begun = f->has_stopped = f->is_proven = false;
    return CDP_OK;
}

static cdp_status take_line(cdp_journal *j, flight *f, const char *text, const cdp_ledger *ledger) {
    uint32_t line;
    long pid;
    whereabouts at = {.host = ""};
    if (sscanf(text, "run %ld %63s %39s %ld", &pid, at.host, at.boot, &at.n_oom_kills) == 4) {
        CDP_TRY(land(j, f, &at));
        f->has_begun = true;
        f->at = at;
        snprintf(j->holder, sizeof j->holder, "pid %ld on %s", pid, at.host);
    } else if (sscanf(text, "start %" SCNu32, &line) == 1) {
        return take_off(f, line, false, ledger);
    } else if (sscanf(text, "alone %" SCNu32, &line) == 1) {
        return take_off(f, line, true, ledger);
    } else if (strncmp(text, "crash ", 6) == 0) {
        f->is_proven = true;
    } else if (strcmp(text, "stop\n") == 0) {
        f->has_stopped = true;
    }
    return CDP_OK;
}

cdp_status cdp_journal_read(cdp_journal *out, const cdp_disk *disk, const char *output,
                            const cdp_ledger *ledger) {
    *out = (cdp_journal){.disk = disk, .fd = -1};
    if (asprintf(&out->path, "%s.attempts", output) < 0) {
        out->path = NULL;
        return cdp_fail(CDP_SYSTEM, "no memory for a path");
    }
    FILE *from = fopen(out->path, "re");
    if (from == NULL)
        return errno == ENOENT ? CDP_OK : cdp_fail(CDP_IO, "%s: %s", out->path, strerror(errno));
    char *text = NULL;
    size_t room = 0;
    flight f = {.n = 0};
    cdp_status st = CDP_OK;
    while (st == CDP_OK && getline(&text, &room, from) >= 0)
        st = take_line(out, &f, text, ledger);
    const whereabouts now = here();
    if (st == CDP_OK)
        st = land(out, &f, &now);
    free(f.lines);
    free(text);
    fclose(from);
    return st;
}

static cdp_status append(cdp_journal *j, const char *text) {
    return cdp_disk_write(j->disk, j->fd, j->path, text, strlen(text));
}

/* A run that died may have torn its last line: a newline first makes the next one whole. */
cdp_status cdp_journal_begin(cdp_journal *j) {
    char text[256];
    const whereabouts w = here();
    errno = 0;
    j->fd = open(j->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (j->fd < 0)
        return cdp_fail(CDP_IO, "%s: %s", j->path, strerror(errno));
    snprintf(text, sizeof text, "\nrun %ld %s %s %ld\n", (long)getpid(), w.host, w.boot, w.n_oom_kills);
    snprintf(j->holder, sizeof j->holder, "pid %ld on %s", (long)getpid(), w.host);
    return append(j, text);
}

cdp_status cdp_journal_start(cdp_journal *j, uint32_t line, bool is_alone) {
    char text[32];
    if (j->fd < 0)
        return CDP_OK;
    snprintf(text, sizeof text, "%s %u\n", is_alone ? "alone" : "start", line);
    return append(j, text);
}

cdp_status cdp_journal_stop(cdp_journal *j) {
    return j->fd < 0 ? CDP_OK : append(j, "stop\n");
}

void cdp_journal_remove(cdp_journal *j) {
    if (j->path != NULL)
        unlink(j->path);
}

void cdp_journal_close(cdp_journal *j) {
    if (j->fd >= 0)
        close(j->fd);
    free(j->path);
    free(j->charged);
    *j = (cdp_journal){.fd = -1};
}
