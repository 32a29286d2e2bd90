"""dalle-pytorch: a whole checkpoint, imported and served; tokens equal over the whole grid, greedy, guided and sampled."""

import json
import shutil
from pathlib import Path

import originals
import pytest
import served
import torch
from test_pictures import CODES, hold_pixels, taming
from torch import nn

BASE = dict(dim=64, num_text_tokens=100, text_seq_len=7, depth=4, heads=2, dim_head=32)
PICTURES = dict(image_size=64, num_layers=3, num_tokens=64, codebook_dim=32, hidden_dim=16)
ALL = ("full", "axial_row", "axial_col", "conv_like")
CAPTIONS = [[5, 9, 33, 2], [71, 1, 99, 98, 3, 44, 8]]

CONFIGURATIONS = {
    "plain": dict(),
    "masks": dict(attn_types=ALL),
    "added-positions": dict(rotary_emb=False, attn_types=("axial_row", "axial_col")),
    "stable-sandwich": dict(stable=True, sandwich_norm=True),
    "no-shift": dict(shift_tokens=False, attn_types=("conv_like",)),
    "reversible": dict(reversible=True, attn_types=("full", "axial_row")),
    "shared": dict(share_input_output_emb=True, shared_attn_ids=(0, 1, 0, 1), shared_ff_ids=(0, 0, 1, 1)),
    "everything": dict(attn_types=ALL, reversible=True, sandwich_norm=True, stable=True, share_input_output_emb=True),
}


def model(options: dict, vae: nn.Module | None = None) -> nn.Module:
    """Random weights, of which every one counts and which decide."""
    from dalle_pytorch import DALLE, DiscreteVAE

    dalle = DALLE(vae=vae or DiscreteVAE(**PICTURES), **{**BASE, **options}).eval()
    for name, parameter in dalle.named_parameters():
        if name.endswith("scale"):
            parameter.fill_(1.0).add_(torch.randn_like(parameter) * 0.1)
        elif "norm" in name or name.startswith("to_logits.0"):
            parameter.add_(torch.randn_like(parameter) * 0.2)
        elif parameter.dim() > 1 and not name.startswith("vae"):
            parameter.mul_(1.7)
    return dalle


def save(dalle: nn.Module, options: dict, folder: Path, **others: object) -> Path:
    """As `train_dalle.py` does; those before 1.1.6 did not say their version."""
    folder.mkdir()
    saved = dict(hparams={**BASE, **options}, vae_params=PICTURES, epoch=3, version="1.6.6", vae_class_name="DiscreteVAE", weights=dalle.state_dict())
    saved = {key: value for key, value in {**saved, **others}.items() if value is not None}
    torch.save(saved, folder / "dalle.pt")
    vocabulary = {f"w{i}": i for i in range(100)}
    words = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w1"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": words, "pre_tokenizer": {"type": "WhitespaceSplit"}}))
    return folder


def generate(dalle: nn.Module, monkeypatch, caption: list[int], **options: float) -> list[int]:
    """The tokens of the package's own generation."""
    text = torch.zeros(1, BASE["text_seq_len"], dtype=torch.long)
    text[0, : len(caption)] = torch.tensor(caption)
    kept = []
    monkeypatch.setattr(dalle.vae, "decode", lambda tokens: kept.append(tokens))
    dalle.generate_images(text, **options)
    return kept[0][0].tolist()


@pytest.fixture
def own_text(monkeypatch):
    """Guidance as it is meant: 1.6.6 overwrites the caption with the empty one in the first step, and so guides no other."""
    from dalle_pytorch import DALLE

    forward = DALLE.forward
    monkeypatch.setattr(DALLE, "forward", lambda self, text, *rest, **named: forward(self, text.clone(), *rest, **named))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_greedy_tokens_are_equal(name: str, tmp_path: Path, monkeypatch):
    options = CONFIGURATIONS[name]
    dalle = model(options)
    package = served.imported(save(dalle, options, tmp_path / "checkpoint"), tmp_path / "package")
    with served.suite(package) as suite:
        for caption in CAPTIONS:
            expected = generate(dalle, monkeypatch, caption, filter_thres=1.0)
            assert len(set(expected)) > 5, "the tokens are much alike"
            assert suite.draw(caption) == [expected]


def test_guided_and_sampled_tokens_are_equal(tmp_path: Path, monkeypatch, own_text):
    import dalle_pytorch.dalle_pytorch as original

    options = CONFIGURATIONS["masks"]
    dalle = model(options)
    package = served.imported(save(dalle, options, tmp_path / "checkpoint"), tmp_path / "package")
    texts, codes, seed = BASE["num_text_tokens"] + BASE["text_seq_len"], PICTURES["num_tokens"], 11
    # The package counts text and image tokens together.
    kept = max(int((1 - 0.9) * (texts + codes)), 1)
    with served.suite(package) as suite:
        expected = generate(dalle, monkeypatch, CAPTIONS[0], filter_thres=1.0, cond_scale=3.0)
        assert suite.draw(CAPTIONS[0], guidance_scale=3.0) == [expected]
        assert suite.draw(CAPTIONS[0], given=expected[:10], guidance_scale=3.0) == [expected]
        positions = iter(range(1 << 20))
        monkeypatch.setattr(
            original,
            "gumbel_sample",
            lambda logits, temperature, dim: torch.tensor([texts + served.fall((logits[0, texts:] / temperature).softmax(-1), seed, next(positions))]),
        )
        expected = generate(dalle, monkeypatch, CAPTIONS[1], filter_thres=0.9, temperature=0.8, cond_scale=2.0)
        assert suite.draw(CAPTIONS[1], seeds=[seed], temperature=0.8, top_k=kept, guidance_scale=2.0) == [expected]


