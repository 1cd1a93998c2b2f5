/* Which rank gets which GPU, and that the plan is what a GPU holds: fake GPUs of many kinds. */
#include "tests/support/spawn.h"

#include <cjson/cJSON.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STANDIN CDPIPE_TEST_BIN_DIR "/../standin/cdpipe"
#define MODEL "tests/golden/models/llama"
#define UUID(number) "GPU-5354414e-4449-4e00-0000-00000000000" #number
#define MIG(number) "MIG-5354414e-4449-4e00-0000-00000000000" #number

static test_run *make_run(int np, const char *gpus, const char *visible) {
    char line[256];
    test_run *run = test_run_open(60.0);
    snprintf(line, sizeof line, "STANDIN_GPUS=%s", gpus);
    test_run_env(run, line);
    if (visible != NULL) {
        snprintf(line, sizeof line, "CUDA_VISIBLE_DEVICES=%s", visible);
        test_run_env(run, line);
    } else {
        test_run_env(run, "CUDA_VISIBLE_DEVICES");
    }
    if (np > 1)
        test_run_mpirun(run, np);
    test_run_add(run, STANDIN, NULL);
    return run;
}

static void add_model(test_run *run) {
    test_run_add(run, "--model", MODEL, "--prompt-ids", "5,6,7", "--max-new-tokens", "2", "--temperature",
                 "0", "--ignore-eos", NULL);
}

static void expect(test_run *run, int code, const char *text) {
    test_run_go(run);
    if (run->exit_code != code || run->timed_out || strstr(run->err, text) == NULL)
        fail_msg("exit code %d (expected %d), timed out %d, expected \"%s\"; stdout: %s; stderr: %s",
                 run->exit_code, code, run->timed_out, text, run->out, run->err);
    assert_int_equal(test_run_left(run), 0);
}

