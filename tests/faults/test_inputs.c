/* Promise 5: bad input gets one clear line and the exit code of its class, on one rank and on several.
 *
 * Each row is a command line or a broken model folder, the code, and words the line must hold. What it
 * catches: a fault that becomes a crash, a hang, a second line, or a message without the value found.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "planner/file.h"
#include "tests/support/data.h"
#include "tests/support/spawn.h"

enum { MAX_WORDS = 12 };

/* Exactly one line of error, within 5 s, with code and words. */
static void check_run(int np, const char *const *words, const char *variable, int code, const char *holds) {
    test_run *run = test_run_open(20.0);
    if (np > 1)
        test_run_mpirun(run, np);
    test_run_add(run, CDPIPE_BIN, NULL);
    for (int i = 0; i < MAX_WORDS && words[i] != NULL; i++)
        test_run_add(run, words[i], NULL);
    if (variable != NULL)
        test_run_env(run, variable);
    test_run_go(run);
    const char *first = strstr(run->err, "cdpipe: error:");
    if (run->exit_code != code || first == NULL || strstr(first, holds) == NULL)
        fail_msg("np %d, %s %s %s: exit %d (expected %d), expected \"%s\" in:\n%.1000s", np, words[0],
                 words[0] != NULL && words[1] != NULL ? words[1] : "", variable != NULL ? variable : "",
                 run->exit_code, code, holds, run->err);
    if (strstr(first + 1, "cdpipe: error:") != NULL)
        fail_msg("np %d: more than one line of error:\n%.1000s", np, run->err);
    assert_string_equal(run->out, "");
    test_run_close(run);
}

typedef struct command_case {
    const char *words[MAX_WORDS];
    const char *variable;
    int code;
    const char *holds;
} command_case;

#define MODEL "tests/golden/models/llama"
#define IDS "--prompt-ids", "5,6"

