#include "launcher/loading.h"

#include <stdio.h>
#include <stdlib.h>

#include "comm/watchdog.h"
#include "kernels/log.h"
#include "launcher/bar.h"

static const int64_t second = 1000000000, pause_ns = 200000000; /* between two words to the others */

/* What a rank tells the others. */
typedef struct rank_load {
    uint64_t n_read, n_total;
    double done_s; /* when it had all; 0: not yet */
    bool is_done, has_failed;
} rank_load;

typedef struct loading {
    cdp_world *world;
    cdp_loader *loader;
    rank_load mine, told, *all; /* (size) */
    int64_t began_ns, shown_ns, next_ns;
    bool has_bar, was_shown, is_telling;
} loading;

/* One look at this rank's own part, until it is done. */
static cdp_status read_on(loading *l) {
    if (l->mine.is_done)
        return CDP_OK;
    CDP_TRY(cdp_loader_poll(l->loader, &l->mine.is_done));
    cdp_loader_progress(l->loader, &l->mine.n_read, &l->mine.n_total);
    if (cdp_stop_wanted())
        return cdp_fail(CDP_STOPPED, "stopped by a signal while loading");
    if (l->mine.is_done)
        l->mine.done_s = (double)(cdp_now_ns() - l->began_ns) * 1e-9;
    return CDP_OK;
}

/* Tell the others five times a second, and at once when there is nothing left to do; *has_news_out true when
 * `all` is new. Nobody waits here: a rank that others keep waiting goes on reading. */
static cdp_status tell(loading *l, bool *has_news_out) {
    const int64_t now = cdp_now_ns();
    *has_news_out = false;
    if (!l->is_telling) {
        if (!l->mine.is_done && !l->mine.has_failed && now < l->next_ns)
            return CDP_OK;
        l->told = l->mine;
        CDP_TRY(cdp_world_gather_start(l->world, l->all, &l->told, sizeof l->told));
        l->is_telling = true;
        l->next_ns = now + pause_ns;
    }
    CDP_TRY(cdp_world_gather_test(l->world, has_news_out));
    l->is_telling = !*has_news_out;
    return CDP_OK;
}

static double share_of(const rank_load *r) {
    return r->n_total > 0 ? (double)r->n_read / (double)r->n_total : 1;
}

/* "weights: 1.05 of 2.47 GB, 0.95 GB/s, rank 2 is at 38 %" */
static void describe(char *out, size_t out_size, const rank_load *sum, double elapsed_s, int slowest,
                     double share) {
    const int n = snprintf(out, out_size, "weights: %.2f of %.2f GB, %.2f GB/s", (double)sum->n_read * 1e-9,
                           (double)sum->n_total * 1e-9, (double)sum->n_read * 1e-9 / elapsed_s);
    if (slowest >= 0 && n > 0 && (size_t)n < out_size)
        snprintf(out + n, out_size - (size_t)n, ", rank %d is at %.0f %%", slowest, 100 * share);
}

static void show(loading *l, bool is_end) {
    const int64_t now = cdp_now_ns(), since = l->was_shown ? l->shown_ns : l->began_ns;
    const int64_t pause = l->has_bar ? (l->was_shown ? 0 : second) : 10 * second;
    const int size = cdp_world_size(l->world);
    const double elapsed_s = (double)(now - l->began_ns) * 1e-9;
    char text[160];
    if (!cdp_log_speaks() || (is_end ? elapsed_s < 1 : now - since < pause))
        return;
    rank_load sum = {0};
    int slowest = 0;
    for (int i = 0; i < size; i++) {
        sum.n_read += l->all[i].n_read;
        sum.n_total += l->all[i].n_total;
        const bool is_slower = is_end ? l->all[i].done_s > l->all[slowest].done_s
                                      : share_of(&l->all[i]) < share_of(&l->all[slowest]);
        slowest = is_slower ? i : slowest;
    }
    describe(text, sizeof text, &sum, elapsed_s, size > 1 && !is_end ? slowest : -1,
             share_of(&l->all[slowest]));
    if (is_end && size > 1)
        cdp_note("%s, rank %d was the last: %.2f GB at %.2f GB/s", text, slowest,
                 (double)l->all[slowest].n_read * 1e-9,
                 (double)l->all[slowest].n_read * 1e-9 / l->all[slowest].done_s);
    else if (is_end || !l->has_bar)
        cdp_note("%s", text);
    else
        cdp_bar_show(sum.n_read, sum.n_total, text);
    l->shown_ns = now;
    l->was_shown = true;
}

/* True when every rank is done or one has failed. */
static bool is_over(const loading *l) {
    bool are_done = true, has_failed = false;
    for (int i = 0; i < cdp_world_size(l->world); i++) {
        are_done = are_done && l->all[i].is_done;
        has_failed = has_failed || l->all[i].has_failed;
    }
    return are_done || has_failed;
}

static cdp_status load(loading *l) {
    cdp_status st = l->loader != NULL ? cdp_loader_start(l->loader) : CDP_OK;
    for (cdp_waiter waiter = {0};; cdp_wait_pause(&waiter)) {
        bool has_news;
        CDP_TRY(cdp_world_poll(l->world));
        if (st == CDP_OK)
            st = read_on(l);
        l->mine.has_failed = st != CDP_OK;
        if (l->mine.is_done || l->mine.has_failed)
            cdp_watchdog_note(l->world, CDP_STARTING, 0, 0, 0); /* waiting for the others is fine */
        CDP_TRY(tell(l, &has_news));
        if (has_news && is_over(l))
            return st;
        if (has_news)
            show(l, /*is_end=*/false);
    }
}

cdp_status cdp_loading_run(cdp_world *world, cdp_loader *loader, int first_layer, int end_layer) {
    loading l = {.world = world,
                 .loader = loader,
                 .mine = {.is_done = loader == NULL},
                 .all = calloc((size_t)cdp_world_size(world), sizeof *l.all),
                 .began_ns = cdp_now_ns(),
                 .next_ns = cdp_now_ns() + pause_ns,
                 .has_bar = cdp_bar_is_due()};
    CDP_TRY(cdp_world_agree(world, l.all != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the ranks")));
    if (loader != NULL)
        cdp_watchdog_note(world, CDP_LOADING, 0, first_layer, end_layer - 1);
    const cdp_status st = load(&l);
    if (l.has_bar && l.was_shown)
        cdp_bar_clear();
    if (st == CDP_OK && l.all[cdp_world_rank(world)].is_done)
        show(&l, /*is_end=*/true);
    cdp_watchdog_note(world, CDP_STARTING, 0, 0, 0);
    free(l.all);
    return st;
}
