/* launcher/jobs/jobs.h - one function a command. Each returns the status that becomes the exit code; its
 * message is in cdp_error_message. Those that take a run are collective over the world (devices too, where it
 * has one); the others run alone. */
#pragma once

#include "launcher/run.h"

cdp_status cdp_job_generate(cdp_run *run, cdp_options *options, cdp_world *world);
cdp_status cdp_job_lens(cdp_run *run, cdp_options *options, cdp_world *world);
cdp_status cdp_job_score(cdp_run *run, cdp_options *options, cdp_world *world);
cdp_status cdp_job_bench(cdp_run *run, cdp_options *options, cdp_world *world);
cdp_status cdp_job_batch(cdp_run *run, cdp_options *options, cdp_world *world);
cdp_status cdp_job_chat(cdp_run *run, cdp_options *options, cdp_world *world);
cdp_status cdp_job_plan(const cdp_options *options);
cdp_status cdp_job_devices(cdp_options *options, cdp_world *world); /* world may be NULL */
cdp_status cdp_job_tokenize(const cdp_options *options);
cdp_status cdp_job_status(const cdp_options *options);
cdp_status cdp_job_template(const cdp_options *options);
