/* launcher/jobs/chat.h - what a chat knows, shared by its turns and its commands. */
#pragma once

#include "launcher/completion/completion.h"
#include "launcher/completion/conversation.h"
#include "launcher/lines.h"
#include "launcher/report.h"
#include "launcher/template/chat.h"

typedef struct cdp_chat_turn {
    int n_prompt, n_kept, n_answer; /* tokens; n_kept of the prompt were in the cache */
    double first_token_s, answer_s;
} cdp_chat_turn;

typedef struct cdp_chat_job {
    const cdp_options *options;
    cdp_run *run;
    cdp_chat *template;
    cdp_lines *lines;
    cdp_messages messages; /* a system message, where there is one, is the first */
    cdp_sampling sampling;
    cdp_decoding decoding;
    cdp_sampler *sampler;
    cdp_chat_turn last;
    cdp_job_figures figures; /* of all turns */
    int n_turns;
    bool is_command; /* the line at hand */
} cdp_chat_job;

/* A line that begins with a slash. *is_over_out: /exit. CDP_USAGE for what is no command. */
cdp_status cdp_chat_command(cdp_chat_job *job, const char *line, bool *is_over_out);
