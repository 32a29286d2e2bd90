"""onnxruntime-genai: a dense Llama of the same size, 4 bits, made of random weights by its own model builder; `generate_next_token` with top-k 256."""

import json
import subprocess
import sys
import time
from pathlib import Path

from timing import CODES, Geometry, progress, report

CONTEXT = 2048


def checkpoint(folder: Path, geometry: Geometry) -> None:
    """A Hugging Face Llama of random weights whose three matrices of an MLP are as large as the two of a GPT."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    config = LlamaConfig(
        vocab_size=CODES,
        hidden_size=geometry.width,
        intermediate_size=8 * geometry.width // 3 // 32 * 32,
        num_hidden_layers=geometry.layers,
        num_attention_heads=geometry.heads,
        num_key_value_heads=geometry.heads,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(CODES)}, unk_token="t0"))
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="t0", eos_token="t1").save_pretrained(folder)


def package(cache: Path, geometry: Geometry) -> Path:
    """The package in the cache, made where it is missing."""
    folder = cache / f"genai-{geometry.width}x{geometry.layers}"
    if not (folder / "genai_config.json").exists():
        source = cache / f"llama-{geometry.width}x{geometry.layers}"
        if not (source / "config.json").exists():
            progress("genai: random weights …")
            checkpoint(source, geometry)
        progress("genai: its model builder …")
        arguments = ["-i", source, "-o", folder, "-p", "int4", "-e", "cpu", "-c", cache / "hf"]
        extra = ["--extra_options", "int4_block_size=32", "int4_accuracy_level=4"]
        builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", *map(str, arguments), *extra]
        subprocess.run(builder, check=True, stdout=sys.stderr)
    return folder


def run(geometry: Geometry, cache: Path, threads: int, positions: list[int], batches: list[int], steps: int) -> None:
    import onnxruntime_genai as og

    folder = package(cache, geometry)
    options = {"decoder": {"session_options": {"intra_op_num_threads": threads}}}
    config = og.Config(str(folder))
    config.overlay(json.dumps({"model": options}))
    model, found = og.Model(config), []
    for batch in batches:
        for position in positions:
            progress(f"genai: batch {batch}, position {position} …")
            params = og.GeneratorParams(model)
            params.set_search_options(
                batch_size=batch, max_length=position + steps + 4, min_length=position + steps + 4, do_sample=True, top_k=256
            )
            generator = og.Generator(model, params)
            generator.append_tokens([[(7 + i + b) % CODES for i in range(position)] for b in range(batch)])
            times = []
            for _ in range(steps + 2):
                begin = time.perf_counter()
                generator.generate_next_token()
                times.append((time.perf_counter() - begin) * 1e3)
            took = sorted(times[2:])
            found.append({"batch": batch, "position": position, "ms": took[len(took) // 2], "least_ms": took[0]})
    report("onnxruntime-genai, 4 bits", found)
