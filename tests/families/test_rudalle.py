"""ruDALL-E: DALL·E's own masks, greedy and sampled; tokens equal over the whole grid, pixels within 1."""

import json
import shutil
import zlib
from pathlib import Path

import originals
import pytest
import served
import torch
from test_pictures import DDCONFIG, hold_pixels

# Larger than the square of 11 that the last layer sees.
GRID = 16
CODES, WORDS, LENGTH = 64, 500, 9
START, END = 2, 3
CAPTIONS = [[START, 5, 9, 33, END], [START, 71, 11, 119, 98, 13, 44, 8, 15]]


# Of the published models.
REAL = dict(image_tokens_per_dim=32, text_seq_length=128, vocab_size=16384 + 128, image_vocab_size=8192)


def model(sandwich: bool, **sizes: int | str) -> torch.nn.Module:
    """Random weights, of which every one counts and which decide."""
    from rudalle.dalle.model import DalleModel

    small = dict(image_tokens_per_dim=GRID, text_seq_length=LENGTH, vocab_size=WORDS + sizes.get("text_seq_length", LENGTH), image_vocab_size=CODES)
    dalle = DalleModel(
        device="cpu",
        num_layers=6,
        hidden_size=64,
        num_attention_heads=4,
        embedding_dropout_prob=0.1,
        output_dropout_prob=0.1,
        attention_dropout_prob=0.1,
        cogview_sandwich_layernorm=sandwich,
        cogview_pb_relax=sandwich,
        **{**small, **sizes},
    )
    for name, parameter in dalle.eval().named_parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * (0.2 if "norm" in name or name.startswith("to_logits.0") else 0.02))
        else:
            # Positions are drawn small.
            parameter.mul_(20 if "pos_" in name or "_row_" in name or "_col_" in name else 2)
    return dalle


def autoencoder(wavelets: bool, codes: int = CODES) -> torch.nn.Module:
    from omegaconf import OmegaConf
    from rudalle.vae.model import VQGanGumbelVAE

    params = dict(ddconfig=dict(DDCONFIG), n_embed=codes, embed_dim=32, kl_weight=1e-8)
    return originals.perturb(VQGanGumbelVAE(OmegaConf.create(dict(model=dict(params=params))), dwt=wavelets), 1.3)


def save(dalle: torch.nn.Module, vae: torch.nn.Module, wavelets: bool, folder: Path) -> Path:
    folder.mkdir()
    torch.save(dalle.state_dict(), folder / "pytorch_model_v3.bin")
    torch.save({"state_dict": (vae if wavelets else vae.model).state_dict()}, folder / "vqgan.ckpt")
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 4}))
    shutil.copy(served.VOCABULARIES / "bpe.model", folder)
    return folder


