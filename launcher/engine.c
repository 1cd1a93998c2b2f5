#include "launcher/engine.h"

#include <stdlib.h>

#include "comm/packet.h"
#include "kernels/log.h"
#include "stage/seat.h"

struct cdp_engine {
    cdp_pipeline *pipeline;
    const cdp_plan *plan;
    const cdp_rope_card *rope;
    cdp_step step;        /* the one being built */
    int32_t *free_blocks; /* a stack of block numbers */
    int64_t n_free;
    int32_t *table; /* blocks of the sequence */
    int n_table, length, limit, rope_list;
    bool frees_first; /* the next step tells the stages to forget the last sequence */
};

cdp_status cdp_engine_open(cdp_engine **out, cdp_pipeline *pipeline, const cdp_model_card *card,
                           const cdp_plan *plan) {
    *out = NULL;
    cdp_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for the engine");
    engine->pipeline = pipeline;
    engine->plan = plan;
    engine->rope = &card->rope;
    engine->n_free = plan->n_blocks;
    engine->free_blocks = calloc((size_t)plan->n_blocks + 1, sizeof *engine->free_blocks);
    engine->table = calloc((size_t)cdp_blocks_per_sequence(&plan->run) + 1, sizeof *engine->table);
    const cdp_packet_limits limits = {.max_rows = cdp_step_rows(&plan->run),
                                      .max_slots = plan->run.max_batch,
                                      .max_commands = cdp_max_commands(&plan->run)};
    cdp_status st = CDP_OK;
    if (engine->free_blocks == NULL || engine->table == NULL)
        st = cdp_fail(CDP_SYSTEM, "no memory for the block tables");
    else
        st = cdp_step_alloc(&engine->step, &limits);
    for (int64_t i = 0; st == CDP_OK && i < plan->n_blocks; i++) /* block 0 lies on top */
        engine->free_blocks[i] = (int32_t)(plan->n_blocks - 1 - i);
    if (st != CDP_OK)
        cdp_engine_close(engine);
    else
        *out = engine;
    return st;
}

void cdp_engine_close(cdp_engine *engine) {
    if (engine == NULL)
        return;
    cdp_step_free(&engine->step);
    free(engine->table);
    free(engine->free_blocks);
    free(engine);
}

cdp_status cdp_engine_start(cdp_engine *engine, int limit) {
    if (limit > engine->plan->run.ctx)
        return cdp_fail(CDP_BAD_DATA, "a sequence of %d tokens, but the run is planned for %d (--ctx)", limit,
                        engine->plan->run.ctx);
    while (engine->n_table > 0)
        engine->free_blocks[engine->n_free++] = engine->table[--engine->n_table];
    engine->frees_first = engine->length > 0;
    engine->length = 0;
    engine->limit = limit;
    engine->rope_list = engine->rope->n_lists > 1 && limit > engine->rope->original_max ? 1 : 0;
    if (engine->rope->n_lists > 1)
        cdp_note("longrope: the %s list, for a sequence of up to %d tokens (original length %d)",
                 engine->rope_list == 1 ? "long" : "short", limit, engine->rope->original_max);
    return CDP_OK;
}

/* Blocks for positions up to `end`, each one an append command of the step. */
static cdp_status reserve_blocks(cdp_engine *engine, int end) {
    while (engine->n_table * CDP_KV_BLOCK_TOKENS < end) {
        if (engine->n_free == 0)
            return cdp_fail(CDP_INTERNAL, "no KV block left for position %d", end - 1);
        const int32_t block = engine->free_blocks[--engine->n_free];
        engine->step.commands[engine->step.n_commands++] =
            (cdp_kv_command){.verb = CDP_KV_APPEND, .slot = 0, .index = engine->n_table, .block = block};
        engine->table[engine->n_table++] = block;
    }
    return CDP_OK;
}

/* One chunk of the sequence as a step. */
static cdp_status build_step(cdp_engine *engine, const int32_t *tokens, int n, cdp_wants wants,
                             bool is_last) {
    cdp_step *step = &engine->step;
    step->kind = CDP_STEP_RUN;
    step->n_rows = n;
    step->n_home = 0;
    step->n_slots = 1;
    step->n_commands = 0;
    step->slots[0] = (cdp_step_slot){.slot = 0, .rope_list = engine->rope_list};
    if (engine->frees_first)
        step->commands[step->n_commands++] = (cdp_kv_command){.verb = CDP_KV_FREE, .slot = 0};
    engine->frees_first = false;
    CDP_TRY(reserve_blocks(engine, engine->length + n));
    for (int i = 0; i < n; i++) {
        const bool home = wants == CDP_WANTS_ALL || (wants == CDP_WANTS_LAST && is_last && i == n - 1);
        step->rows[i] = (cdp_row){
            .slot = 0, .position = engine->length + i, .token = tokens[i], .wants_home = home ? 1 : 0};
        step->n_home += home ? 1 : 0;
    }
    engine->length += n;
    return CDP_OK;
}

cdp_status cdp_engine_feed(cdp_engine *engine, const int32_t *tokens, int n, cdp_wants wants,
                           cdp_logits_sink sink, void *of) {
    if (engine->length + n > engine->limit)
        return cdp_fail(CDP_INTERNAL, "%d tokens fed to a sequence of %d that may reach %d", n,
                        engine->length, engine->limit);
    const int chunk = engine->plan->run.chunk;
    cdp_pipeline_set_sink(engine->pipeline, sink, of);
    for (int at = 0; at < n;) {
        if (!cdp_pipeline_has_room(engine->pipeline)) {
            CDP_TRY(cdp_pipeline_turn(engine->pipeline));
            continue;
        }
        if (cdp_stop_wanted())
            return CDP_STOPPED;
        const int size = n - at < chunk ? n - at : chunk;
        CDP_TRY(build_step(engine, tokens + at, size, wants, at + size == n));
        CDP_TRY(cdp_pipeline_begin(engine->pipeline, &engine->step));
        at += size;
    }
    while (cdp_pipeline_n_busy(engine->pipeline) > 0)
        CDP_TRY(cdp_pipeline_turn(engine->pipeline));
    return CDP_OK;
}
