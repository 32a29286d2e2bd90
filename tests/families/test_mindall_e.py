"""minDALL-E: a caption padded with one token, dense attention; tokens equal over the whole grid, pixels within 1.

The original is no package. `Original` computes what its transformer does, under the keys that it saves.
"""

import shutil
import sys
from pathlib import Path

import originals
import pytest
import served
import torch
from test_pictures import CODES, decoded, hold_pixels, taming
from torch import nn

GRID, WIDTH, HEADS, LAYERS = 6, 64, 4, 3
LENGTH, WORDS, PAD = 8, 500, 1
FILES = ["vocab.json", "merges.txt"]
CAPTIONS = [[5, 9, 33], [7, 1, 20, 30, 3, 12, 8, 2]]


class Part(nn.Module):
    """Modules under names."""

    def __init__(self, **modules: nn.Module):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class Original(nn.Module):
    def __init__(self, approximate: bool):
        super().__init__()
        self.tok_emb_img, self.tok_emb_txt = nn.Embedding(CODES, WIDTH), nn.Embedding(WORDS, WIDTH)
        self.pos_emb_img, self.pos_emb_txt = nn.Embedding(GRID * GRID, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(self.block() for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(WIDTH)
        self.head_img, self.head_txt = nn.Linear(WIDTH, CODES, bias=False), nn.Linear(WIDTH, WORDS, bias=False)
        self.activation = (lambda x: x * torch.sigmoid(1.702 * x)) if approximate else nn.functional.gelu

    @staticmethod
    def block() -> Part:
        attention = Part(**{name: nn.Linear(WIDTH, WIDTH) for name in ("key", "query", "value", "proj")})
        mlp = nn.ModuleList([nn.Linear(WIDTH, 4 * WIDTH), nn.Identity(), nn.Linear(4 * WIDTH, WIDTH)])
        return Part(ln1=nn.LayerNorm(WIDTH), ln2=nn.LayerNorm(WIDTH), attn=attention, mlp=mlp)

    def forward(self, text: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Logits of the image token that follows."""
        x = torch.cat([self.tok_emb_txt(text) + self.pos_emb_txt.weight, self.tok_emb_img(image) + self.pos_emb_img.weight[: len(image)]])
        for block in self.blocks:
            normed = block.ln1(x)
            query, key, value = (getattr(block.attn, name)(normed).unflatten(-1, (HEADS, -1)).transpose(0, 1) for name in ("query", "key", "value"))
            seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + block.attn.proj(seen.transpose(0, 1).flatten(1))
            x = x + block.mlp[2](self.activation(block.mlp[0](block.ln2(x))))
        return self.head_img(self.ln_f(x)[-1])


def save(original: Original, vqgan: nn.Module, approximate: bool, folder: Path) -> Path:
    (folder / "tokenizer").mkdir(parents=True)
    torch.save({"state_dict": original.state_dict()}, folder / "stage2_last.ckpt")
    torch.save({"state_dict": vqgan.state_dict()}, folder / "stage1_last.ckpt")
    (folder / "config.yaml").write_text(f"stage2:\n  hparams:\n    n_heads: {HEADS}\n    gelu_use_approx: {str(approximate).lower()}\n")
    for name in FILES:
        shutil.copy(served.VOCABULARIES / f"char-{name}", folder / f"tokenizer/bpe-16k-{name}")
    return folder


def encoder(folder: Path):
    """The original's `build_tokenizer`; text that looks like a special token is text."""
    from tokenizers import CharBPETokenizer

    made = CharBPETokenizer.from_file(*(str(folder / f"tokenizer/bpe-16k-{name}") for name in FILES), unk_token="[UNK]", lowercase=True)
    made.add_special_tokens(["[PAD]"])
    assert made.token_to_id("[PAD]") == PAD
    made._tokenizer.encode_special_tokens = True
    return lambda caption: made.encode(caption).ids


def generate(original: Original, caption: list[int], choose) -> list[int]:
    """The picture: `choose` takes a token by its logits and its place."""
    text, image = torch.tensor(caption + [PAD] * (LENGTH - len(caption))), []
    for place in range(GRID * GRID):
        image.append(choose(original(text, torch.tensor(image, dtype=torch.long)), place))
    return image


@pytest.mark.parametrize("approximate", [False, True])
def test_tokens_and_pixels_are_equal(approximate: bool, tmp_path: Path):
    original = originals.perturb(Original(approximate), 2.0)
    original.head_img.weight.mul_(2)
    vqgan = taming(False)
    package = served.imported(save(original, vqgan, approximate, tmp_path / "checkpoint"), tmp_path / "package")

    def sampled(logits: torch.Tensor, place: int) -> int:
        logits = logits / 0.8
        shares = logits.masked_fill(logits < logits.topk(24).values[-1], -torch.inf).softmax(-1)
        best, order = shares.sort(descending=True)
        best[1:][best.cumsum(-1)[:-1] >= 0.9] = 0
        return served.fall(torch.zeros_like(shares).scatter(0, order, best), 7, place)

    with served.suite(package) as suite:
        for caption in CAPTIONS:
            expected = generate(original, caption, lambda logits, _: int(logits.argmax()))
            assert len(set(expected)) > 5, "the tokens are much alike"
            assert suite.draw(caption) == [expected]
        expected = generate(original, CAPTIONS[0], sampled)
        assert suite.draw(CAPTIONS[0], seeds=[7], temperature=0.8, top_k=24, top_p=0.9) == [expected]
        encode, prompt = encoder(tmp_path / "checkpoint"), "A painting of an avocado armchair; it's 4k!"
        text = encode(prompt)[:LENGTH]
        expected = generate(original, text, lambda logits, _: int(logits.argmax()))
        made = suite.generate(prompt)
        assert (made.text, made.tokens) == (text, expected)
        hold_pixels(made.pixels, decoded(vqgan, torch.tensor([expected]), GRID, GRID), down=True)


def test_texts_are_equal(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "LENGTH", 128)
    folder = save(Original(False), taming(False), False, tmp_path / "checkpoint")
    with served.suite(served.imported(folder, tmp_path / "package")) as suite:
        suite.hold_texts(encoder(folder))
