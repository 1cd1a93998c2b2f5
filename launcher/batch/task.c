/* One line at work: read, turned into a prompt, completed, recorded. */
#include <stdlib.h>
#include <string.h>

#include "launcher/batch/batch.h"
#include "launcher/batch/record.h"
#include "planner/json.h"

enum { LINES_A_CALL = 64 };

cdp_status cdp_batch_open_tasks(cdp_batch *batch, int max_batch) {
    /* Some wait at the door: a slot that becomes free is filled in the next step. */
    batch->n_tasks = max_batch + (max_batch + 3) / 4;
    batch->tasks = calloc((size_t)batch->n_tasks, sizeof *batch->tasks);
    if (batch->tasks == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %d lines at once", batch->n_tasks);
    for (int i = 0; i < batch->n_tasks; i++)
        batch->tasks[i].batch = batch;
    return cdp_sampler_open(&batch->sampler, batch->run->card->vocab);
}

static void clear_task(cdp_task *task) {
    cdp_completion_close(&task->completion);
    cdp_prompt_close(&task->prompt);
    cdp_line_close(&task->line);
    task->batch->n_busy -= task->is_busy;
    task->is_busy = task->has_ended = false;
}

static cdp_status write_record(cdp_task *task, cdp_status made, cdp_record *record, bool is_error) {
    cdp_batch *batch = task->batch;
    cdp_status st = made;
    if (st == CDP_OK)
        st = cdp_output_add(&batch->output, record->text, record->n);
    free(record->text);
    if (st == CDP_OK)
        cdp_ledger_mark_done(&batch->input.ledger, task->index, is_error);
    return st;
}

/* The fault of one line: its message becomes its record. */
static cdp_status record_fault(cdp_task *task, const char *type, int n_attempts) {
    cdp_record record;
    char *message = strdup(cdp_error_message());
    cdp_error_clear();
    const cdp_status made =
        cdp_record_error(&record, &task->line, type, message != NULL ? message : "", n_attempts);
    free(message);
    return write_record(task, made, &record, true);
}

/* What is wrong with a line, and not with the run. */
static bool is_line_fault(cdp_status st) {
    return st == CDP_BAD_DATA || st == CDP_USAGE || st == CDP_BAD_MODEL;
}

static cdp_status take_ids(cdp_task *task) {
    const cJSON *list = task->line.prompt_ids, *item;
    const int vocab = task->batch->run->card->vocab;
    const size_t n = (size_t)cJSON_GetArraySize(list);
    task->prompt.ids = calloc(n + 1, sizeof *task->prompt.ids);
    if (task->prompt.ids == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for %zu ids", n);
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || !cdp_json_is_whole(item) || item->valuedouble < 0 ||
            item->valuedouble >= vocab)
            return cdp_fail(CDP_BAD_DATA, "line %u: prompt_ids: number %zu is no id from 0 to %d",
                            task->line.number, task->prompt.n_ids + 1, vocab - 1);
        task->prompt.ids[task->prompt.n_ids++] = (int32_t)item->valuedouble;
    }
    return n > 0 ? CDP_OK : cdp_fail(CDP_BAD_DATA, "line %u: the prompt is empty", task->line.number);
}

/* Through the model's chat template, as generate does it. */
static cdp_status take_messages(cdp_task *task) {
    const cdp_batch *batch = task->batch;
    if (batch->chat == NULL)
        return cdp_fail(CDP_BAD_DATA, "line %u: messages need a chat template: %s", task->line.number,
                        batch->no_chat);
    const char *text = task->line.messages_text;
    const cdp_conversation conversation = {.messages = text, .n_messages = strlen(text)};
    return cdp_prompt_encode_conversation(&task->prompt, &conversation, batch->chat, batch->run->tokenizer,
                                          batch->run->card);
}