static const command_case commands[] = {
    {{"--modle", "x"}, NULL, 64, "unknown option --modle, did you mean --model?"},
    {{"genrate"}, NULL, 64, "did you mean generate?"},
    {{"--model"}, NULL, 64, "--model needs a value"},
    {{"--model", MODEL, IDS, "--ctx", "-1"}, NULL, 64, "--ctx is \"-1\", expected a whole number from 1"},
    {{"--model", MODEL, IDS, "--ctx", "1e3"}, NULL, 64, "1e3"},
    {{"--model", MODEL, IDS, "--ctx", "99999999999999999999"}, NULL, 64, "2147483647"},
    {{"--model", MODEL, IDS}, "CDPIPE_CTX=-1", 64, "CDPIPE_CTX is \"-1\""},
    {{"--model", MODEL, IDS, "--gpu-memory-fraction", "0"}, NULL, 64, "--gpu-memory-fraction"},
    {{"--model", MODEL, IDS, "--gpu-memory-fraction", "1.5"}, NULL, 64, "at most 1"},
    {{"--model", MODEL, IDS, "--gpu-memory-fraction", "nan"}, NULL, 64, "nan"},
    {{"--model", MODEL, IDS, "--temperature", "-1"}, NULL, 64, "--temperature"},
    {{"--model", MODEL, IDS, "--temperature", "inf"}, NULL, 64, "--temperature"},
    {{"--model", MODEL, IDS, "--top-p", "0"}, NULL, 64, "above 0"},
    {{"--model", MODEL, IDS, "--top-k", "-5"}, NULL, 64, "from 0"},
    {{"--model", MODEL, IDS, "--seed", "18446744073709551616"}, NULL, 64, "18446744073709551615"},
    {{"--map", "3,2", "--model", MODEL}, NULL, 64, "unknown option --map, did you mean --device-map?"},
    {{"--model", "org/name", IDS}, NULL, 66, "org/name: No such file or directory: a model is a folder with"},
    {{"--model", "README.md", IDS}, NULL, 66, "README.md: Not a directory: a model is a folder with"},
    {{"--model", "tests", IDS}, NULL, 66, "tests: no config.json there: a model is a folder with"},
    {{"--model", "a\nb\"c", IDS}, NULL, 66, "a\\x0Ab"},
    {{"--device", "cpu", "--num-gpus", "2", "--model", MODEL, IDS}, NULL, 64, "--num-gpus"},
    {{"--device", "foo", "--num-gpus", "2", "--model", MODEL, IDS}, NULL, 64, "--device is \"foo\""},
    {{"--device", "tpu", "--model", MODEL, IDS}, NULL, 64, "tpu"},
    {{"--device", "cuda", "--model", MODEL, IDS},
     "CUDA_VISIBLE_DEVICES=",
     69,
     "CUDA_VISIBLE_DEVICES is empty"},
    {{"--device-map", "1,1", "--model", MODEL, IDS}, NULL, 64, "--device-map 1,1"},
    {{"--device-map", "best", "--model", MODEL, IDS}, NULL, 64, "balanced_low_0"},
    {{"--max-gpu-memory", "20Gb", "--model", MODEL, IDS}, NULL, 64, "bits"},
    {{"--max-gpu-memory", "0", "--model", MODEL, IDS}, NULL, 64, "rank 0"},
    {{"--max-gpu-memory", "1MiB", "--model", MODEL, IDS}, NULL, 69, "does not fit"},
    {{"--prompt-ids", "5,x", "--model", MODEL}, NULL, 65, "number 2"},
    {{"--prompt-ids", "5,384", "--model", MODEL}, NULL, 65, "0 to 383"},
    {{"--prompt-ids", "", "--model", MODEL}, NULL, 65, "empty"},
    {{"--prompt-ids", "5,6,7", "--ctx", "2", "--model", MODEL}, NULL, 65, "3 tokens, --ctx is 2: give"},
    {{"score", "--prompt-ids", "5,6,7", "--ctx", "2", "--model", MODEL},
     NULL,
     65,
     "3 tokens, --ctx is 2: give"},
    {{"bench", "--batch", "1,x", "--model", MODEL},
     NULL,
     64,
     "--batch is \"1,x\", expected up to 16 numbers"},
    {{"bench", "--pg", "512", "--model", MODEL}, NULL, 64, "--pg is \"512\", expected prompt and answer"},
    {{"--prompt", "hello", "--model", MODEL}, NULL, 66, "tokenizer.json"},
    {{"score", "--prompt", "hello", "--model", MODEL}, NULL, 66, "tokenizer.json"},
    {{"--model", MODEL, IDS, "--stop", "x"}, NULL, 64, "--stop looks for a text, but " MODEL " has no"},
    {{"chat", "--model", MODEL}, NULL, 66, "tokenizer.json"},
    {{"--prompt-file", "/nowhere", "--model", MODEL}, NULL, 66, "/nowhere"},
    {{"--prompt-file", "/", "--model", MODEL}, NULL, 66, "/: Is a directory"},
    {{"--prompt-file", "/dev/zero", "--model", MODEL}, NULL, 65, "/dev/zero is longer than 67108864 bytes"},
    {{"batch", "--model", MODEL, "--input", "README.md", "--output", "-"}, NULL, 64, "--output is \"-\""},
    {{"batch", "--model", MODEL, "--input", "README.md", "--output", ""}, NULL, 64, "--output is \"\""},
    {{"plan", "--model", MODEL, "--echo"}, NULL, 64, "does not belong to plan"},
    {{"plan", "--model", MODEL, "--gpus", "4GiB,0,85%"}, NULL, 64, "--gpus"},
    {{"--model", MODEL, IDS, "--np", "1"}, "SLURM_STEP_NUM_TASKS=4", 64, "--mpi=pmix"},
    {{"--model", MODEL, IDS}, "CDPIPE_FAULT=nonsense", 64, "CDPIPE_FAULT"},
};

static void test_command_line(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        check_run(1, commands[i].words, commands[i].variable, commands[i].code, commands[i].holds);
}

