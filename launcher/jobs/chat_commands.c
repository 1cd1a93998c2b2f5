/* What a person may say to the chat itself: lines that begin with a slash. */
#include <string.h>

#include "launcher/jobs/chat.h"

static int n_system(const cdp_messages *messages) {
    return messages->n > 0 && strcmp(messages->data[0].role, "system") == 0;
}

static cdp_status reset(cdp_chat_job *job, const char *rest) {
    (void)rest;
    cdp_messages_cut(&job->messages, n_system(&job->messages));
    return CDP_OK;
}

/* The rest of the conversation stays; without a text there is no system message any more. */
static cdp_status set_system(cdp_chat_job *job, const char *text) {
    cdp_messages fresh = {0};
    cdp_status st = CDP_OK;
    if (*text != '\0')
        st = cdp_messages_add(&fresh, "system", text, strlen(text));
    for (int i = n_system(&job->messages); st == CDP_OK && i < job->messages.n; i++) {
        const cdp_message *m = &job->messages.data[i];
        st = cdp_messages_add(&fresh, m->role, m->content, m->n_content);
    }
    if (st == CDP_OK) {
        const cdp_messages old = job->messages;
        job->messages = fresh;
        fresh = old;
    }
    cdp_messages_close(&fresh);
    return st;
}

static cdp_status need_file(const char *command, const char *rest) {
    return *rest != '\0' ? CDP_OK : cdp_fail(CDP_USAGE, "%s needs the name of a file", command);
}

static cdp_status save(cdp_chat_job *job, const char *path) {
    CDP_TRY(need_file("/save", path));
    return cdp_messages_save(&job->messages, path);
}

static cdp_status load(cdp_chat_job *job, const char *path) {
    cdp_messages loaded;
    CDP_TRY(need_file("/load", path));
    CDP_TRY(cdp_messages_load(&loaded, path));
    cdp_messages_close(&job->messages);
    job->messages = loaded;
    return CDP_OK;
}

static cdp_status stats(cdp_chat_job *job, const char *rest) {
    const cdp_chat_turn *t = &job->last;
    (void)rest;
    fprintf(stderr, "# %d messages, %d turns; context %d of %d tokens\n", job->messages.n, job->n_turns,
            t->n_prompt + t->n_answer, job->run->plan->run.ctx);
    if (job->n_turns > 0)
        fprintf(stderr,
                "# last turn: %d prompt tokens, %d kept and %d computed, first token after %.2f s; answer %d "
                "tokens, %.1f a second\n",
                t->n_prompt, t->n_kept, t->n_prompt - t->n_kept, t->first_token_s, t->n_answer,
                t->answer_s > 0 ? (t->n_answer - 1) / t->answer_s : 0.0);
    return CDP_OK;
}

static cdp_status help(cdp_chat_job *job, const char *rest) {
    (void)job;
    (void)rest;
    fputs("# /reset          forget the conversation\n"
          "# /system TEXT    what the model is told first\n"
          "# /save FILE      write the conversation as JSON\n"
          "# /load FILE      go on with one\n"
          "# /stats          tokens and times\n"
          "# /exit           end\n",
          stderr);
    return CDP_OK;
}

static cdp_status leave(cdp_chat_job *job, const char *rest) {
    (void)job;
    (void)rest;
    return CDP_OK;
}

static const struct {
    const char *name;
    cdp_status (*run)(cdp_chat_job *job, const char *rest);
} commands[] = {{"/reset", reset}, {"/system", set_system}, {"/save", save}, {"/load", load},
                {"/stats", stats}, {"/help", help},         {"/exit", leave}};

cdp_status cdp_chat_command(cdp_chat_job *job, const char *line, bool *is_over_out) {
    const size_t n = strcspn(line, " \t");
    const char *rest = line + n + strspn(line + n, " \t");
    char shown[80];
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strlen(commands[i].name) != n || strncmp(commands[i].name, line, n) != 0)
            continue;
        *is_over_out = commands[i].run == leave;
        return commands[i].run(job, rest);
    }
    return cdp_fail(CDP_USAGE, "\"%s\" is no command of the chat: /help lists them",
                    cdp_escape(shown, sizeof shown, line, n));
}
