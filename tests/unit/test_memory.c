/* Bytes: real shapes against published numbers, and every part of a stage against its formula. */
#include "planner/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/cards.h"

static cdp_model_card *card_of(int shape) {
    cdp_model_card *card = malloc(sizeof *card);
    assert_non_null(card);
    test_card_fill(card, &shapes[shape]);
    return card;
}

/* Norms of a layer and the q, k, v biases: held in f32, two bytes a value more than in the file. */
static uint64_t vectors(const cdp_model_card *c) {
    const int bias = c->qkv_bias ? (c->n_heads + 2 * c->n_kv_heads) * c->head_dim : 0;
    return (uint64_t)(2 * c->hidden + bias);
}

static void test_real_shapes(void **state) {
    (void)state;
    for (int i = 0; i < N_SHAPES; i++) {
        const test_shape *s = &shapes[i];
        cdp_model_card *card = card_of(i);
        const cdp_run_shape run = test_run(8192, 1);
        const uint64_t rotary = (uint64_t)s->head_dim; /* counted in the published total, held by nobody */
        assert_int_equal(cdp_model_weight_bytes(card, &run), s->total - rotary);
        assert_int_equal(cdp_layer_weight_bytes(card, &run, 0), s->layer + 2 * vectors(card));
        assert_int_equal(cdp_vocab_weight_bytes(card, &run),
                         (s->is_tied ? 1 : 2) * s->embed + 4 * (uint64_t)s->hidden);
        assert_int_equal(cdp_kv_block_bytes(card, &run) * (uint64_t)s->n_layers / CDP_KV_BLOCK_TOKENS,
                         (uint64_t)s->kv_kib * 1024);
        free(card);
    }
}

static void test_llama_3_8b_weighs(void **state) {
    (void)state;
    cdp_model_card *card = card_of(LLAMA_3_8B);
    cdp_run_shape run = test_run(8192, 1);
    assert_int_equal(cdp_model_weight_bytes(card, &run), 16060522496);
    run.dtype = CDP_F16;
    assert_int_equal(cdp_model_weight_bytes(card, &run), 16060522496);
    run.dtype = CDP_F32;
    assert_int_equal(cdp_model_weight_bytes(card, &run), 2 * UINT64_C(16060522496));
    assert_int_equal(cdp_layer_weight_bytes(card, &run, 31), 2 * UINT64_C(436224000));
    free(card);
}

/* One fused matrix holds what three or two do. */
static void test_fused_matrices_weigh_the_same(void **state) {
    (void)state;
    cdp_model_card *card = card_of(LLAMA_3_8B);
    const cdp_run_shape run = test_run(8192, 1);
    const uint64_t apart = cdp_layer_weight_bytes(card, &run, 0);
    card->fused_qkv = card->fused_gate_up = true;
    assert_int_equal(cdp_layer_weight_bytes(card, &run, 0), apart);
    free(card);
}

static void test_optional_tensors(void **state) {
    (void)state;
    cdp_model_card *card = card_of(LLAMA_3_8B);
    const cdp_run_shape run = test_run(8192, 1);
    const uint64_t plain = cdp_layer_weight_bytes(card, &run, 0), q = 32 * 128, kv = 8 * 128;
    card->qk_norm = CDP_QK_HEAD;
    assert_int_equal(cdp_layer_weight_bytes(card, &run, 0), plain + 4 * 2 * 128);
    card->qk_norm = CDP_QK_FULL;
    assert_int_equal(cdp_layer_weight_bytes(card, &run, 0), plain + 4 * (q + kv));
    card->qk_norm = CDP_QK_NONE;
    card->qkv_bias = true;
    assert_int_equal(cdp_layer_weight_bytes(card, &run, 0), plain + 4 * (q + 2 * kv));
    card->qkv_bias = false;
    card->attn_out_bias = card->mlp_bias = true;
    assert_int_equal(cdp_layer_weight_bytes(card, &run, 0), plain + 4 * (2 * 4096 + 2 * 14336));
    card->attn_out_bias = card->mlp_bias = false;
    card->norm_after = true; /* four norms a layer */
    assert_int_equal(cdp_layer_weight_bytes(card, &run, 0), plain + 4 * 2 * 4096);
    free(card);
}

