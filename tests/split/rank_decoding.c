/* rank_decoding FOLDER OPTIONS: every line of FOLDER/conservative.jsonl, consistency.jsonl and dola.jsonl at
 * once through a real ring, each with its own way of decoding and plain sequences between them; tokens,
 * layers and entropies against exact arithmetic. Prints one line of figures with a number that is the same
 * for any number of ranks; ends with 1 and a line where something differs. Options are those of cdpipe.
 *
 * A step whose margin is below what f32 can tell apart may go either way; from there on the sequence has
 * another context, so its reading ends.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/watchdog.h"
#include "launcher/completion/completion.h"
#include "planner/json.h"

enum { MAX_PLAYERS = 512, MAX_BATCH = 7, MAX_IDS = 128 };
static const double margin = 2e-3, score_margin = 2e-4, most_error = 1e-3, most_cosine_error = 2e-5;

typedef struct player {
    cJSON *line; /* NULL: plain company of the prompt */
    cdp_decoding decoding;
    cdp_sampling sampling;
    char id[16];
    int32_t prompt[MAX_IDS];
    int n_prompt, limit, twin; /* twin: a player that must get the same bits, or -1 */
    cdp_completion completion;
} player;

static player players[MAX_PLAYERS];
static int n_players;
static const char *folder;
static cdp_options base;
static int n_compared, n_skipped;

static double number(const cJSON *line, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(line, key);
    return cJSON_IsNumber(item) ? item->valuedouble : INFINITY; /* null: nothing was compared */
}
static double at(const cJSON *line, const char *key, int i) {
    const cJSON *item = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(line, key), i);
    return cJSON_IsNumber(item) ? item->valuedouble : INFINITY;
}
static const char *word(const cJSON *line, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(line, key)->valuestring;
}
static bool flag(const cJSON *line, const char *key) {
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(line, key));
}

/* The options of a conservative line. */
static void take_conservative(cdp_options *o, const cJSON *line, char *room) {
    const cJSON *window = cJSON_GetObjectItemCaseSensitive(line, "window");
    o->cd_method = word(line, "method");
    o->cd_p = number(line, "p");
    o->tap_window = "all";
    if (!cJSON_IsNull(window)) {
        sprintf(room, "%d", window->valueint);
        o->tap_window = room;
    }
}

static void take_dola(cdp_options *o, const cJSON *line, char *room) {
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(line, "layers"), *item;
    o->dola_js = word(line, "js_form");
    o->dola_norm = flag(line, "norm") ? "on" : "off";
    o->relative_top = number(line, "relative_top");
    o->dola_layers = cJSON_IsString(layers) ? layers->valuestring : room;
    *room = '\0';
    cJSON_ArrayForEach(item, layers) sprintf(room + strlen(room), "%s%d", *room ? "," : "", item->valueint);
}

static player *add_player(cdp_run *run, cJSON *line, const char *kind, const cdp_options *o, cdp_status *st) {
    player *p = &players[n_players];
    const cJSON *item;
    *p = (player){.line = line, .twin = -1, .sampling = cdp_sampling_default()};
    sprintf(p->id, "%d", n_players++);
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(line, "prompt_ids")) p->prompt[p->n_prompt++] =
        item->valueint;
    p->limit = p->n_prompt + cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(line, "token_ids"));
    *st = cdp_decoding_settle(&p->decoding, kind, o, run->card);
    return p;
}

/* A conservative line, the same lazily, and plain company where the line is no more than plain decoding. */
static cdp_status add_conservative(cdp_run *run, cJSON *line) {
    cdp_options o = base;
    char room[16];
    cdp_status st;
    take_conservative(&o, line, room);
    add_player(run, line, "conservative-dynamic", &o, &st);
    CDP_TRY(st);
    const int full = n_players - 1;
    o.cd_lazy = true;
    add_player(run, line, "conservative-dynamic", &o, &st)->twin = full;
    CDP_TRY(st);
    if (o.cd_p > 0 && strcmp(o.tap_window, "0") != 0)
        return CDP_OK;
    player *plain = add_player(run, line, "standard", &o, &st);
    plain->twin = full;
    plain->line = NULL;
    return st;
}

