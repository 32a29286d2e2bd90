"""DALL·E's own layout: the transformer of the embedded model's recipe, at DALL·E's geometry and at a smaller one; tokens equal over the whole grid.

Pictures and scores of this layout are held against the recipe in its own tests.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import served
import torch
from safetensors.torch import save_file

sys.path.append(str(served.ROOT / "models/scenes"))

CAPTIONS = ["a red car on the beach", "an armchair in the shape of an avocado"]
MASKS = ["row", "column", "full", "conv"]
SYNTHETIC = served.BUILT / "examples/synthetic"


class Recipe:
    """A checkpoint of random weights that decide, and the transformer that they are of."""

    def __init__(self, folder: Path, **sizes: object):
        """Of DALL·E's geometry, but for `sizes`; the autoencoder and CLIP are the importer's own random ones."""
        from recipe.transformer import Transformer
        from tokenizers import Tokenizer

        subprocess.run([SYNTHETIC, "128", str(len(MASKS)), folder], check=True)
        config = json.loads((folder / "config.json").read_text())
        transformer, pictures = config["transformer"], config["dvae"]
        transformer |= {"masks": MASKS, **sizes}
        pictures["image_size"] = transformer["grid"][0] * pictures["encoder"]["patch"]
        (folder / "config.json").write_text(json.dumps(config))
        self.model = Transformer(transformer, transformer["text_vocab"], pictures["quantizer"]["levels"]).eval()
        for name, parameter in self.model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * (0.02 if name == "image_bias" else 0.1))
            else:
                # The head is the embedding's: a token must not be its own likeliest successor.
                parameter.mul_(2 if "embedding" in name or "position" in name else 40)
        save_file({name: tensor.contiguous() for name, tensor in self.model.exported().items()}, folder / "transformer.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.words, self.length, self.codes = transformer["text_vocab"], transformer["text_length"], transformer["codebook"]

    def encode(self, caption: str) -> list[int]:
        return self.tokenizer.encode(caption, add_special_tokens=False).ids

    def text(self, caption: str) -> torch.Tensor:
        """A caption with a pad for each position behind it."""
        ids = self.encode(caption)
        return torch.tensor([ids + [self.words + place for place in range(len(ids), self.length)]])


@pytest.fixture
def small(tmp_path: Path) -> Recipe:
    return Recipe(tmp_path / "checkpoint", grid=[8, 8], text_length=64)


def draw(recipe: Recipe, monkeypatch, caption: str, seed: int, **options: float) -> list[int]:
    """The recipe's own draws, of Easel's numbers: by rising id, as Easel's fall."""
    which, places, topk = [], iter(range(1 << 20)), torch.Tensor.topk

    def best(logits: torch.Tensor, k: int) -> torch.Tensor:
        which[:] = topk(logits, k)
        return tuple(which)

    def fall(shares: torch.Tensor, _: int) -> torch.Tensor:
        all_shares = torch.zeros(recipe.codes).scatter(0, which[1][0], shares[0])
        return (which[1][0] == served.fall(all_shares, seed, next(places))).nonzero().reshape(1, 1)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "topk", best)
        patch.setattr(torch, "multinomial", fall)
        return recipe.model.sample(recipe.text(caption), **options)[0].tolist()


def test_greedy_guided_and_sampled_tokens_are_equal(small: Recipe, tmp_path: Path, monkeypatch):
    package = served.imported(tmp_path / "checkpoint", tmp_path / "package")
    with served.suite(package) as suite:
        for caption in CAPTIONS:
            for guidance in (1.0, 3.0):
                expected = small.model.sample(small.text(caption), temperature=0, guidance=guidance)[0].tolist()
                assert len(expected) == 64 and len(set(expected)) > 5, "the tokens are much alike"
                made = suite.generate(caption, guidance_scale=guidance)
                assert (made.text, made.tokens) == (small.encode(caption), expected)
        assert suite.draw(made.text, given=expected[:20], guidance_scale=guidance) == [expected]
        for seed in (7, 2**40):
            expected = draw(small, monkeypatch, CAPTIONS[0], seed, temperature=0.8, top_k=24, guidance=2.0)
            drawn = suite.draw(small.encode(CAPTIONS[0]), seeds=[seed], temperature=0.8, top_k=24, guidance_scale=2.0)
            assert drawn == [expected] and len(set(expected)) > 15


def test_texts_are_equal(tmp_path: Path):
    recipe = Recipe(tmp_path / "checkpoint", grid=[8, 8], text_length=256)
    with served.suite(served.imported(tmp_path / "checkpoint", tmp_path / "package")) as suite:
        suite.hold_texts(recipe.encode)


def test_tokens_are_equal_at_dalles_geometry(tmp_path: Path):
    """256 text positions, a grid of 32×32 of 8,192 codes, DALL·E's masks: behind random tokens, the most likely ones are the same."""
    recipe = Recipe(tmp_path / "checkpoint", masks=["row", "column", "row", "conv"])
    package = served.imported(tmp_path / "checkpoint", tmp_path / "package")
    assert (recipe.length, recipe.codes, recipe.model.grid) == (256, 8192, [32, 32])
    given = torch.randint(0, recipe.codes, (1024 - 12,)).tolist()
    expected = list(given)
    while len(expected) < 1024:
        # What stands where nothing is drawn yet is not seen.
        image = torch.tensor([expected + [0] * (1024 - len(expected))])
        logits = recipe.model(recipe.text(CAPTIONS[1]), image)[1]
        expected.append(int(logits[0, len(expected)].argmax()))
    assert len(set(expected[-12:])) > 3, "the tokens are much alike"
    with served.suite(package) as suite:
        assert suite.draw(recipe.encode(CAPTIONS[1]), given=given, guidance_scale=1.0) == [expected]
