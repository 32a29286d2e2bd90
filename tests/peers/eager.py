"""PyTorch eager, f32, with preallocated keys and values: the same weights, masks and positions as Easel's package, of the same checkpoint."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from timing import GRID, HEAD_WIDTH, POSITIONS, TEXT, Geometry, measure, progress, report

EPSILON, SCALE = 1e-5, 1.5


def seen(mask: str, position: int) -> torch.Tensor:
    """Which of the positions up to its own a token sees: all text, and of the image what its mask allows."""
    keys = torch.arange(position + 1)
    cell, others = position - TEXT, keys - TEXT
    row, column = cell // GRID, cell % GRID
    image = {
        "row": cell - others <= GRID,
        "column": (cell - others) % GRID == 0,
        "conv": ((row - others // GRID).abs() <= 5) & ((column - others % GRID).abs() <= 5),
    }[mask]
    return ((keys < TEXT) | image)[None]


class Model:
    """The `dalle` layout's transformer (docs/checkpoint.md), one step of a batch at a time."""

    def __init__(self, checkpoint: Path, geometry: Geometry):
        self.geometry = geometry
        with safe_open(checkpoint / "transformer.safetensors", "pt") as tensors:
            self.weights = {key: tensors.get_tensor(key) for key in tensors.keys()}

    def map(self, x, key):
        return linear(x, self.weights[f"{key}.weight"], self.weights.get(f"{key}.bias"))

    def norm(self, x, key):
        return layer_norm(x, x.shape[-1:], self.weights[f"{key}.weight"], self.weights[f"{key}.bias"], EPSILON)

    def step(self, tokens, position: int, cache, masks):
        weights, heads = self.weights, self.geometry.heads
        cell = position - TEXT
        places = weights["row_position.weight"][cell // GRID] + weights["column_position.weight"][cell % GRID]
        x = weights["image_embedding.weight"][tokens] + places
        for layer, (keys, values) in enumerate(cache):
            key = f"layers.{layer}"
            qkv = self.map(self.norm(x, f"{key}.attention_norm"), f"{key}.attention.qkv")
            query, new, value = qkv.view(-1, 3, heads, 1, HEAD_WIDTH).unbind(1)
            query, new = (torch.nn.functional.rms_norm(t, (HEAD_WIDTH,)) for t in (query, new))
            keys[:, :, position : position + 1], values[:, :, position : position + 1] = new, value
            attended = scaled_dot_product_attention(
                query,
                keys[:, :, : position + 1],
                values[:, :, : position + 1],
                attn_mask=masks[self.geometry.mask(layer)],
                scale=SCALE * HEAD_WIDTH**-0.5,
            )
            x = x + self.map(attended.view(len(tokens), -1), f"{key}.attention.out")
            inner = gelu(self.map(self.norm(x, f"{key}.mlp_norm"), f"{key}.mlp.up"), approximate="tanh")
            x = x + self.map(inner, f"{key}.mlp.down")
        return self.map(self.norm(x, "norm"), "image_head")


@torch.inference_mode()
def run(geometry: Geometry, cache: Path, threads: int, positions: list[int], batches: list[int], steps: int) -> None:
    torch.set_num_threads(threads)
    model, found = Model(cache / geometry.folder, geometry), []
    for batch in batches:
        shape = (batch, geometry.heads, POSITIONS, HEAD_WIDTH)
        kept = [(torch.randn(shape), torch.randn(shape)) for _ in range(geometry.layers)]
        tokens = torch.arange(batch) * 769 % 8192
        for position in positions:
            progress(f"eager: batch {batch}, position {position} …")
            masks = {name: seen(name, position) for name in ("row", "column", "conv")}
            times = measure(lambda: model.step(tokens, position, kept, masks), steps)
            found.append({"batch": batch, "position": position, **times})
        del kept
    report("PyTorch eager f32", found)
