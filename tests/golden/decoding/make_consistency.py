"""Greedy answers by `--cd-method consistency`, in exact arithmetic: NAME/consistency.jsonl beside this file.

    pip install torch transformers safetensors
    python3 tests/golden/decoding/make_consistency.py

Weights as stored, everything in float64 but what transformers itself does in float32 (norms, rope, softmax of the
attention), the whole context anew for every token. A token is the argmax of the row of layer

    argmax_i  c * cos(h_i, ref) - (1 - c) * Hn_i        ref = sum_i d^(L-1-i) h_i        lowest i on ties

over the layers of the window; h_i leaves block i, before the final norm. Hn is the entropy of all logits / ln V, or of
the k largest / ln k. The prompts are those of NAME/conservative.jsonl, whose first entropies are compared.
"""
import json
import math
import pathlib

import torch
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
N_PROMPTS, N_TOKENS = 3, 16
WAYS = [  # consistency c, decay d, window K (None: all), k of the entropy (0: all)
    (0.5, 0.0, None, 0),
    (0.5, 0.8, None, 0),
    (1.0, 0.9, None, 0),
    (0.0, 0.0, None, 0),
    (0.3, 0.0, 2, 0),
    (0.8, 1.0, 3, 0),
    (0.4, 0.5, None, 20),
]


def folder_of(name):
    return HERE.parents[2] / "examples/shakespeare" if name == "shakespeare" else HERE.parent / "models" / name


def entropy(logits):
    logs = torch.log_softmax(logits, -1)
    return -(logs.exp() * logs).sum(-1)


class Reader:
    def __init__(self, name):
        self.model = AutoModelForCausalLM.from_pretrained(
            folder_of(name), dtype=torch.float64, attn_implementation="eager"
        ).eval()
        self.left = []  # what left each block
        for layer in self.model.model.layers:
            layer.register_forward_hook(lambda _, __, out: self.left.append(out[0] if isinstance(out, tuple) else out))

    def __call__(self, ids):
        """hidden rows (L, hidden) and logits (L, V) of the last position."""
        self.left.clear()
        last = self.model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        hidden = torch.stack([row[0, -1] for row in self.left])
        logits = self.model.lm_head(self.model.model.norm(hidden)) / getattr(self.model.config, "logits_scaling", 1.0)
        assert torch.allclose(logits[-1], last, atol=1e-6)
        return hidden, logits


def choose(hidden, logits, c, d, window, k):
    """layer, margin to the second score, cosines (None below the window)"""
    n = len(hidden)
    first = 0 if window is None else max(0, n - 1 - window)
    ref = sum(d ** (n - 1 - i) * hidden[i] for i in range(first, n))
    rows = torch.topk(logits, k).values if k else logits
    shares = entropy(rows) / math.log(rows.shape[-1])
    cosines = torch.nn.functional.cosine_similarity(hidden, ref[None], dim=-1, eps=0.0)
    scores = (c * cosines - (1 - c) * shares).tolist()
    order = sorted(range(first, n), key=lambda i: (-scores[i], i))
    return order[0], scores[order[0]] - scores[order[1]], cosines.tolist(), first


def short(x):
    return float(f"{x:.6g}")


def answer(read, prompt, way, eos):
    ids, line = list(prompt), {"prompt_ids": prompt, "method": "consistency", "p": 1.0}
    line |= dict(zip(("consistency", "decay", "window", "top_k"), way))
    line |= {key: [] for key in ("token_ids", "selected_layers", "token_margin", "score_margin", "entropies", "cosines")}
    while len(line["token_ids"]) < N_TOKENS and line["token_ids"][-1:] != [eos]:
        hidden, logits = read(ids)
        layer, margin, cosines, first = choose(hidden, logits, *way)
        best = torch.topk(logits[layer], 2).values.tolist()
        token = int(logits[layer].argmax())
        rows = torch.topk(logits, way[3]).values if way[3] else logits
        line["token_ids"].append(token)
        line["selected_layers"].append(layer)
        line["token_margin"].append(short(best[0] - best[1]))
        line["score_margin"].append(short(margin))
        line["entropies"].append([short(x) for x in entropy(rows).tolist()])
        line["cosines"].append([short(x) if i >= first else None for i, x in enumerate(cosines)])
        ids.append(token)
    return line


def main():
    for folder in sorted(path.parent for path in HERE.glob("*/conservative.jsonl")):
        known = [json.loads(line) for line in open(folder / "conservative.jsonl")]
        prompts = {tuple(line["prompt_ids"]): line["entropies"][0] for line in known}
        read, seen = Reader(folder.name), set()
        with torch.no_grad(), open(folder / "consistency.jsonl", "w") as out:
            for prompt, nats in list(prompts.items())[:N_PROMPTS]:
                got = entropy(read(list(prompt))[1])
                assert torch.allclose(got, torch.tensor(nats, dtype=torch.float64), atol=1e-5)
                for way in WAYS:
                    line = answer(read, list(prompt), way, read.model.config.eos_token_id)
                    seen |= set(line["selected_layers"])
                    print(json.dumps(line, separators=(",", ":")), file=out)
        print(folder.name, "layers chosen:", sorted(seen))


main()