/* Its line, and with p = 0 the same as plain decoding. */
static cdp_status add_consistency(cdp_run *run, cJSON *line) {
    cdp_options o = base;
    char room[16];
    cdp_status st;
    take_conservative(&o, line, room);
    o.cd_consistency = number(line, "consistency");
    o.cd_decay = number(line, "decay");
    o.cd_entropy_top_k = (int)number(line, "top_k");
    add_player(run, line, "conservative-dynamic", &o, &st);
    CDP_TRY(st);
    player *plain = add_player(run, line, "standard", &o, &st);
    CDP_TRY(st);
    o.cd_p = 0;
    player *stays = add_player(run, line, "conservative-dynamic", &o, &st);
    stays->twin = n_players - 2;
    stays->line = plain->line = NULL;
    return st;
}

static cdp_status add_dola(cdp_run *run, cJSON *line) {
    cdp_options o = base;
    char room[256];
    cdp_status st;
    take_dola(&o, line, room);
    player *p = add_player(run, line, "dola", &o, &st);
    CDP_TRY(st);
    p->sampling.repetition_penalty = number(line, "repetition_penalty");
    /* transformers calls the bare head, without norm and scale; its form with the scale is a mixture that no
     * option asks for. */
    const bool is_bare = p->decoding.js == CDP_DOLA_JS_HF && !flag(line, "norm");
    if (is_bare && flag(line, "early_scale") && run->card->logit_scale != 1) {
        n_players--;
        cJSON_Delete(line);
    }
    return CDP_OK;
}

static cdp_status read_lines(cdp_run *run, const char *name, cdp_status (*add)(cdp_run *, cJSON *)) {
    char path[4200], *text = NULL;
    size_t room = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return cdp_fail(CDP_NO_INPUT, "%s is not there", path);
    while (getline(&text, &room, file) > 0 && n_players < MAX_PLAYERS - 3)
        CDP_TRY(add(run, cJSON_Parse(text)));
    free(text);
    fclose(file);
    return CDP_OK;
}

static cdp_status prepare(cdp_run *run, void *of, int *n_tokens_out) {
    (void)of;
    CDP_TRY(read_lines(run, "conservative.jsonl", add_conservative));
    CDP_TRY(read_lines(run, "consistency.jsonl", add_consistency));
    CDP_TRY(read_lines(run, "dola.jsonl", add_dola));
    for (int i = 0; i < n_players; i++) {
        *n_tokens_out = players[i].limit > *n_tokens_out ? players[i].limit : *n_tokens_out;
        run->n_taps = players[i].decoding.n_taps > run->n_taps ? players[i].decoding.n_taps : run->n_taps;
    }
    return CDP_OK;
}

static cdp_status differs(const player *p, int t, const char *what, double got, double want) {
    return cdp_fail(CDP_BAD_DATA, "sequence %s, token %d: %s is %.9g, exact %.9g", p->id, t, what, got, want);
}

/* How near the step came to another choice, as a share of the numbers that were compared. */
static bool is_fragile(const player *p, int t) {
    if (at(p->line, "token_margin", t) < margin || at(p->line, "entropy_margin", t) < margin ||
        at(p->line, "cut_margin", t) < margin || at(p->line, "score_margin", t) < score_margin)
        return true;
    const cJSON *js = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(p->line, "js"), t), *item;
    double most = 0;
    cJSON_ArrayForEach(item, js) most = item->valuedouble > most ? item->valuedouble : most;
    return at(p->line, "js_margin", t) < margin * most;
}

static cdp_status check_entropies(const player *p, const cdp_layer_log *log, int t) {
    const cJSON *want = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(p->line, "entropies"), t);
    for (int i = 0; i < log->n_layers; i++) {
        const double got = (double)log->nats[t * log->n_layers + i];
        if (want == NULL || isnan(got)) /* dola's rows, or a layer that was not looked at */
            continue;
        if (!(fabs(got - cJSON_GetArrayItem(want, i)->valuedouble) <= most_error))
            return differs(p, t, "an entropy", got, cJSON_GetArrayItem(want, i)->valuedouble);
    }
    return CDP_OK;
}

