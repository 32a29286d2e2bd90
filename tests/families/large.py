"""A model of 1.8 billion parameters: the geometry of Janus-Pro 1B with random weights, in eight shards of 16-bit floats, imported to 4 bits, loaded, and a
token drawn.

Not among the tests of every run: it takes minutes and 5 GB of disk. `make test-large`.
"""

import contextlib
import json
import subprocess
import time
from pathlib import Path

import numpy as np
import served
import torch
from easel.v1 import sampler_pb2, types_pb2
from safetensors.numpy import save_file
from test_janus import write_tokenizer

SHARDS = 8
GIB = 1 << 30
MOST = 3 * GIB
RELEASE = served.BUILT.parent / "release"
CAPTION = [33, 21, 40]


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Of every tensor of the original, whose configuration is written."""
    from transformers import JanusConfig, JanusForConditionalGeneration, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

    text = LlamaConfig(
        vocab_size=102400, hidden_size=2048, intermediate_size=5632, num_hidden_layers=24, num_attention_heads=16, max_position_embeddings=16384, pad_token_id=0
    )
    # The tower that reads pictures is not imported, and need not be large.
    vision = JanusVisionConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=384, patch_size=16, projection_dim=2048, mlp_ratio=2)
    pictures = JanusVQVAEConfig(image_token_embed_dim=2048, projection_dim=2048)
    with torch.device("meta"):
        janus = JanusForConditionalGeneration(JanusConfig(text_config=text, vision_config=vision, vq_config=pictures, image_token_id=5))
    janus.config.save_pretrained(folder)
    return {name: tuple(tensor.shape) for name, tensor in janus.state_dict().items()}


def write(folder: Path) -> int:
    """A checkpoint as Hugging Face cuts it, a shard at a time in memory; gives how many numbers there are."""
    folder.mkdir()
    found = shapes(folder)
    write_tokenizer(folder)
    total = sum(int(np.prod(shape)) for shape in found.values())
    noise, done, files = np.random.default_rng(0).standard_normal(1 << 22, np.float32), 0, {}
    shards: list[dict[str, np.ndarray]] = [{} for _ in range(SHARDS)]
    for name, shape in found.items():
        files[name] = min(done * SHARDS // total, SHARDS - 1)
        done += int(np.prod(shape))
    for number, shard in enumerate(shards):
        for name in (name for name, at in files.items() if at == number):
            shape, size = found[name], int(np.prod(found[name]))
            spread, mean = (0.1, float("norm" in name)) if len(shape) < 2 else (np.prod(shape[1:]) ** -0.5, 0.0)
            numbers = np.resize(np.roll(noise, len(name) * 7919), size) * np.float32(spread) + np.float32(mean)
            shard[name] = numbers.astype(np.float16).reshape(shape)
        save_file(shard, folder / shard_name(number), {"format": "pt"})
        shard.clear()
    index = {"metadata": {"total_size": 2 * total}, "weight_map": {name: shard_name(number) for name, number in files.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def shard_name(number: int) -> str:
    return f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"


def peak(pid: int) -> int:
    """The most memory that a process has held, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


def test_a_model_of_a_billion_parameters_is_imported_in_little_memory_and_served(tmp_path: Path):
    checkpoint, package = tmp_path / "checkpoint", tmp_path / "package"
    count = write(checkpoint)
    assert count > 1.3e9 and len(list(checkpoint.glob("*.safetensors"))) == SHARDS
    began, most = time.monotonic(), 0
    command = [RELEASE / "easel", "import", checkpoint, "--out", package, "--weights", "q4"]
    process = subprocess.Popen(command, env=served.environment())
    while process.poll() is None:
        most = max(most, peak(process.pid))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
    took = time.monotonic() - began
    stored = sum(file.stat().st_size for file in package.iterdir())
    print(f"{count / 1e9:.2f} billion numbers, {2 * count / GIB:.1f} GiB: {stored / GIB:.2f} GiB in {took:.0f} s with {most / GIB:.2f} GiB of memory")
    assert process.returncode == 0
    assert 0 < most < MOST
    began = time.monotonic()
    with served.suite(package, RELEASE, patience=600) as suite:
        ready = time.monotonic() - began
        request = sampler_pb2.SampleRequest(
            text_tokens=CAPTION,
            candidates=[sampler_pb2.SampleRequest.Candidate(id=0, seed=0)],
            parameters=types_pb2.SamplingParameters(temperature=0.0, guidance_scale=1.0),
        )
        answers = suite.sampler.Sample(request, timeout=300)
        drawn = next(answer.chunk.tokens for answer in answers if answer.HasField("chunk"))
        answers.cancel()
        assert 0 <= drawn[0] < 16384
        took = time.monotonic() - began
        print(f"served after {ready:.0f} s, a token after {took:.0f} s, with {peak(suite.pid) / GIB:.2f} GiB of memory")