static void gpus_are_given_by_rule(void **state) {
    (void)state;
    static const struct {
        int np;
        const char *gpus, *visible;
        const char *words[5];
        int code;
        const char *text;
    } cases[] = {
        {1, "1G,2G", NULL, {NULL}, 0, "GPU 0 stand-in GPU"}, /* the default kind is what is there */
        {1, "1G,2G", NULL, {"--device", "cuda:1"}, 0, "GPU 1 stand-in GPU"},
        {1, "1G,2G", NULL, {"--device-id", "1"}, 0, "GPU 1 stand-in GPU"},
        {1, "1G,2G", NULL, {"--device", "cuda:0", "--device-id", "1"}, 0, "GPU 1 stand-in GPU"},
        {1,
         "1G,2G",
         NULL,
         {"--device", "cuda:2"},
         69,
         "GPU 2 is not there: 2 GPUs are visible, counted from 0"},
        {1, "1G,2G", NULL, {"--device", "cpu"}, 0, "CPU "},
        {1, "none", NULL, {NULL}, 0, "CPU "},
        {1, "none", NULL, {"--device", "cuda"}, 69, "no GPU: the NVIDIA driver is missing or older than"},
        {1, "1G,2G", "", {"--device", "cuda"}, 69, "CUDA_VISIBLE_DEVICES is empty: no GPU visible"},
        {1, "1G,2G", "", {NULL}, 0, "CPU "},
        {1, "1G,2G,1G,1G", "0,7", {NULL}, 69, "entry 7 does not exist; CUDA ignores it and all after it"},
        {1, "1G,2G", "1,1", {NULL}, 69, "entry 1 stands there twice"},
        {1, "1G,2G", "GPU-dead", {"--device", "cuda"}, 69, "entry GPU-dead does not exist"},
        {1, "1G,2G", "1", {NULL}, 0, "GPU 0 stand-in GPU"},
        {1, "1G,2G", "0,-1,1", {NULL}, 69, "entry -1 is neither an index nor a GPU- or MIG- name"},
        {1, "1G,2G", "0," UUID(1), {NULL}, 69, "is of another form than the first one"},
        {1, "1G,2G", "MIG-dead", {"--device", "cuda"}, 69, "entry MIG-dead does not exist"},
        {1,
         "1G,2G",
         "GPU-5354",
         {"--device", "cuda"},
         69,
         "entry GPU-5354 does not exist"}, /* it means both */
        {1, "1G", "GPU-5354", {NULL}, 0, "GPU 0 stand-in GPU"},
        {1, "2G:mig,2G:mig", MIG(1), {NULL}, 0, "GPU 0 stand-in GPU"},
        {1, "2G:mig,2G:mig", NULL, {"--device", "cuda:1"}, 69, "GPU 1 is not there: 1 GPU is visible"},
        {2, "1G,2G", UUID(1) "," UUID(0), {"--device-map", "2,3"}, 0, "GPU 1 stand-in GPU"},
        {1,
         "1G@7.5,2G",
         NULL,
         {NULL},
         69,
         "GPU 0 stand-in GPU has compute capability 7.5, and cdpipe needs 8.0 or newer"},
        {1, "1G@7.5,2G@8.0", NULL, {"--device", "cuda:1"}, 0, "GPU 1 stand-in GPU"},
        {1, "1G@7.5", NULL, {"--device", "cpu"}, 0, "CPU "},
        {2,
         "2G,2G@6.1",
         NULL,
         {"--device-map", "2,3"},
         69,
         "rank 1: GPU 1 stand-in GPU has compute capability 6.1"},
        {2, "1G,2G", NULL, {"--device-map", "2,3"}, 0, "GPU 1 stand-in GPU"},
        {2,
         "1G,2G",
         NULL,
         {"--device", "cuda:1"},
         64,
         "--device cuda:1 names one GPU, but there are 2 ranks"},
        {2, "1G,2G", NULL, {"--device-id", "1"}, 64, "--device-id 1 names one GPU, but there are 2 ranks"},
        {2, "2G", NULL, {NULL}, 69, "ranks 0 and 1 both got GPU GPU-"},
        {2, "2G,2G", "1", {NULL}, 69, "ranks 0 and 1 both got GPU GPU-"},
        {2, "2G", NULL, {"--allow-shared-gpu", "--device-map", "2,3"}, 0, "road nccl"},
        {3, "2G,2G", NULL, {NULL}, 69, "3 ranks on "},
        {3, "2G,2G", NULL, {"--num-gpus", "2"}, 0, "left out by --num-gpus"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_run *run = make_run(cases[i].np, cases[i].gpus, cases[i].visible);
        add_model(run);
        for (int w = 0; w < 5 && cases[i].words[w] != NULL; w++)
            test_run_add(run, cases[i].words[w], NULL);
        expect(run, cases[i].code, cases[i].text);
        test_run_close(run);
    }
}

/* A scheduler gives each task its own GPU under the same number. */
static void tasks_with_a_gpu_each_are_told_apart_by_uuid(void **state) {
    (void)state;
    test_run *run = test_run_open(60.0);
    test_run_env(run, "STANDIN_GPUS=2G,2G");
    test_run_mpirun(run, 2);
    test_run_add(run, "sh", "-c",
                 "CUDA_VISIBLE_DEVICES=$OMPI_COMM_WORLD_RANK exec " STANDIN " --model " MODEL
                 " --prompt-ids 5,6 --max-new-tokens 2 --device-map 2,3",
                 NULL);
    expect(run, 0, "road nccl");
    test_run_close(run);
}

/* The name that is shown is one that CUDA_VISIBLE_DEVICES takes back; two instances of one GPU are two. */
static void mig_instances_have_names_of_their_own(void **state) {
    (void)state;
    test_run *run = make_run(1, "2G:mig,2G:mig", NULL);
    test_run_add(run, "devices", NULL);
    test_run_go(run);
    if (run->exit_code != 0 || strstr(run->out, MIG(0)) == NULL)
        fail_msg("exit code %d, no " MIG(0) " in %s", run->exit_code, run->out);
    test_run_close(run);
    run = test_run_open(60.0);
    test_run_env(run, "STANDIN_GPUS=2G:mig,2G:mig");
    test_run_mpirun(run, 2);
    test_run_add(run, "sh", "-c",
                 "CUDA_VISIBLE_DEVICES=MIG-5354414e-4449-4e00-0000-00000000000$OMPI_COMM_WORLD_RANK "
                 "exec " STANDIN " --model " MODEL " --prompt-ids 5,6 --max-new-tokens 2 --device-map 2,3",
                 NULL);
    expect(run, 0, "road nccl");
    test_run_close(run);
}

static void num_gpus_starts_a_process_on_each(void **state) {
    (void)state;
    test_run *run = make_run(1, "2G,1G,2G", NULL);
    add_model(run);
    test_run_add(run, "--num-gpus", "all", "--device-map", "1,2,2", NULL);
    expect(run, 0, "# cdpipe: 3 ranks on ");
    test_run_close(run);
    run = make_run(1, "2G,1G", NULL);
    add_model(run);
    test_run_add(run, "--num-gpus", "3", NULL);
    expect(run, 69, "--num-gpus 3, but 2 GPUs are visible");
    test_run_close(run);
}

/* JSON of a run that ends with 0. */
static cJSON *json_of(test_run *run) {
    test_run_go(run);
    cJSON *json = run->exit_code == 0 ? cJSON_Parse(run->out) : NULL;
    if (json == NULL)
        fail_msg("exit code %d; stdout: %s; stderr: %s", run->exit_code, run->out, run->err);
    return json;
}

static double number(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item))
        fail_msg("no number \"%s\"", key);
    return item->valuedouble;
}