/* On two ranks the same faults end both with one line and one code. */
static void test_command_line_of_two(void **state) {
    (void)state;
    static const command_case some[] = {
        {{"--modle", "x"}, NULL, 64, "did you mean --model?"},
        {{"--model", "/nowhere", IDS}, NULL, 66, "No such file"},
        {{"--model", MODEL, IDS, "--np", "3"}, NULL, 64, "--np 3"},
        {{"--device", "cuda:0", "--model", MODEL, IDS}, NULL, 64, "2 ranks"},
        {{"--max-gpu-memory", "1MiB", "--model", MODEL, IDS}, NULL, 69, "does not fit"},
        {{"--prompt-ids", "5,384", "--model", MODEL}, NULL, 65, "0 to 383"},
        {{"bench", "--batch", "0", "--model", MODEL}, NULL, 64, "--batch is \"0\""},
    };
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++)
        check_run(2, some[i].words, some[i].variable, some[i].code, some[i].holds);
}

/* A copy of the llama model whose file `name` holds `text` instead (NULL: is not there). */
static void make_broken(char *dir, size_t dir_size, int number, const char *name, const char *text,
                        size_t n) {
    static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors"};
    snprintf(dir, dir_size, "%s/model-%d", test_temp_dir(), number);
    assert_int_equal(mkdir(dir, 0755), 0);
    for (int i = 0; i < 3; i++) {
        char from[4200], to[4200];
        snprintf(from, sizeof from, "%s/" MODEL "/%s", CDPIPE_SOURCE_DIR, files[i]);
        snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        if (strcmp(files[i], name) != 0)
            assert_int_equal(symlink(from, to), 0); /* as in a cache of a hub */
    }
    if (text == NULL)
        return;
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    fclose(file);
}

/* config.json of the llama model with `old` replaced by `new`. */
static char *edit_config(const char *old, const char *new_text) {
    char *text;
    size_t n;
    assert_int_equal(cdp_file_read_text(&text, &n, test_path(MODEL "/config.json"), 1 << 20), CDP_OK);
    char *at = strstr(text, old), *edited = calloc(1, n + strlen(new_text) + 1);
    if (at == NULL)
        fail_msg("config.json does not hold %s", old);
    sprintf(edited, "%.*s%s%s", (int)(at - text), text, new_text, at + strlen(old));
    free(text);
    return edited;
}

static void check_model(int np, const char *dir, int code, const char *holds) {
    const char *words[MAX_WORDS] = {"--model", dir, IDS, "--max-new-tokens", "2", NULL};
    check_run(np, words, NULL, code, holds);
}

typedef struct config_case {
    const char *old, *new_text, *holds;
} config_case;

