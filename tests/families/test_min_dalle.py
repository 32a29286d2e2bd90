"""DALL·E Mini: a text encoder, attention across, guidance against an empty caption; tokens equal over the whole grid."""

import json
from pathlib import Path

import originals
import served
import torch

WIDTH, HEADS, LAYERS, INNER, TEXTS = 128, 2, 3, 96, 50
CAPTION, SCALE = [7, 9, 33, 21, 8], 4


def models() -> list[torch.nn.Module]:
    """Encoder and decoder of random weights, of which every one counts and which decide."""
    from min_dalle.models import DalleBartDecoder, DalleBartEncoder

    # Importing the package takes all cores, and tiny layers are slower for it.
    torch.set_num_threads(1)
    encoder = DalleBartEncoder(LAYERS, WIDTH, HEADS, TEXTS, 64, INNER, "cpu").eval()
    decoder = DalleBartDecoder(16384, WIDTH, HEADS, INNER, LAYERS, "cpu").eval()
    for model in (encoder, decoder):
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif name == "lm_head.weight":
                parameter.mul_(3)
            elif "embed" not in name:
                parameter.mul_(2)
    return [encoder, decoder]


def save(encoder: torch.nn.Module, decoder: torch.nn.Module, folder: Path) -> Path:
    from min_dalle.models.vqgan_detokenizer import VQGanDetokenizer

    folder.mkdir()
    for name, model in [("encoder", encoder), ("decoder", decoder), ("detoker", originals.perturb(VQGanDetokenizer()))]:
        torch.save(model.state_dict(), folder / f"{name}.pt")
    ends = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    (folder / "vocab.json").write_text(json.dumps(ends | {chr(97 + i): 4 + i for i in range(26)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def generate(encoder: torch.nn.Module, decoder: torch.nn.Module, caption: list[int], scale: int) -> list[int]:
    """The tokens of the package's own generation, the most likely one each time."""
    from min_dalle import MinDalle

    class Tokens:
        def tokenize(self, text: str, is_verbose: bool) -> list[int]:
            return [0, *caption, 2]

    original = MinDalle.__new__(MinDalle)
    original.device, original.dtype, original.is_reusable, original.text_token_count = "cpu", torch.float32, True, 64
    original.layer_count, original.embed_count = LAYERS, WIDTH
    original.tokenizer, original.encoder, original.decoder = Tokens(), encoder, decoder
    original.image_grid_from_tokens = lambda image_tokens, **_: image_tokens.clone()
    return next(original.generate_raw_image_stream("", seed=1, grid_size=1, top_k=1, supercondition_factor=scale))[0].tolist()


def test_guided_tokens_are_equal(tmp_path: Path):
    encoder, decoder = models()
    package = served.imported(save(encoder, decoder, tmp_path / "checkpoint"), tmp_path / "package")
    with served.sampler(package) as sampler:
        expected = generate(encoder, decoder, CAPTION, SCALE)
        assert len(expected) == 256 and len(set(expected)) > 20, "the tokens are much alike"
        assert sampler.draw(CAPTION, guidance_scale=float(SCALE)) == [expected]