/* What a build has no kernels for is a GPU that is not there for us. */
static void gpus_that_the_build_is_not_for_are_told(void **state) {
    (void)state;
    test_run *run = make_run(1, "1G", NULL);
    test_run_env(run, "STANDIN_FAULT=kernel:foreign");
    add_model(run);
    expect(run, 69, "loading the kernels: cudaErrorInvalidDeviceFunction");
    test_run_close(run);
}

/* The stage allocates what the plan says, to the byte, in every dtype; and the whole process stays within it.
 */
static void the_slab_is_the_plan(void **state) {
    (void)state;
    static const char *const models[] = {"llama", "qwen3", "phi3", "olmo2", "smollm3"};
    static const char *const dtypes[] = {"bf16", "fp16", "fp32"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[128];
        snprintf(path, sizeof path, "tests/golden/models/%s", models[i]);
        test_run *run = make_run(2, "2G,1G", NULL);
        test_run_add(run, "--model", path, "--prompt-ids", "5,6,7", "--max-new-tokens", "2", "--dtype",
                     dtypes[i % 3], "--chunk", i % 2 == 0 ? "5" : "16", "--json", "--device", "cuda",
                     "--ignore-eos", NULL);
        cJSON *json = json_of(run);
        const cJSON *ranks = cJSON_GetObjectItemCaseSensitive(json, "ranks"), *rank;
        const cJSON *plan = cJSON_GetObjectItemCaseSensitive(json, "plan");
        const cJSON *stage = cJSON_GetObjectItemCaseSensitive(plan, "stages")->child;
        cJSON_ArrayForEach(rank, ranks) {
            if (number(rank, "planned_bytes") > 0) {
                assert_true(number(rank, "slab_bytes") ==
                            number(stage, "total_bytes") - number(stage, "context_bytes"));
                assert_true(number(rank, "slab_used_bytes") == number(rank, "slab_bytes"));
                assert_true(number(rank, "peak_bytes") >= number(rank, "slab_bytes"));
                assert_true(number(rank, "peak_bytes") <= number(rank, "planned_bytes"));
            }
            stage = stage->next;
        }
        cJSON_Delete(json);
        test_run_close(run);
    }
}

static char *stages_of(test_run *run) {
    cJSON *json = json_of(run);
    cJSON *stages = cJSON_DetachItemFromObjectCaseSensitive(json, "stages"), *stage;
    cJSON_ArrayForEach(stage, stages)
        cJSON_DeleteItemFromObjectCaseSensitive(stage, "label"); /* --gpus knows no names */
    char *text = cJSON_PrintUnformatted(stages);
    cJSON_Delete(stages);
    cJSON_Delete(json);
    return text;
}

static void plan_of_gpus_one_has_is_plan_of_their_memory(void **state) {
    (void)state;
    test_run *real = make_run(1, "2G/1900M,3G/1000M,1G", NULL), *told = make_run(1, "none", NULL);
    test_run_add(real, "plan", "--model", MODEL, "--ctx", "64", "--json", NULL);
    test_run_add(told, "plan", "--model", MODEL, "--ctx", "64", "--json", "--gpus", "1900MiB,1000MiB,1GiB",
                 NULL);
    char *of_real = stages_of(real), *of_told = stages_of(told);
    assert_string_equal(of_real, of_told);
    assert_non_null(strstr(of_real, "cuda:2"));
    free(of_real);
    free(of_told);
    test_run_close(real);
    test_run_close(told);
}

static void memory_that_is_refused_is_told_with_numbers(void **state) {
    (void)state;
    test_run *run = make_run(2, "2G,1G", NULL);
    add_model(run);
    test_run_add(run, "--device-map", "2,3", NULL);
    /* On rank 1: workspace, scratch and the test's two buffers come first; the fifth is the slab. */
    test_run_env(run, "STANDIN_FAULT=1:malloc:memory:5");
    expect(run, 71, "rank 1: GPU 1 stand-in GPU has no room for 0.00");
    test_run_close(run);
    run = make_run(2, "2G,2G/65600K", NULL); /* another process took it between plan and load */
    add_model(run);
    test_run_add(run, "--device-map", "2,3", NULL);
    test_run_env(run, "STANDIN_FAULT=1:meminfo:overstated");
    expect(run, 71, "rank 1: GPU 1 stand-in GPU has no room for ");
    assert_non_null(strstr(run->err, " GiB are free now"));
    test_run_close(run);
    run = make_run(2, "2G,1G/500M", NULL); /* the plan sees that the context alone does not fit */
    add_model(run);
    test_run_add(run, "--device-map", "2,3", NULL);
    expect(run, 69, "does not fit");
    test_run_close(run);
}