static cdp_status make_prompt(cdp_task *task) {
    const cdp_run *run = task->batch->run;
    const cdp_line *line = &task->line;
    if (line->messages != NULL)
        return take_messages(task);
    if (run->tokenizer == NULL && line->options.n_stops > 0)
        return cdp_fail(CDP_BAD_DATA, "line %u: stop looks for a text, but the model has no tokenizer.json",
                        line->number);
    if (line->prompt_ids != NULL)
        return take_ids(task);
    if (run->tokenizer == NULL)
        return cdp_fail(CDP_BAD_DATA, "line %u: the model has no tokenizer.json: give prompt_ids",
                        line->number);
    task->prompt.text = strdup(line->prompt);
    if (task->prompt.text == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a prompt");
    task->prompt.n_text = strlen(line->prompt);
    return cdp_prompt_encode(&task->prompt, &line->options, run->tokenizer, run->card);
}

static void on_end(void *of) {
    ((cdp_task *)of)->has_ended = true;
}

static cdp_status submit(cdp_task *task, bool is_alone) {
    cdp_batch *batch = task->batch;
    const cdp_line *line = &task->line;
    cdp_completion_request request = {.id = line->id,
                                      .prompt = task->prompt.ids,
                                      .n_prompt = task->prompt.n_ids,
                                      .decoding = &task->decoding,
                                      .stops = line->options.stops,
                                      .n_stops = line->options.n_stops,
                                      .ignores_eos = line->options.ignore_eos,
                                      .on_end = on_end,
                                      .of = task};
    CDP_TRY(cdp_completion_limit(&request.limit, request.n_prompt, line->options.max_new_tokens,
                                 batch->run->plan->run.ctx));
    CDP_TRY(cdp_decoding_settle(&task->decoding, line->options.decoding, &line->options, batch->run->card));
    cdp_sampling_settle(&request.sampling, &line->options, &batch->given, batch->run->card->vocab);
    CDP_TRY(cdp_journal_start(&batch->journal, line->number, is_alone));
    task->is_busy = true;
    batch->n_busy++;
    return cdp_completion_start(&task->completion, batch->run, batch->sampler, &request);
}

static cdp_status start(cdp_task *task, uint32_t index, bool is_alone) {
    task->index = index;
    cdp_status st = cdp_input_line(&task->batch->input, index, &task->line);
    if (st == CDP_OK)
        st = cdp_line_read(&task->line, task->batch->options);
    if (st == CDP_OK)
        st = make_prompt(task);
    if (st == CDP_OK)
        st = submit(task, is_alone);
    if (is_line_fault(st)) {
        st = record_fault(task, "invalid_request", 0);
        clear_task(task);
    }
    return st;
}

/* It has killed the engine too often: it gets its record without another try. */
static cdp_status condemn(cdp_task *task, uint32_t index, const cdp_suspect *suspect) {
    const int n = suspect->n_proven + suspect->n_silent;
    task->index = index;
    cdp_status st = cdp_input_line(&task->batch->input, index, &task->line);
    if (st == CDP_OK || st == CDP_BAD_DATA) {
        cdp_error_clear();
        cdp_fail(CDP_INTERNAL, "line %u: %d runs died while it was in flight, also alone", task->line.number,
                 n);
        st = record_fault(task, "crashed_engine", n);
    }
    clear_task(task);
    return st;
}

static cdp_task *free_task(cdp_batch *batch) {
    for (int i = 0; i < batch->n_tasks; i++)
        if (!batch->tasks[i].is_busy)
            return &batch->tasks[i];
    return NULL;
}

static bool is_open(const cdp_batch *batch, uint32_t index) {
    return !(cdp_ledger_marks(&batch->input.ledger, index) & CDP_LEDGER_DONE);
}

/* Suspects go first, each alone. */
static cdp_status start_suspect(cdp_batch *batch, cdp_task *task) {
    const cdp_suspect *suspect = &batch->journal.charged[batch->next_suspect++];
    const int64_t index = cdp_ledger_find_line(&batch->input.ledger, suspect->line);
    if (index == CDP_NO_LINE || !is_open(batch, (uint32_t)index) || !cdp_suspect_runs_alone(suspect))
        return CDP_OK;
    if (cdp_suspect_is_condemned(suspect))
        return condemn(task, (uint32_t)index, suspect);
    CDP_TRY(start(task, (uint32_t)index, /*is_alone=*/true));
    batch->is_alone = task->is_busy;
    return CDP_OK;
}

cdp_status cdp_batch_start_lines(cdp_batch *batch) {
    for (int n = 0; n < LINES_A_CALL && !batch->is_alone; n++) {
        cdp_task *task = free_task(batch);
        const bool has_suspects = batch->next_suspect < batch->journal.n_charged;
        if (task == NULL || (!has_suspects && batch->next_index == batch->input.ledger.n))
            return CDP_OK;
        if (has_suspects) {
            CDP_TRY(start_suspect(batch, task));
            continue;
        }
        const uint32_t index = batch->next_index++;
        if (is_open(batch, index))
            CDP_TRY(start(task, index, /*is_alone=*/false));
    }
    return CDP_OK;
}

static cdp_status record_answer(cdp_task *task) {
    const cdp_options *o = task->batch->options;
    cdp_record record;
    const cdp_status st = cdp_completion_finish(&task->completion);
    if (is_line_fault(st))
        return record_fault(task, "non_finite_logits", 0);
    CDP_TRY(st);
    task->batch->n_tokens += (uint64_t)task->completion.n_tokens;
    return write_record(task,
                        cdp_record_answer(&record, &task->line, &task->completion, o->model, o->logits_hash),
                        &record, false);
}

cdp_status cdp_batch_collect(cdp_batch *batch) {
    for (int i = 0; i < batch->n_tasks; i++) {
        cdp_task *task = &batch->tasks[i];
        if (!task->has_ended)
            continue;
        CDP_TRY(record_answer(task));
        clear_task(task);
        batch->is_alone = false;
    }
    return CDP_OK;
}

bool cdp_batch_is_done(const cdp_batch *batch) {
    return batch->n_busy == 0 && batch->input.ledger.n_done == batch->input.ledger.n;
}
