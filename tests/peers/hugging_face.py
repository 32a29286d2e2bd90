"""Hugging Face transformers' `generate`: a dense GPT-2 of the same size, f32, its own cache. A step's time is what one more token adds to a call."""

import time
from pathlib import Path

import torch
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from timing import CODES, HEAD_WIDTH, POSITIONS, Geometry, progress, report


@torch.inference_mode()
def run(geometry: Geometry, cache: Path, threads: int, positions: list[int], batches: list[int], steps: int) -> None:
    torch.set_num_threads(threads)
    # One position more than Easel's: generate wants room for the token that it gives.
    config = GPT2Config(
        vocab_size=CODES,
        n_positions=POSITIONS + steps + 2,
        n_embd=geometry.width,
        n_layer=geometry.layers,
        n_head=geometry.heads,
        bos_token_id=0,
        eos_token_id=None,
    )
    model, found = GPT2LMHeadModel(config).eval(), []
    for batch in batches:
        for position in positions:
            progress(f"generate: batch {batch}, position {position} …")
            keys = DynamicCache(config=config)
            shape = (batch, geometry.heads, position, HEAD_WIDTH)
            for layer in range(geometry.layers):
                keys.update(torch.randn(shape), torch.randn(shape), layer)
            ids = torch.zeros(batch, position + 1, dtype=torch.long)
            times: list[float] = []
            stamp = lambda tokens, scores: times.append(time.perf_counter()) or scores
            model.generate(
                ids,
                past_key_values=keys,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=steps + 2,
                do_sample=True,
                top_k=256,
                logits_processor=[stamp],
                pad_token_id=0,
            )
            took = sorted((b - a) * 1e3 for a, b in zip(times[1:], times[2:]))
            found.append({"batch": batch, "position": position, "ms": took[len(took) // 2], "least_ms": took[0]})
    report("Hugging Face generate f32", found)
