"""Image GPT: no caption, a palette for an autoencoder, pictures that are completed; tokens equal over the whole grid."""

import json
from pathlib import Path

import numpy as np
import pytest
import served
import torch
from conftest import Graph

GRID, COLOURS = 8, 64


def model(activation: str) -> torch.nn.Module:
    """Random weights, of which every one counts and which decide."""
    from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

    config = ImageGPTConfig(vocab_size=COLOURS + 1, n_positions=GRID * GRID, n_embd=64, n_layer=3, n_head=4, activation_function=activation)
    gpt = ImageGPTForCausalImageModeling(config).eval()
    for parameter in gpt.parameters():
        parameter.add_(torch.randn_like(parameter) * (0.2 if parameter.dim() == 1 else 0.15))
    return gpt


def save(gpt: torch.nn.Module, folder: Path, colours: np.ndarray) -> Path:
    gpt.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"clusters": colours.tolist()}))
    return folder


def complete(gpt: torch.nn.Module, given: list[int], choose) -> list[int]:
    """The picture that begins with `given`: `choose` takes a token by its logits and its place."""
    ids = [COLOURS, *given]
    for place in range(len(given), GRID * GRID):
        ids.append(choose(gpt(torch.tensor([ids]), use_cache=False).logits[0, -1], place))
    return ids[1:]


def painted(colours: np.ndarray, tokens: list[int]) -> np.ndarray:
    """The picture of tokens, as the original's own pages make it."""
    return np.rint(127.5 * (colours[tokens] + 1)).astype(np.uint8).reshape(1, GRID, GRID, 3)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu_new"])
def test_tokens_and_pixels_are_equal(activation: str, tmp_path: Path):
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    colours = np.random.default_rng(1).uniform(-1, 1, (COLOURS, 3)).astype(np.float32)
    gpt = model(activation)
    package = served.imported(save(gpt, tmp_path / "checkpoint", colours), tmp_path / "package")

    def greedy(logits: torch.Tensor, _: int) -> int:
        return int(logits.argmax())

    def sampled(logits: torch.Tensor, place: int) -> int:
        logits = logits[None]
        for warper in (TemperatureLogitsWarper(0.8), TopKLogitsWarper(20), TopPLogitsWarper(0.9)):
            logits = warper(None, logits)
        return served.fall(logits[0].softmax(-1), 7, place)

    given = torch.randint(0, COLOURS, (GRID * GRID // 2,)).tolist()
    with served.suite(package) as suite:
        expected = complete(gpt, [], greedy)
        assert len(set(expected)) > 5, "the tokens are much alike"
        assert suite.draw([]) == [expected]
        made = suite.generate("")
        assert (made.text, made.tokens) == ([], expected)
        assert (made.pixels == painted(colours, expected)).all()
        assert suite.draw([], given=given) == [complete(gpt, given, greedy)]
        expected = complete(gpt, given, sampled)
        assert suite.draw([], seeds=[7], given=given, temperature=0.8, top_k=20, top_p=0.9) == [expected]
    pixels = Graph(package / "decoder.onnx")(np.array([expected]))
    assert (pixels == painted(colours, expected)).all()
    assert (Graph(package / "encoder.onnx")(pixels) == [expected]).mean() > 0.99