def filtered(logits: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """What the package takes from an older transformers: the k best, those as likely as the k-th too, until `top_p` is passed."""
    logits = logits.masked_fill(logits < logits.topk(min(top_k, logits.shape[-1])).values[..., -1:], -torch.inf)
    best, order = logits.sort(descending=True)
    shares = best.softmax(-1)
    best = best.masked_fill(shares.cumsum(-1) - shares > top_p, -torch.inf)
    return torch.empty_like(logits).scatter(-1, order, best)


def generate(dalle: torch.nn.Module, monkeypatch, caption: list[int], seed: int | None = None, **options: float) -> list[int]:
    """The tokens of the package's own generation."""
    import transformers
    from rudalle import pipelines

    class Tokenizer:
        def encode_text(self, text: str, text_seq_length: int) -> torch.Tensor:
            return torch.tensor(caption + [0] * (text_seq_length - len(caption)))

    class Vae:
        def decode(self, tokens: torch.Tensor) -> torch.Tensor:
            self.tokens = tokens
            return torch.zeros(len(tokens), 3, 8, 8)

    vae, positions = Vae(), iter(range(1 << 20))
    with monkeypatch.context() as patch:
        patch.setattr(pipelines, "tqdm", lambda steps: steps)
        patch.setattr(transformers, "top_k_top_p_filtering", filtered)
        if seed is not None:
            patch.setattr(torch, "multinomial", lambda shares, _: torch.tensor([[served.fall(shares[0], seed, next(positions))]]))
        pipelines.generate_images("", Tokenizer(), dalle, vae, images_num=1, bs=1, **options)
    return vae.tokens[0].tolist()


@pytest.mark.parametrize(("sandwich", "wavelets", "version"), [(True, False, "v3"), (False, True, "v3"), (True, False, "v2")])
def test_tokens_and_pixels_are_equal(sandwich: bool, wavelets: bool, version: str, tmp_path: Path, monkeypatch):
    dalle, vae = model(sandwich, hf_version=version), autoencoder(wavelets)
    package = served.imported(save(dalle, vae, wavelets, tmp_path / "checkpoint"), tmp_path / "package")
    with served.suite(package) as suite:
        for caption in CAPTIONS:
            expected = generate(dalle, monkeypatch, caption, top_k=1, top_p=1.0)
            assert len(expected) == GRID * GRID and len(set(expected)) > 5, "the tokens are much alike"
            assert suite.draw(caption) == [expected]
        expected = generate(dalle, monkeypatch, CAPTIONS[0], seed=7, top_k=24, top_p=0.9, temperature=0.8)
        drawn = suite.draw(CAPTIONS[0], seeds=[7], temperature=0.8, top_k=24, top_p=0.9)
        assert drawn == [expected] and len(set(expected)) > 20
        made = suite.generate("  КОТ кот ")
        assert (made.text[0], made.text[-1]) == (START, END) and made.text[1:4] == made.text[4:-1], "case or spaces count"
        assert made.tokens == generate(dalle, monkeypatch, made.text, top_k=1, top_p=1.0)
        hold_pixels(made.pixels, vae.decode(torch.tensor([made.tokens])), down=True)


@pytest.mark.parametrize("version", ["v3", "v2"])
def test_tokens_are_equal_at_the_real_geometry(version: str, tmp_path: Path):
    """Of the last rows, where every mask has all its cells; the rows before are given."""
    dalle = model(True, **REAL, hf_version=version)
    checkpoint = save(dalle, autoencoder(False, REAL["image_vocab_size"]), False, tmp_path / "checkpoint")
    package = served.imported(checkpoint, tmp_path / "package")
    caption, cells, words = [START, 700, 16000, 5, END], 32 * 32, REAL["vocab_size"]
    drawn = cells - 20
    tokens = [*caption, *[0] * (128 - len(caption)), *torch.randint(0, REAL["image_vocab_size"], (drawn,)).tolist()]
    causal = torch.ones(1, 1, 128 + cells, 128 + cells).tril()
    given = tokens[128:]
    while len(tokens) < 128 + cells:
        logits, _ = dalle(torch.tensor([tokens]), causal)
        tokens.append(int(logits[0, -1, words:].argmax()))
    assert len(set(tokens[drawn - cells :])) > 5, "the tokens are much alike"
    with served.suite(package) as suite:
        assert suite.draw(caption, given=given) == [tokens[128:]]


def test_texts_and_defaults_are_the_originals(tmp_path: Path):
    """youtokentome needs a compiler: what it made of the captions is kept. Captions that are cut are left out, since Easel keeps the end."""
    dalle = model(True, text_seq_length=128)
    package = served.imported(save(dalle, autoencoder(False), False, tmp_path / "checkpoint"), tmp_path / "package")
    kept, whole = served.kept(), 0
    with served.suite(package) as suite:
        for caption, expected in zip(kept["captions"], kept["checksums"]["yttm_lower"]):
            ids, truncated = suite.tokenize(caption) if caption.strip() else ([], True)
            assert truncated or (ids[0], ids[-1]) == (START, END)
            whole += not truncated
            assert truncated or zlib.crc32(b"".join(i.to_bytes(2, "little") for i in ids[1:-1])) == expected, repr(caption)
    assert whole > 1000
    manifest = json.loads((package / "manifest.json").read_text())
    assert manifest["text"]["padding"] == {"kind": "per_position", "first_id": WORDS}
    assert [manifest["sampling"][name] for name in ("temperature", "top_k", "top_p")] == [1.0, CODES, pytest.approx(0.995)]


@pytest.mark.parametrize("told", ["mask", "name", "configuration"])
def test_a_model_of_version_2_is_known(told: str, tmp_path: Path):
    """By the mask that the package saves, by the file's name where there is none, and by what is said in spite of both."""
    dalle = model(True, hf_version="v2" if told == "mask" else "v3")
    folder = save(dalle, autoencoder(False), False, tmp_path / "checkpoint")
    if told == "name":
        kept = {key: value for key, value in dalle.state_dict().items() if not key.endswith("_mask")}
        torch.save(kept, folder / "pytorch_model_v2.bin")
        (folder / "pytorch_model_v3.bin").unlink()
    if told == "configuration":
        (folder / "config.json").write_text(json.dumps({"num_attention_heads": 4, "hf_version": "v2"}))
    text = json.loads((served.imported(folder, tmp_path / "package") / "manifest.json").read_text())["text"]
    assert (text["prefix"], text["length"]) == ([START], LENGTH + 1)


def test_a_version_that_nobody_knows_is_refused(tmp_path: Path):
    folder = save(model(True), autoencoder(False), False, tmp_path / "checkpoint")
    (folder / "config.json").write_text(json.dumps({"hf_version": "v1"}))
    with pytest.raises(AssertionError, match='hf_version: expected "v2" or "v3", found "v1"'):
        served.imported(folder, tmp_path / "package")