static const config_case configs[] = {
    {"\"llama\"", "\"mamba\"", "mamba"},
    {"\"model_type\": \"llama\"", "\"model_type\": 3", "model_type"},
    {"\"num_hidden_layers\": 5", "\"num_hidden_layers\": 0", "num_hidden_layers is 0"},
    {"\"num_hidden_layers\": 5", "\"num_hidden_layers\": -1", "num_hidden_layers"},
    {"\"num_hidden_layers\": 5", "\"num_hidden_layers\": 1.5", "num_hidden_layers"},
    {"\"num_hidden_layers\": 5", "\"num_hidden_layers\": \"32\"", "num_hidden_layers"},
    {"\"num_hidden_layers\": 5", "\"num_hidden_layers\": 1e999", "too large"},
    {"\"num_hidden_layers\": 5", "\"num_hidden_layers\": 4294967297", "1024"},
    {"\"num_hidden_layers\": 5", "\"num_hidden_layers\": 6", "the tensors show 5"},
    {"\"num_hidden_layers\": 5", "\"num_hidden_layers\": 4", "the tensors show 5"},
    {"\"num_hidden_layers\": 5", "\"Num_Hidden_Layers\": 5", "num_hidden_layers is missing"},
    {"\"hidden_size\": 64", "\"hidden_size\": 0", "hidden_size"},
    {"\"head_dim\": 16", "\"head_dim\": 15", "head_dim"},
    {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 0", "num_key_value_heads"},
    {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "divisor"},
    {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 8", "divisor"},
    {"\"vocab_size\": 384", "\"vocab_size\": 385", "[384,64]"},
    {"\"vocab_size\": 384", "\"vocab_size\": 2147483648", "vocab_size"},
    {"\"vocab_size\": 384", "\"vocab_size\": 1, \"vocab_size\": 384", "appears twice"},
    {"\"max_position_embeddings\": 512", "\"max_position_embeddings\": 0", "max_position_embeddings"},
    {"\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 0", "rms_norm_eps"},
    {"\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": -1", "rms_norm_eps"},
    {"\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": \"NaN\"", "rms_norm_eps"},
    {"\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 1e-400", "rms_norm_eps"},
    {"\"rope_theta\": 10000.0", "\"rope_theta\": 0", "rope_theta"},
    {"\"rope_theta\": 10000.0", "\"rope_theta\": -5", "rope_theta"},
    {"\"rope_type\": \"default\"", "\"rope_type\": \"spiral\"", "spiral"},
    {"\"rope_type\": \"default\"", "\"rope_type\": \"linear\", \"factor\": 0", "factor"},
    {"\"eos_token_id\": 2", "\"eos_token_id\": 384", "eos_token_id"},
    {"\"dtype\": \"bfloat16\"", "\"dtype\": \"int3\"", "int3"},
    {"\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "gelu"},
    {"\"use_cache\": true", "\"quantization_config\": {\"bits\": 4}", "quantization_config"},
    {"\"tie_word_embeddings\": false", "\"tie_word_embeddings\": \"no\"", "tie_word_embeddings"},
    {"\"use_cache\": true", "\"use_cache\": true,", "not JSON"},
    {"\"use_cache\": true", "/* yes */ \"use_cache\": true", "not JSON"},
};

static int next_model; /* folders of this program are numbered */

static void test_config(void **state) {
    (void)state;
    char dir[4096];
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        char *text = edit_config(configs[i].old, configs[i].new_text);
        make_broken(dir, sizeof dir, next_model++, "config.json", text, strlen(text));
        check_model(1, dir, 78, configs[i].holds);
        free(text);
    }
}

typedef struct file_case {
    const char *name, *text;
    int code;
    const char *holds;
} file_case;

static void test_folder(void **state) {
    (void)state;
    static const file_case files[] = {
        {"config.json", NULL, 66, "config.json"},
        {"config.json", "", 78, "not JSON"},
        {"config.json", "null", 78, "object"},
        {"config.json", "[]", 78, "object"},
        {"config.json", "{} {}", 78, "after the end"},
        {"model.safetensors", NULL, 66, "model.safetensors.index.json"},
        {"model.safetensors", "", 78, "0 bytes"},
        {"model.safetensors", "\2\0\0\0\0\0\0\0{}", 78, "layers"},
        {"generation_config.json", "{\"temperature\": \"hot\"}", 78, "temperature"},
        {"generation_config.json", "{\"top_p\": 7}", 78, "top_p"},
        {"model.safetensors.index.json", "[]", 78, "weight_map"},
        {"model.safetensors.index.json", "{\"weight_map\": {\"a\": \"../x.safetensors\"}}", 78,
         "../x.safetensors"},
        {"model.safetensors.index.json", "{\"weight_map\": {\"a\": \"/etc/passwd\"}}", 78, "/etc/passwd"},
        {"model.safetensors.index.json", "{\"weight_map\": {\"a\": \"gone.safetensors\"}}", 66,
         "gone.safetensors"},
        {"model.safetensors.index.json", "{\"weight_map\": {\"a\": \"model.safetensors\"}}", 78, "\"a\""},
        {"model.safetensors.index.json", "{\"weight_map\": {\"a\": 1}}", 78, "no string"},
    };
    char dir[4096];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const file_case *f = &files[i];
        const size_t n = f->text == NULL ? 0 : f->text[0] == '\2' ? 10 : strlen(f->text);
        make_broken(dir, sizeof dir, next_model++, f->name, f->text, n);
        check_model(i % 4 == 0 ? 2 : 1, dir, f->code, f->holds);
    }
}

/* Things that are no regular file must not hang the loader. */
static void test_no_file(void **state) {
    (void)state;
    char dir[4096], path[4200];
    make_broken(dir, sizeof dir, next_model++, "model.safetensors", NULL, 0);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(mkfifo(path, 0644), 0);
    check_model(1, dir, 66, "not a regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/dev/zero", path), 0);
    check_model(1, dir, 66, "not a regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0755), 0);
    check_model(2, dir, 66, "not a regular file");
    assert_int_equal(rmdir(path), 0);
    snprintf(path, sizeof path, "%s/pytorch_model.bin", dir);
    fclose(fopen(path, "w"));
    check_model(1, dir, 78, "convert to safetensors");
}

/* Weights that are not finite load, unless they are to be checked; then the tensor is named. */
static void test_nan_weights(void **state) {
    (void)state;
    char *bytes, dir[4096];
    size_t n;
    assert_int_equal(cdp_file_read_text(&bytes, &n, test_path(MODEL "/model.safetensors"), 1 << 24), CDP_OK);
    bytes[n - 1] = 0x7F; /* the last value becomes a NaN of bf16 */
    bytes[n - 2] = (char)0xFF;
    make_broken(dir, sizeof dir, next_model++, "model.safetensors", bytes, n);
    const char *words[MAX_WORDS] = {"--model", dir, IDS, "--check-weights", NULL};
    check_run(1, words, NULL, 78, "not finite");
    check_run(2, words, NULL, 78, "not finite");
    /* Unchecked they load, and the first logits tell. */
    const char *unchecked[MAX_WORDS] = {"--model", dir, IDS, "--json", NULL};
    check_run(1, unchecked, NULL, 65, "non-finite logits");
    check_run(2, unchecked, NULL, 65, "non-finite logits");
    free(bytes);
}

/* Two ranks that were started by different words: refused, the first difference shown. */
static void test_other_words(void **state) {
    (void)state;
    static const char choose[] =
        "[ $OMPI_COMM_WORLD_RANK = 0 ] || set -- \"$@\" --prompt-ids 5,7; exec \"$@\"";
    test_run *run = test_run_open(20.0);
    test_run_mpirun(run, 2);
    test_run_add(run, "sh", "-c", choose, "sh", CDPIPE_BIN, "--model", MODEL, IDS, NULL);
    test_run_go(run);
    assert_int_equal(run->exit_code, 64);
    assert_non_null(strstr(run->err, "rank 1: started by other words than rank 0"));
    assert_non_null(strstr(run->err, "5,7"));
    test_run_close(run);
}

/* On the last rank's node the model's folder is another: every rank runs in a folder in which `model` leads
 * where that node's disk would. One line, which says who sees what. */
static void check_other_folder(int np, const char *elsewhere, int code, const char *holds) {
    static const char choose[] =
        "cd \"$1\"; [ $OMPI_COMM_WORLD_RANK = $2 ] && cd there || cd here; shift 2; exec \"$@\"";
    char base[512], path[600], last[12], who[24];
    snprintf(base, sizeof base, "%s/nodes-%d", test_temp_dir(), next_model++);
    snprintf(last, sizeof last, "%d", np - 1);
    snprintf(who, sizeof who, "rank %d", np - 1);
    assert_int_equal(mkdir(base, 0755), 0);
    for (int there = 0; there < 2; there++) {
        snprintf(path, sizeof path, "%s/%s", base, there ? "there" : "here");
        assert_int_equal(mkdir(path, 0755), 0);
        strcat(path, "/model");
        assert_int_equal(symlink(there ? elsewhere : test_path(MODEL), path), 0);
    }
    test_run *run = test_run_open(20.0);
    test_run_mpirun(run, np);
    test_run_add(run, "sh", "-c", choose, "sh", base, last, CDPIPE_BIN, "--model", "model", IDS, "--device",
                 "cpu", NULL);
    test_run_go(run);
    const char *first = strstr(run->err, "cdpipe: error:");
    if (run->exit_code != code || first == NULL || strstr(first, holds) == NULL ||
        strstr(first, who) == NULL || strstr(first + 1, "cdpipe: error:") != NULL)
        fail_msg("np %d: exit %d (expected %d), expected one line with \"%s\" in:\n%.1000s", np,
                 run->exit_code, code, holds, run->err);
    assert_int_equal(test_run_left(run), 0);
    test_run_close(run);
}

static void test_other_folder(void **state) {
    (void)state;
    char *bytes, *config, missing[4096], newer[4096], turned[4096];
    size_t n;
    config = edit_config("10000.0", "50000.0"); /* a rope_theta that nothing but the logits would tell */
    make_broken(turned, sizeof turned, next_model++, "config.json", config, strlen(config));
    free(config);
    make_broken(missing, sizeof missing, next_model++, "model.safetensors", NULL, 0);
    assert_int_equal(cdp_file_read_text(&bytes, &n, test_path(MODEL "/model.safetensors"), 1 << 24), CDP_OK);
    memcpy(strstr(bytes + 8, "\"pt\""), "\"pu\"",
           4); /* a network disk that lags behind: the header is another */
    make_broken(newer, sizeof newer, next_model++, "model.safetensors", bytes, n);
    free(bytes);
    for (int np = 2; np <= 3; np++) {
        check_other_folder(np, missing, 66, "model.safetensors");
        check_other_folder(np, "nowhere", 66, "model");
        check_other_folder(np, turned, 78, "model/config.json: this rank sees another file than rank 0");
        check_other_folder(np, newer, 78, "sees other weight files than rank 0");
    }
}

/* Nobody reads, or the disk is full: EPIPE and ENOSPC are I/O faults, not crashes. */
static void test_full_disk(void **state) {
    (void)state;
    const char *words[MAX_WORDS] = {"score", "--model", MODEL, IDS, "--logits", "/dev/full", NULL};
    check_run(1, words, NULL, 74, "/dev/full");
    static const char *const writers[] = {
        "generate --prompt-ids 5 --max-new-tokens 5",
        "generate --prompt-ids 5 --max-new-tokens 5 --json",
        "score --prompt-ids 5,6",
        "score --prompt-ids 5,6 --json",
        "lens --prompt-ids 5,6",
        "lens --prompt-ids 5,6 --json",
        "bench --pp 2 --tg 2 --batch 1 --repeat 1",
        "bench --pp 2 --tg 2 --batch 1 --repeat 1 --json",
        "plan --json",
    };
    for (size_t i = 0; i < sizeof writers / sizeof *writers; i++) {
        char line[256];
        snprintf(line, sizeof line, "%s %s --device cpu --model %s >/dev/full", CDPIPE_BIN, writers[i],
                 MODEL);
        test_run *run = test_run_open(20.0);
        test_run_add(run, "sh", "-c", line, NULL);
        test_run_go(run);
        if (run->exit_code != 74 || strstr(run->err, "No space left") == NULL)
            fail_msg("%s: exit %d (expected 74): %.500s", writers[i], run->exit_code, run->err);
        test_run_close(run);
    }
    test_run *run =
        test_run_open(20.0); /* closed from the start: a clean end, and no other file gets the text */
    test_run_add(run, "sh", "-c",
                 CDPIPE_BIN " --device cpu --model " MODEL " --prompt-ids 5 --max-new-tokens 5 >&-", NULL);
    test_run_go(run);
    assert_int_equal(run->exit_code, 0);
    test_run_close(run);
}

int main(void) {
    if (chdir(CDPIPE_SOURCE_DIR) != 0)
        return 2;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command_line), cmocka_unit_test(test_command_line_of_two),
        cmocka_unit_test(test_config),       cmocka_unit_test(test_folder),
        cmocka_unit_test(test_no_file),      cmocka_unit_test(test_nan_weights),
        cmocka_unit_test(test_full_disk),    cmocka_unit_test(test_other_words),
        cmocka_unit_test(test_other_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
