/* bench_make_model SHAPE DTYPE DIR [SEED]: a model folder with random weights, for figures and for tests that
 * need a size and not a text. Equal arguments give equal bytes.
 *
 * SHAPE is a row of the table below; DTYPE bf16, fp16 or fp32. Weights are even in +-0.035 (0.02 standard
 * deviation, as models are initialised), norms are 1: hidden states stay in a sane range through every layer.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernels/dtype.h"
#include "tests/support/random.h"

typedef struct shape {
    const char *name;
    int hidden, layers, heads, kv_heads, head_dim, ffn, vocab;
    bool is_tied;
    double rope_theta;
    bool is_qwen2; /* a bias for q, k and v; else a llama */
} shape;

static const shape shapes[] = {
    {"smollm2-135m", 576, 30, 9, 3, 64, 1536, 49152, true, 100000, false},
    {"smollm2-360m", 960, 32, 15, 5, 64, 2560, 49152, true, 100000, false},
    {"qwen2.5-0.5b", 896, 24, 14, 2, 64, 4864, 151936, true, 1000000, true},
    {"llama-1b", 2048, 16, 32, 8, 64, 8192, 128256, true, 500000, false},
    {"llama-8b", 4096, 32, 32, 8, 128, 14336, 128256, false, 500000, false},
    {"tiny", 64, 4, 4, 2, 16, 128, 512, true, 10000, false},
    {"tiny-qwen2", 64, 4, 4, 2, 16, 128, 512, true, 10000, true},
};

enum { MAX_TENSORS = 512, BUFFER_VALUES = 1 << 16 };

typedef struct tensor {
    char name[96];
    long rows, cols; /* cols 0: a vector of `rows` */
    bool is_norm;    /* all 1 */
} tensor;

static tensor tensors[MAX_TENSORS];
static int n_tensors;

/* cols 0: a vector; of these a bias is random, a norm is not. */
static void add(const char *name, long rows, long cols) {
    tensor *t = &tensors[n_tensors++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->rows = rows;
    t->cols = cols;
    t->is_norm = cols == 0 && strstr(name, "norm") != NULL;
}

static void add_layer(const shape *s, int layer) {
    const long q = (long)s->heads * s->head_dim, kv = (long)s->kv_heads * s->head_dim;
    const struct {
        const char *name;
        long rows, cols;
    } parts[] = {{"input_layernorm", s->hidden, 0},    {"self_attn.q_proj", q, s->hidden},
                 {"self_attn.k_proj", kv, s->hidden},  {"self_attn.v_proj", kv, s->hidden},
                 {"self_attn.o_proj", s->hidden, q},   {"post_attention_layernorm", s->hidden, 0},
                 {"mlp.gate_proj", s->ffn, s->hidden}, {"mlp.up_proj", s->ffn, s->hidden},
                 {"mlp.down_proj", s->hidden, s->ffn}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, parts[i].name);
        add(name, parts[i].rows, parts[i].cols);
        if (s->is_qwen2 && i >= 1 && i <= 3) {
            snprintf(name, sizeof name, "model.layers.%d.%s.bias", layer, parts[i].name);
            add(name, parts[i].rows, 0);
        }
    }
}

static long n_values(const tensor *t) {
    return t->rows * (t->cols > 0 ? t->cols : 1);
}

static FILE *open_in(const char *dir, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL)
        fprintf(stderr, "bench_make_model: %s: %s\n", path, strerror(errno));
    return f;
}

static bool write_config(const shape *s, const char *dtype, const char *dir) {
    FILE *f = open_in(dir, "config.json");
    if (f == NULL)
        return false;
    fprintf(
        f,
        "{\"architectures\": [\"%s\"], \"model_type\": \"%s\", \"hidden_size\": %d,\n"
        " \"num_hidden_layers\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": "
        "%d,\n"
        " \"intermediate_size\": %d, \"vocab_size\": %d, \"tie_word_embeddings\": %s, \"rope_theta\": %.1f,\n"
        " \"max_position_embeddings\": 8192, \"rms_norm_eps\": 1e-05, \"hidden_act\": \"silu\",\n"
        " \"attention_bias\": false, \"mlp_bias\": false, \"torch_dtype\": \"%s\", \"bos_token_id\": 1,\n"
        " \"eos_token_id\": 2}\n",
        s->is_qwen2 ? "Qwen2ForCausalLM" : "LlamaForCausalLM", s->is_qwen2 ? "qwen2" : "llama", s->hidden,
        s->layers, s->heads, s->kv_heads, s->head_dim, s->ffn, s->vocab, s->is_tied ? "true" : "false",
        s->rope_theta,
        strcmp(dtype, "bf16") == 0   ? "bfloat16"
        : strcmp(dtype, "fp16") == 0 ? "float16"
                                     : "float32");
    return fclose(f) == 0;
}

