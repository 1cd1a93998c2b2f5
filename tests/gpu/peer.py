"""What transformers reaches on the shapes of bench_gpu.c, random weights: eager, its attention too, and
static cache with compile over torch's fused attention.

    python3 tests/gpu/peer.py 135M 1.24B 8B
"""
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

SHAPES = {  # hidden, heads, kv heads, ffn, layers, vocab, tied
    "135M": (576, 9, 3, 1536, 30, 49152, True),
    "1.24B": (2048, 32, 8, 8192, 16, 128256, True),
    "8B": (4096, 32, 8, 14336, 32, 128256, False),
}
CONTEXT, WARM_UP, STEPS = 512, 8, 32


def make(name, attention):
    hidden, heads, kv_heads, ffn, layers, vocab, tied = SHAPES[name]
    config = LlamaConfig(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads, vocab_size=vocab,
                         intermediate_size=ffn, num_hidden_layers=layers, tie_word_embeddings=tied,
                         max_position_embeddings=8192, attn_implementation=attention)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        return LlamaForCausalLM(config).eval(), config


def decode_rate(model, config, compiled):
    cache = StaticCache(config=config, max_batch_size=1, max_cache_len=CONTEXT + 64, device="cuda", dtype=torch.bfloat16)
    step = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True) if compiled else model.forward
    ids = torch.randint(config.vocab_size, (1, CONTEXT), device="cuda")
    model(ids, past_key_values=cache, use_cache=True, cache_position=torch.arange(CONTEXT, device="cuda"))
    token = ids[:, -1:]
    for i in range(WARM_UP + STEPS):
        if i == WARM_UP:
            torch.cuda.synchronize()
            began = time.perf_counter()
        where = torch.tensor([CONTEXT + i], device="cuda")
        token = step(token, past_key_values=cache, use_cache=True, cache_position=where).logits[:, -1].argmax(-1, True)
    torch.cuda.synchronize()
    return STEPS / (time.perf_counter() - began)


with torch.inference_mode():
    for shape in sys.argv[1:]:
        for way, attention in (("eager", "eager"), ("static cache + compile", "sdpa")):
            model, config = make(shape, attention)
            try:
                print(f"{shape:6} transformers {way}: decode batch=1 ctx={CONTEXT} tokens/s="
                      f"{decode_rate(model, config, way != 'eager'):.1f}", flush=True)
            except Exception as error:  # one way that fails says so, the others still run
                print(f"{shape:6} transformers {way}: {type(error).__name__}: {str(error)[:200]}", flush=True)
            del model
            torch.cuda.empty_cache()