static void devices_tells_what_is_there(void **state) {
    (void)state;
    test_run *run = make_run(1, "2G/1900M,1G", "1,0");
    test_run_add(run, "devices", "--json", NULL);
    cJSON *json = json_of(run);
    const cJSON *gpus = cJSON_GetObjectItemCaseSensitive(json, "gpus");
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(json, "cuda_visible_devices")->valuestring, "1,0");
    assert_int_equal(cJSON_GetArraySize(gpus), 2);
    assert_true(number(gpus->child, "total_bytes") == 0x1p30);
    assert_true(number(gpus->child->next, "free_bytes") == 1900 * 0x1p20);
    cJSON_Delete(json);
    test_run_close(run);
    run = make_run(1, "2G,1G", "1,7,0"); /* CUDA cuts the list without a word */
    test_run_add(run, "devices", "--json", NULL);
    json = json_of(run);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(json, "gpus")), 1);
    const cJSON *cuda = cJSON_GetObjectItemCaseSensitive(json, "cuda");
    assert_non_null(strstr(cJSON_GetObjectItemCaseSensitive(cuda, "note")->valuestring, "entry 7 does not"));
    cJSON_Delete(json);
    test_run_close(run);
    run = make_run(3, "2G,1G,1G", NULL);
    test_run_add(run, "devices", "--json", NULL);
    json = json_of(run);
    const cJSON *links = cJSON_GetObjectItemCaseSensitive(json, "links"), *link;
    assert_int_equal(cJSON_GetArraySize(links), 3);
    cJSON_ArrayForEach(link, links) {
        assert_string_equal(cJSON_GetObjectItemCaseSensitive(link, "road")->valuestring, "nccl");
        assert_true(number(link, "bytes_per_s") > 0);
    }
    cJSON_Delete(json);
    test_run_close(run);
    run = make_run(1, "1G", "");
    test_run_add(run, "devices", NULL);
    test_run_go(run);
    assert_non_null(strstr(run->out, "CUDA_VISIBLE_DEVICES  \"\" (no GPU is visible)\n"));
    test_run_close(run);
    run = make_run(1, "none", NULL);
    test_run_add(run, "devices", NULL);
    test_run_go(run);
    assert_int_equal(run->exit_code, 0);
    assert_non_null(strstr(run->out, "GPU count             0 (the NVIDIA driver is missing"));
    test_run_close(run);
}

/* A GPU that cannot be used stands there with the reason, the one beside it without. */
static void devices_tells_why_not(void **state) {
    (void)state;
    static const char why[] = "GPU 0 stand-in GPU has compute capability 7.0";
    test_run *run = make_run(1, "1G@7.0,1G", NULL);
    test_run_add(run, "devices", NULL);
    test_run_go(run);
    assert_non_null(strstr(run->out, why));
    assert_null(strstr(run->out, "cannot be used: GPU 1"));
    test_run_close(run);
    run = make_run(1, "1G@7.0,1G", NULL);
    test_run_add(run, "devices", "--json", NULL);
    cJSON *json = json_of(run);
    const cJSON *gpu = cJSON_GetObjectItemCaseSensitive(json, "gpus")->child;
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(gpu, "free_bytes")));
    assert_non_null(strstr(cJSON_GetObjectItemCaseSensitive(gpu, "note")->valuestring, why));
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(gpu->next, "note")->valuestring, "");
    cJSON_Delete(json);
    test_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpus_are_given_by_rule),
        cmocka_unit_test(tasks_with_a_gpu_each_are_told_apart_by_uuid),
        cmocka_unit_test(mig_instances_have_names_of_their_own),
        cmocka_unit_test(num_gpus_starts_a_process_on_each),
        cmocka_unit_test(gpus_that_the_build_is_not_for_are_told),
        cmocka_unit_test(the_slab_is_the_plan),
        cmocka_unit_test(plan_of_gpus_one_has_is_plan_of_their_memory),
        cmocka_unit_test(memory_that_is_refused_is_told_with_numbers),
        cmocka_unit_test(devices_tells_what_is_there),
        cmocka_unit_test(devices_tells_why_not),
    };
    return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}