static void write_header(FILE *f, cdp_dtype dtype) {
    static char text[MAX_TENSORS * 160];
    size_t used = 0;
    long at = 0;
    const char *word = dtype == CDP_BF16 ? "BF16" : dtype == CDP_F16 ? "F16" : "F32";
    for (int i = 0; i < n_tensors; i++) {
        const tensor *t = &tensors[i];
        const long end = at + n_values(t) * (long)cdp_dtype_bytes(dtype);
        char dims[48];
        snprintf(dims, sizeof dims, t->cols > 0 ? "%ld,%ld" : "%ld", t->rows, t->cols);
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%ld,%ld]}",
                                 i > 0 ? "," : "{", t->name, word, dims, at, end);
        at = end;
    }
    used += (size_t)snprintf(text + used, sizeof text - used, "}");
    while (used % 8 != 0)
        text[used++] = ' ';
    const uint64_t n = used; /* little-endian, as this program's machines are */
    fwrite(&n, sizeof n, 1, f);
    fwrite(text, 1, used, f);
}

static void write_values(FILE *f, const tensor *t, cdp_dtype dtype, test_random *r) {
    static unsigned char buffer[BUFFER_VALUES * 4];
    for (long left = n_values(t); left > 0;) {
        const long n = left < BUFFER_VALUES ? left : BUFFER_VALUES;
        for (long i = 0; i < n; i++)
            cdp_store(buffer, dtype, (size_t)i, t->is_norm ? 1.0f : 0.0346f * test_random_signed(r));
        fwrite(buffer, cdp_dtype_bytes(dtype), (size_t)n, f);
        left -= n;
    }
}

static bool write_weights(const shape *s, cdp_dtype dtype, const char *dir, uint64_t seed) {
    test_random r = {seed};
    FILE *f = open_in(dir, "model.safetensors");
    if (f == NULL)
        return false;
    add("model.embed_tokens.weight", s->vocab, s->hidden);
    for (int layer = 0; layer < s->layers; layer++)
        add_layer(s, layer);
    add("model.norm.weight", s->hidden, 0);
    if (!s->is_tied)
        add("lm_head.weight", s->vocab, s->hidden);
    write_header(f, dtype);
    for (int i = 0; i < n_tensors; i++)
        write_values(f, &tensors[i], dtype, &r);
    const bool is_good = ferror(f) == 0;
    return fclose(f) == 0 && is_good;
}

int main(int argc, char **argv) {
    const shape *s = NULL;
    cdp_dtype dtype = CDP_F32;
    for (size_t i = 0; argc >= 4 && i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(shapes[i].name, argv[1]) == 0)
            s = &shapes[i];
    bool has_dtype = false;
    for (int d = CDP_F32; argc >= 4 && d <= CDP_BF16; d++)
        if (strcmp(cdp_dtype_name((cdp_dtype)d), argv[2]) == 0) {
            dtype = (cdp_dtype)d;
            has_dtype = true;
        }
    if (s == NULL || !has_dtype) {
        fprintf(stderr, "usage: bench_make_model SHAPE bf16|fp16|fp32 DIR [SEED]; shapes:");
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            fprintf(stderr, " %s", shapes[i].name);
        fprintf(stderr, "\n");
        return 64;
    }
    if (mkdir(argv[3], 0755) != 0 && errno != EEXIST) {
        fprintf(stderr, "bench_make_model: %s: %s\n", argv[3], strerror(errno));
        return 74;
    }
    const uint64_t seed = argc > 4 ? strtoull(argv[4], NULL, 10) : 1;
    if (write_config(s, argv[2], argv[3]) && write_weights(s, dtype, argv[3], seed))
        return 0;
    fprintf(stderr, "bench_make_model: %s: %s\n", argv[3], strerror(errno));
    return 74;
}
