#include "comm/queueing.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint64_t waited_by(int tid) {
    char path[64];
    unsigned long long ran_ns, waited_ns;
    snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", tid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0; /* it has ended */
    const int n = fscanf(file, "%llu %llu", &ran_ns, &waited_ns);
    fclose(file);
    return n == 2 ? waited_ns : 0;
}

void cdp_queueing_read(cdp_queueing *out, int64_t now_ns) {
    const int self = (int)gettid();
    out->at_ns = now_ns;
    out->n = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL)
        return;
    for (struct dirent *entry; out->n < CDP_QUEUEING_THREADS && (entry = readdir(tasks)) != NULL;) {
        const int tid = (int)strtol(entry->d_name, NULL, 10);
        if (tid <= 0 || tid == self)
            continue;
        out->threads[out->n].tid = tid;
        out->threads[out->n++].waited_ns = waited_by(tid);
    }
    closedir(tasks);
}

double cdp_queueing_share(const cdp_queueing *before, const cdp_queueing *after) {
    uint64_t most_ns = 0;
    if (before->at_ns == 0 || after->at_ns <= before->at_ns)
        return 0;
    for (int i = 0; i < after->n; i++)
        for (int k = 0; k < before->n; k++) {
            if (before->threads[k].tid != after->threads[i].tid)
                continue;
            const uint64_t from_ns = before->threads[k].waited_ns, to_ns = after->threads[i].waited_ns;
            if (to_ns > from_ns && to_ns - from_ns > most_ns)
                most_ns = to_ns - from_ns;
        }
    const double share = (double)most_ns / (double)(after->at_ns - before->at_ns);
    return share < 1 ? share : 1;
}
