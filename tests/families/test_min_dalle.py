"""DALL·E Mini: a text encoder, attention across, guidance against an empty caption; tokens equal over the whole grid, greedy and sampled."""

import json
import shutil
from pathlib import Path

import originals
import served
import torch
from test_pictures import hold_pixels

WIDTH, HEADS, LAYERS, INNER, TEXTS = 128, 2, 3, 96, 500
PROMPT, SCALE = "A painting of an avocado armchair; it's 4k!", 4


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


def save(encoder: torch.nn.Module, decoder: torch.nn.Module, pictures: torch.nn.Module, folder: Path) -> Path:
    folder.mkdir()
    for name, model in [("encoder", encoder), ("decoder", decoder), ("detoker", pictures)]:
        torch.save(model.state_dict(), folder / f"{name}.pt")
    for name in ["vocab.json", "merges.txt"]:
        shutil.copy(served.VOCABULARIES / f"mini-{name}", folder / name)
    return folder


def text_tokenizer(folder: Path, monkeypatch):
    """The package's own, without the names of emoji, which Easel leaves out."""
    from min_dalle import text_tokenizer

    monkeypatch.setattr(text_tokenizer, "demojize", lambda text, delimiters: text)
    merges = (folder / "merges.txt").read_text().split("\n")[1:-1]
    return text_tokenizer.TextTokenizer(json.loads((folder / "vocab.json").read_text()), merges)


def generate(encoder: torch.nn.Module, decoder: torch.nn.Module, tokenizer: object, prompt: str, **options: float) -> list[int]:
    """The tokens of the package's own generation; unless told otherwise, the most likely one each time."""
    from min_dalle import MinDalle

    original = MinDalle.__new__(MinDalle)
    original.device, original.dtype, original.is_reusable, original.text_token_count = "cpu", torch.float32, True, 64
    original.layer_count, original.embed_count = LAYERS, WIDTH
    original.tokenizer, original.encoder, original.decoder = tokenizer, encoder, decoder
    original.image_grid_from_tokens = lambda image_tokens, **_: image_tokens.clone()
    stream = original.generate_raw_image_stream(prompt, seed=1, grid_size=1, **{"top_k": 1, "supercondition_factor": SCALE, **options})
    return next(stream)[0].tolist()


def test_a_prompt_becomes_the_same_picture(tmp_path: Path, monkeypatch):
    """With guidance."""
    from min_dalle.models.vqgan_detokenizer import VQGanDetokenizer

    encoder, decoder = models()
    pictures = originals.perturb(VQGanDetokenizer(), 1.2)
    folder = save(encoder, decoder, pictures, tmp_path / "checkpoint")
    package = served.imported(folder, tmp_path / "package")
    tokenizer = text_tokenizer(folder, monkeypatch)
    expected = generate(encoder, decoder, tokenizer, PROMPT)
    assert len(expected) == 256 and len(set(expected)) > 20, "the tokens are much alike"
    with served.suite(package) as suite:
        made = suite.generate(PROMPT, guidance_scale=float(SCALE))
        assert (made.text, made.tokens) == (tokenizer.tokenize(PROMPT)[1:-1], expected)
        pixels = pictures(False, torch.tensor([expected])).reshape(1, 256, 256, 3).permute(0, 3, 1, 2) / 255
        hold_pixels(made.pixels, pixels, down=True)
        assert suite.draw(made.text, guidance_scale=float(SCALE)) == [expected]
        suite.hold_texts(lambda caption: tokenizer.tokenize(caption)[1:-1])
        for seed, temperature, top_k, scale in [(7, 0.8, 24, 3), (2**40, 1.0, 256, 16)]:
            places = iter(range(256))
            with monkeypatch.context() as patch:
                patch.setattr(torch, "multinomial", lambda shares, _: torch.tensor([[served.fall(shares[0], seed, next(places))]]))
                expected = generate(encoder, decoder, tokenizer, PROMPT, temperature=temperature, top_k=top_k, supercondition_factor=scale)
            assert len(set(expected)) > 50, "the tokens are much alike"
            options = dict(temperature=temperature, top_k=top_k, guidance_scale=float(scale))
            assert suite.draw(made.text, seeds=[seed], **options) == [expected]
