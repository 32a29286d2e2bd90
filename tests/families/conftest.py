"""Holds what the importer makes of a family's checkpoint against the family's own package, with random weights.

    make families-python
    cargo build --workspace --all-targets
    .tools/recipe/bin/python -m pytest tests/families
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import originals
import pytest
import torch

ROOT = Path(__file__).parents[2]


def part_command() -> str:
    """The example `part` of easel-import."""
    built = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/examples/part"
    return os.environ.get("EASEL_PART", str(built))


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Graph:
    """A graph of a package: one input, one output."""

    def __init__(self, path: Path):
        self.session = session(path)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return self.session.run(None, {self.session.get_inputs()[0].name: values})[0]


@pytest.fixture
def run_part(tmp_path: Path):
    """Imports a part and gives the graphs that were written."""

    def run(*arguments: object) -> dict[str, Graph]:
        out = tmp_path / "out"
        out.mkdir()
        command = [part_command(), *map(str, arguments), str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return {path.stem: Graph(path) for path in out.glob("*.onnx")}

    return run


@pytest.fixture(autouse=True)
def seeded():
    originals.stand_in()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