/* Every layer of the window was compared, and none below it. */
static cdp_status check_cosines(const player *p, const cdp_layer_log *log, int t) {
    const cJSON *want = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(p->line, "cosines"), t);
    for (int i = 0; log->cosines != NULL && i < log->n_layers; i++) {
        const double got = (double)log->cosines[t * log->n_layers + i];
        const cJSON *item = cJSON_GetArrayItem(want, i);
        const bool is_near =
            cJSON_IsNull(item) ? isnan(got) : fabs(got - item->valuedouble) <= most_cosine_error;
        if (!is_near)
            return differs(p, t, "a cosine", got, item->valuedouble);
    }
    return CDP_OK;
}

static cdp_status check(const player *p) {
    const cdp_completion *c = &p->completion;
    if (p->twin >= 0 && players[p->twin].completion.logits_hash != c->logits_hash)
        return cdp_fail(CDP_BAD_DATA, "sequence %s and its twin %d have other logits", p->id, p->twin);
    if (p->line == NULL)
        return CDP_OK;
    const cdp_layer_log *log = cdp_choice_log(c->choice);
    const char *layer = p->decoding.kind == CDP_DECODING_DOLA ? "chosen" : "selected_layers";
    for (int t = 0; t < c->n_tokens; t++) {
        CDP_TRY(check_entropies(p, log, t));
        CDP_TRY(check_cosines(p, log, t));
        if (is_fragile(p, t)) {
            n_skipped += c->n_tokens - t;
            return CDP_OK;
        }
        n_compared++;
        if (log->selected[t] != (int)at(p->line, layer, t))
            return differs(p, t, "the layer", log->selected[t], at(p->line, layer, t));
        if (c->tokens[t] != (int32_t)at(p->line, "token_ids", t))
            return differs(p, t, "the token", c->tokens[t], at(p->line, "token_ids", t));
    }
    if (c->n_tokens != p->limit - p->n_prompt)
        return differs(p, c->n_tokens, "the length", c->n_tokens, p->limit - p->n_prompt);
    return CDP_OK;
}

static cdp_status work(cdp_run *run, void *of) {
    cdp_sampler *sampler;
    uint64_t hash = 0;
    (void)of;
    CDP_TRY(cdp_sampler_open(&sampler, run->card->vocab));
    for (int i = 0; i < n_players; i++) {
        player *p = &players[i];
        const cdp_completion_request request = {.id = p->id,
                                                .prompt = p->prompt,
                                                .n_prompt = (size_t)p->n_prompt,
                                                .limit = p->limit,
                                                .sampling = p->sampling,
                                                .decoding = &p->decoding,
                                                .keeps_layers = true};
        CDP_TRY(cdp_completion_start(&p->completion, run, sampler, &request));
    }
    CDP_TRY(cdp_engine_run(run->engine));
    for (int i = 0; i < n_players; i++) {
        CDP_TRY(check(&players[i]));
        hash = hash * 31 + players[i].completion.logits_hash;
    }
    for (int i = 0; i < n_players; i++)
        cdp_completion_close(&players[i].completion);
    cdp_sampler_close(sampler);
    printf("ok, %d ranks, %d sequences, %d tokens compared, %d not, saw %016llx\n", run->size, n_players,
           n_compared, n_skipped, (unsigned long long)hash);
    return CDP_OK;
}

static void leave(int exit_code) {
    _Exit(exit_code);
}

int main(int argc, char **argv) {
    cdp_world *world = NULL;
    static cdp_run run;
    const cdp_watchdog_options watch = {.limit_s = 20, .leave = leave};
    const cdp_job_spec spec = {.prepare = prepare, .work = work, .max_batch = MAX_BATCH};
    folder = argv[1];
    cdp_status st = cdp_options_parse(&base, argc - 1, argv + 1);
    if (st == CDP_OK)
        st = cdp_world_open(&world);
    if (st == CDP_OK)
        st = cdp_watchdog_start(world, &watch);
    if (st == CDP_OK)
        st = cdp_run_job(&run, &base, world, &spec);
    if (st != CDP_OK)
        fprintf(stderr, "rank_decoding: %s\n", cdp_error_message());
    if (run.is_alone)
        _Exit(1);
    for (int i = 0; i < n_players; i++)
        if (players[i].twin < 0)
            cJSON_Delete(players[i].line);
    cdp_run_close(&run);
    cdp_watchdog_stop(world);
    cdp_world_close(world);
    return st == CDP_OK ? 0 : 1;
}