def centred(dim: int, *, image_size: int, seq_len: int, **options: object) -> nn.Module:
    """The window of `conv_like` before 1.5.0: around the position, not with the position in its last corner."""
    from dalle_pytorch.attention import Attention

    cells, text = image_size**2, seq_len + 1 - image_size**2
    rows, columns = torch.arange(cells) // image_size, torch.arange(cells) % image_size
    near = ((rows[:, None] - rows).abs() <= 2) & ((columns[:, None] - columns).abs() <= 2)
    seen = torch.ones(text + cells, text + cells).bool()
    seen[text:, text:] = near
    return Attention(dim, seq_len, static_mask=seen[:seq_len, :seq_len], **options)


@pytest.mark.parametrize("version", [None, "1.4.2", "told"])
def test_older_files_see_an_older_window(version: str | None, tmp_path: Path, monkeypatch):
    """Before 1.1.6 files do not say their version, and before 1.0.0 there is no shift to be noted; `told` has it in a configuration."""
    options = dict(attn_types=("conv_like", "full"), rotary_emb=version == "1.4.2", shift_tokens=version == "1.4.2")
    with monkeypatch.context() as older:
        if version != "told":
            older.setattr("dalle_pytorch.transformer.SparseConvCausalAttention", centred)
        dalle = model(options)
    if version is None:
        del options["shift_tokens"]
    folder = save(dalle, options, tmp_path / "checkpoint", version=None if version == "told" else version)
    if version == "told":
        (folder / "config.json").write_text(json.dumps({"version": "1.5.0"}))
    expected = generate(dalle, monkeypatch, CAPTIONS[0], filter_thres=1.0)
    assert len(set(expected)) > 5, "the tokens are much alike"
    with served.suite(served.imported(folder, tmp_path / "package")) as suite:
        assert suite.draw(CAPTIONS[0]) == [expected]


def openai() -> nn.Module:
    """DALL·E's autoencoder, which the package loads by itself from the net."""
    from dall_e import Decoder, Encoder
    from dalle_pytorch import OpenAIDiscreteVAE

    vae = OpenAIDiscreteVAE.__new__(OpenAIDiscreteVAE)
    nn.Module.__init__(vae)
    vae.enc = originals.perturb(Encoder(n_hid=64, n_blk_per_group=1, vocab_size=CODES), 1.5)
    vae.dec = originals.perturb(Decoder(n_init=16, n_hid=64, n_blk_per_group=1, vocab_size=CODES), 1.5)
    vae.channels, vae.num_layers, vae.image_size, vae.num_tokens = 3, 3, 64, CODES
    return vae


def vqgan(gumbel: bool) -> nn.Module:
    """taming-transformers' autoencoder, which the package loads from files."""
    from dalle_pytorch import VQGanVAE

    vae = VQGanVAE.__new__(VQGanVAE)
    nn.Module.__init__(vae)
    vae.model, vae.is_gumbel = taming(gumbel), gumbel
    levels = vae.model.decoder.num_resolutions - 1
    vae.channels, vae.num_layers, vae.image_size, vae.num_tokens = 3, levels, 8 << levels, CODES
    return vae


@pytest.mark.parametrize("name", ["openai", "vqgan", "gumbel"])
def test_pictures_of_other_projects_autoencoders_are_equal(name: str, tmp_path: Path, monkeypatch):
    vae = openai() if name == "openai" else vqgan(name == "gumbel")
    dalle = model({}, vae)
    decode = vae.decode
    folder = save(dalle, {}, tmp_path / "checkpoint", vae_params=None, vae_class_name=type(vae).__name__)
    expected = generate(dalle, monkeypatch, [5, 9, 33], filter_thres=1.0)
    assert len(set(expected)) > 5, "the tokens are much alike"
    with served.suite(served.imported(folder, tmp_path / "package")) as suite:
        made = suite.generate("w5 w9 w33")
        assert (made.text, made.tokens) == ([5, 9, 33], expected)
    hold_pixels(made.pixels, decode(torch.tensor([expected])), down=name == "openai")


def test_a_prompt_becomes_the_same_picture(tmp_path: Path, monkeypatch):
    """With the package's default vocabulary."""
    from dalle_pytorch import tokenizer

    options = dict(CONFIGURATIONS["masks"], num_text_tokens=tokenizer.tokenizer.vocab_size)
    dalle = model(options)
    decode = dalle.vae.decode
    folder = save(dalle, options, tmp_path / "checkpoint")
    (folder / "tokenizer.json").unlink()
    shutil.copy(Path(tokenizer.__file__).parent / "data/bpe_simple_vocab_16e6.txt", folder)
    package = served.imported(folder, tmp_path / "package")
    prompt = "A painting of an avocado armchair; it's 4k!"
    text = tokenizer.tokenizer.encode(prompt)[: BASE["text_seq_len"]]
    expected = generate(dalle, monkeypatch, text, filter_thres=1.0)
    with served.suite(package) as suite:
        made = suite.generate(prompt)
        assert (made.text, made.tokens) == (text, expected)
        hold_pixels(made.pixels, decode(torch.tensor([expected])) / 2 + 0.5, down=False)


def test_texts_are_equal(tmp_path: Path, monkeypatch):
    """With the package's default vocabulary."""
    from dalle_pytorch import tokenizer

    monkeypatch.setitem(BASE, "text_seq_len", 128)
    options = dict(num_text_tokens=tokenizer.tokenizer.vocab_size)
    folder = save(model(options), options, tmp_path / "checkpoint")
    (folder / "tokenizer.json").unlink()
    shutil.copy(Path(tokenizer.__file__).parent / "data/bpe_simple_vocab_16e6.txt", folder)
    with served.suite(served.imported(folder, tmp_path / "package")) as suite:
        suite.hold_texts(tokenizer.tokenizer.encode)
