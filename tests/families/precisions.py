"""What the precisions of weights cost: figures against 32-bit floats, and the same pictures drawn with each.

    python tests/families/precisions.py SHEET.jpg CHECKPOINT     a model of one's own, and its example captions
    python tests/families/precisions.py SHEET.jpg                dalle-pytorch with random weights

Needs what `make families-python` and `cargo build --workspace --all-targets` make.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import originals
import served
import torch
from PIL import Image

PRECISIONS = ["f32", "f16", "q8", "q4"]
SAMPLES, SEED, SIDE = 4, 7, 96
GEOMETRY = dict(dim=512, num_text_tokens=100, text_seq_len=16, depth=8, heads=8, dim_head=64, attn_types=("full", "axial_row", "axial_col", "conv_like"))
PICTURES = dict(image_size=128, num_layers=3, num_tokens=1024, codebook_dim=64, hidden_dim=32)


def random_model(folder: Path) -> tuple[Path, list[str]]:
    """Weights that decide, so that quantising them shows; captions of random words."""
    import test_dalle_pytorch as family

    originals.stand_in()
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    family.BASE, family.PICTURES = GEOMETRY, PICTURES
    words = np.random.default_rng(0).integers(2, 100, (8, 6))
    return family.save(family.model({}), {}, folder), [" ".join(f"w{word}" for word in caption) for caption in words]


def sheet(rows: list[list[np.ndarray]]) -> Image.Image:
    """A row for each caption, a column for each precision."""
    made = Image.new("RGB", (SIDE * len(PRECISIONS), SIDE * len(rows)))
    for y, row in enumerate(rows):
        for x, pixels in enumerate(row):
            made.paste(Image.fromarray(pixels[0]).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x * SIDE, y * SIDE))
    return made


def main() -> None:
    out, *given = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, captions = (Path(given[0]), []) if given else random_model(Path(folder) / "checkpoint")
        columns = []
        for weights in PRECISIONS:
            package = served.imported(checkpoint, Path(folder) / weights, weights=weights)
            captions = captions or json.loads((package / "manifest.json").read_text())["examples"]
            command = [served.BUILT / "examples/precision", Path(folder) / PRECISIONS[0], package, str(SAMPLES), *captions]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=served.environment())
            print(f"{weights}: sampler.onnx {(package / 'sampler.onnx').stat().st_size / 1e6:.1f} MB; {done.stdout.strip()}", flush=True)
            with served.suite(package) as suite:
                columns.append([suite.generate(caption, SEED, temperature=1.0).pixels for caption in captions])
        sheet([list(row) for row in zip(*columns)]).save(out, quality=88)


main()