static void test_run_numbers(void **state) {
    (void)state;
    cdp_run_shape run = test_run(8192, 1);
    assert_int_equal(cdp_blocks_per_sequence(&run), 512);
    run.ctx = 8193;
    assert_int_equal(cdp_blocks_per_sequence(&run), 513);
    run.ctx = 1;
    assert_int_equal(cdp_blocks_per_sequence(&run), 1);
    run.ctx = INT32_MAX;
    assert_int_equal(cdp_blocks_per_sequence(&run), INT64_C(1) << 27);
    assert_int_equal(cdp_step_rows(&run), 512);
    run.max_batch = 600;
    assert_int_equal(cdp_step_rows(&run), 600);
    run.n_ranks = 3;
    assert_int_equal(cdp_n_seats(&run), 4);
    assert_int_equal(cdp_hidden_dtype(&run), CDP_BF16);
    run.dtype = CDP_F16; /* the range of f16 is too small for hidden states */
    assert_int_equal(cdp_hidden_dtype(&run), CDP_F32);
    run.dtype = CDP_F32;
    assert_int_equal(cdp_hidden_dtype(&run), CDP_F32);
}

static void test_scratch_buffers(void **state) {
    (void)state;
    cdp_model_card *card = card_of(LLAMA_3_8B);
    cdp_run_shape run = test_run(8192, 1);
    run.chunk = 128;
    const cdp_scratch_bytes middle = cdp_scratch(card, &run, false), home = cdp_scratch(card, &run, true);
    assert_int_equal(middle.normed, 128 * 4096 * 4);
    assert_int_equal(middle.qkv, 128 * (32 + 16) * 128 * 4);
    assert_int_equal(middle.context, 128 * 32 * 128 * 4);
    assert_int_equal(middle.ffn, 128 * 2 * 14336 * 4);
    assert_int_equal(middle.rope, 128 * 128 * 4);
    assert_int_equal(middle.logits, 0);
    assert_int_equal(home.logits, 4 * CDP_HOME_ROWS * (128256 + 4096));
    assert_int_equal(middle.load, 0);
    assert_int_equal(middle.total, middle.normed + middle.qkv + middle.context + middle.ffn + middle.rope +
                                       middle.step + middle.load);
    assert_int_equal(home.total, middle.total + home.logits);
    /* The arrays of every slot's rows, the commands, the block tables. */
    assert_int_equal(middle.step, UINT64_C(2) * (128 * 5 * 4 + 3328) + 4 * 512); /* 130 commands, placed */
    run.on_gpu = false;
    const cdp_scratch_bytes cpu = cdp_scratch(card, &run, true);
    assert_int_equal(cpu.logits, 4 * CDP_HOME_ROWS * (2 * 128256 + 4096));
    assert_true(cpu.load > 0 && cpu.load <= UINT64_C(64) << 20);
    assert_true(cpu.step >= UINT64_C(2) * 2 * 128 * 5 * 4 + UINT64_C(4) * 512);
    free(card);
}

static void test_stage_adds_up(void **state) {
    (void)state;
    cdp_model_card *card = card_of(QWEN_7B);
    cdp_run_shape run = test_run(4096, 4);
    run.n_ranks = 3;
    const cdp_stage_bytes b = cdp_memory_stage(card, &run, 3, 10, true, 100);
    assert_int_equal(b.weights,
                     7 * cdp_layer_weight_bytes(card, &run, 3) + cdp_vocab_weight_bytes(card, &run));
    assert_int_equal(b.kv, 7 * 100 * cdp_kv_block_bytes(card, &run));
    assert_int_equal(b.scratch, cdp_scratch(card, &run, true).total);
    assert_int_equal(b.links, UINT64_C(2) * 4 * 512 * 3584 * 2); /* hidden and home, 4 slots, bf16 */
    assert_int_equal(b.context, UINT64_C(768) << 20);
    assert_int_equal(b.total, b.weights + b.kv + b.scratch + b.links + b.context);
    run.dtype = CDP_F16;
    assert_int_equal(cdp_link_bytes(card, &run), 2 * b.links); /* f32 hidden states */
    run.on_gpu = false;
    assert_int_equal(cdp_memory_stage(card, &run, 3, 10, false, 100).context, UINT64_C(64) << 20);
    run.kv_dtype = CDP_F32;
    assert_int_equal(cdp_memory_stage(card, &run, 3, 10, false, 100).kv, 2 * b.kv);
    free(card);
}

/* In a GPU's slab every tensor begins at a multiple of 256 bytes; q, k and v are one tensor, and so are gate
 * and up. On the CPU nothing is rounded. */
static void test_slab_counts_whole_places(void **state) {
    (void)state;
    cdp_model_card *card = card_of(LLAMA_3_8B);
    cdp_run_shape run = test_run(100, 1);
    card->hidden = 72;
    card->n_heads = 3;
    card->n_kv_heads = 1;
    card->head_dim = 24;
    card->ffn = 88;
    const uint64_t norms = 2 * 512;               /* 72 f32 */
    const uint64_t qkv = 17408;                   /* 5 * 24 * 72 bf16 are 17280 */
    const uint64_t out = 10496;                   /* 72 * 72 bf16 are 10368 */
    const uint64_t gate_up = 25344, down = 12800; /* 2 * 88 * 72 and 72 * 88 bf16: 25344, 12672 */
    assert_int_equal(cdp_layer_weight_bytes(card, &run, 0), norms + qkv + out + gate_up + down);
    const cdp_stage_bytes b = cdp_memory_stage(card, &run, 0, 3, false, 7);
    assert_int_equal(b.kv, 3 * 10752); /* 7 blocks of 2 * 16 * 24 bf16 */
    assert_int_equal(cdp_slab_bytes(&b), b.weights + b.kv + b.scratch + b.links);
    assert_int_equal(b.scratch % CDP_SLAB_ALIGNMENT, 0);
    assert_int_equal(b.links % CDP_SLAB_ALIGNMENT, 0);
    run.on_gpu = false;
    assert_int_equal(cdp_layer_weight_bytes(card, &run, 0), 2 * 288 + 17280 + 10368 + 25344 + 12672);
    free(card);
}

/* Ten states looked at: 8 sequences carry 10 * 16 rows, because fewer than the head takes at once are not
 * planned for. */
static void test_taps_are_counted(void **state) {
    (void)state;
    cdp_model_card *card = card_of(LLAMA_3_8B);
    cdp_run_shape plain = test_run(8192, 8), run = plain;
    run.n_taps = 10;
    assert_int_equal(cdp_tap_rows(&plain), 0);
    assert_int_equal(cdp_tapped_home_rows(&plain), 0);
    assert_int_equal(cdp_tap_rows(&run), 10 * CDP_HOME_ROWS);
    const uint64_t travelling = UINT64_C(2) * 10 * 16 * 4096 * 2; /* two slots, bf16 */
    assert_int_equal(cdp_link_bytes(card, &run) - cdp_link_bytes(card, &plain), travelling);
    for (int on_gpu = 0; on_gpu < 2; on_gpu++) {
        plain.on_gpu = run.on_gpu = on_gpu == 1;
        const cdp_scratch_bytes a = cdp_scratch(card, &plain, true), b = cdp_scratch(card, &run, true);
        assert_int_equal(a.taps, 0);
        assert_int_equal(cdp_scratch(card, &run, false).taps, 0); /* only rank 0 has a head */
        /* On a GPU what is kept is the host's, and a slot's list of rows is counted to the byte. */
        const uint64_t gathered = 16 * 4096 * 2, kept = UINT64_C(3) * 8 * 128256 * 4,
                       states = UINT64_C(2) * 8 * 11 * 4096 * 4;
        assert_int_equal(b.taps, gathered + (on_gpu ? 256 : 16 * 4 + gathered + kept + states));
        assert_int_equal(b.step - a.step, on_gpu ? 2 * 768 : 2 * 160 * 8 * 4);
        assert_int_equal(b.total, a.total + b.taps + b.step - a.step);
    }
    run.max_batch = 100;
    assert_int_equal(cdp_tap_rows(&run), 1000);
    free(card);
}

/* Numbers beyond any memory stay there and do not come round to small ones. */
static void test_overflow_stays_large(void **state) {
    (void)state;
    cdp_model_card *card = card_of(LLAMA_2_70B);
    const cdp_run_shape run = test_run(INT32_MAX, 65536);
    assert_true(cdp_memory_stage(card, &run, 0, 80, true, INT64_MAX).kv == UINT64_MAX);
    assert_true(cdp_memory_stage(card, &run, 0, 80, true, INT64_MAX).total == UINT64_MAX);
    card->hidden = card->ffn = card->vocab = INT32_MAX;
    card->n_layers = CDP_MAX_LAYERS;
    assert_true(cdp_model_weight_bytes(card, &run) == UINT64_MAX);
    assert_true(cdp_memory_stage(card, &run, 0, 1024, true, 1).total == UINT64_MAX);
    free(card);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_shapes),
        cmocka_unit_test(test_llama_3_8b_weighs),
        cmocka_unit_test(test_fused_matrices_weigh_the_same),
        cmocka_unit_test(test_optional_tensors),
        cmocka_unit_test(test_run_numbers),
        cmocka_unit_test(test_scratch_buffers),
        cmocka_unit_test(test_taps_are_counted),
        cmocka_unit_test(test_stage_adds_up),
        cmocka_unit_test(test_slab_counts_whole_places),
        cmocka_unit_test(test_overflow_stays_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
