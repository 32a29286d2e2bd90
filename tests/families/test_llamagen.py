"""LlamaGen: captions that T5 reads, and classes; guidance against learned features, or against no class; tokens equal over the whole grid, pixels within 1.

The original is no package. `Original` computes what its transformer does, under the keys that it saves, and `generate` what its sampling does; T5 is transformers' own.
"""

import html
import html.parser
import json
import re
import sys
import urllib.parse
from pathlib import Path

import originals
import pytest
import served
import torch
from test_pictures import CODES, LLAMAGEN, hold_pixels
from torch import nn

GRID, FACTOR, WIDTH, HEADS, LAYERS, INNER = 6, 2, 64, 4, 3, 96
LENGTH, FEATURES, END = 40, 32, 1
PIECES = ["<pad>", "</s>", "<unk>", "▁", *map(chr, range(33, 127))]
CLASSES = 10
CAPTIONS = [[5, 9, 33], [7, *range(10, 46), 3], []]


class Part(nn.Module):
    """Modules under names."""

    def __init__(self, **modules: nn.Module):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class Captions(nn.Module):
    def __init__(self):
        super().__init__()
        self.cap_proj = Part(fc1=nn.Linear(FEATURES, WIDTH, bias=False), fc2=nn.Linear(WIDTH, WIDTH, bias=False))
        self.register_buffer("uncond_embedding", torch.randn(LENGTH, FEATURES))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.cap_proj.fc2(nn.functional.gelu(self.cap_proj.fc1(features), approximate="tanh"))


def angles(text: int) -> torch.Tensor:
    """Cosines and sines by position: none in the text, then a half by the row and a half by the column, [positions, pairs, 2]."""
    half = WIDTH // HEADS // 2
    turned = torch.outer(torch.arange(GRID), 1 / 10000 ** (torch.arange(0, half, 2).float() / half))
    grid = torch.cat([turned[:, None].expand(-1, GRID, -1), turned[None].expand(GRID, -1, -1)], -1).flatten(0, 1)
    return torch.cat([torch.zeros(text, half, 2), torch.stack([grid.cos(), grid.sin()], -1)])


def turned(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """x [positions, heads, head width]."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = by[:, None].unbind(-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


class Original(nn.Module):
    def __init__(self, captions: bool, key_heads: int):
        super().__init__()
        self.cls_embedding = Captions() if captions else Part(embedding_table=nn.Embedding(CLASSES + 1, WIDTH))
        self.tok_embeddings = nn.Embedding(CODES, WIDTH)
        self.key_heads, self.text = key_heads, LENGTH if captions else 1
        self.layers = nn.ModuleList(self.block() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.output = nn.Linear(WIDTH, CODES, bias=False)

    def block(self) -> Part:
        rows = WIDTH // HEADS * (HEADS + 2 * self.key_heads)
        linear = lambda outputs, inputs: nn.Linear(inputs, outputs, bias=False)  # noqa: E731
        attention = Part(wqkv=linear(rows, WIDTH), wo=linear(WIDTH, WIDTH))
        gated = Part(w1=linear(INNER, WIDTH), w3=linear(INNER, WIDTH), w2=linear(WIDTH, INNER))
        norms = {name: nn.RMSNorm(WIDTH, eps=1e-5) for name in ("attention_norm", "ffn_norm")}
        return Part(attention=attention, feed_forward=gated, **norms)

    def forward(self, condition: torch.Tensor, image: list[int], valid: torch.Tensor) -> torch.Tensor:
        """Logits of the image token that follows. The condition is features or a class; keys at text positions that are not valid are not seen."""
        text = self.cls_embedding(condition) if self.text > 1 else self.cls_embedding.embedding_table(condition)
        x = torch.cat([text, self.tok_embeddings(torch.tensor(image, dtype=torch.long))])
        count, by = len(x), angles(self.text)[: len(x)]
        seen = torch.ones(count, count).tril().bool()
        seen[:, : self.text] &= valid
        seen |= torch.eye(count).bool()
        for layer in self.layers:
            width = WIDTH // HEADS
            qkv = layer.attention.wqkv(layer.attention_norm(x)).unflatten(-1, (-1, width))
            query, key, value = qkv.split([HEADS, self.key_heads, self.key_heads], 1)
            query, key = turned(query, by), turned(key, by)
            key, value = (y.repeat_interleave(HEADS // self.key_heads, 1) for y in (key, value))
            heads = nn.functional.scaled_dot_product_attention(*(y.transpose(0, 1) for y in (query, key, value)), attn_mask=seen)
            x = x + layer.attention.wo(heads.transpose(0, 1).flatten(1))
            normed, gated = layer.ffn_norm(x), layer.feed_forward
            x = x + gated.w2(nn.functional.silu(gated.w1(normed)) * gated.w3(normed))
        return self.output(self.norm(x)[-1])


def reader() -> nn.Module:
    """T5, with the decoder that its files have and LlamaGen does not use."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=len(PIECES), d_model=FEATURES, d_kv=12, num_heads=3, d_ff=48, num_layers=3, feed_forward_proj="gated-gelu", relative_attention_max_distance=30
    )
    model = originals.perturb(T5ForConditionalGeneration(config), 2.0)
    model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.mul_(5)
    return model


def features(t5: nn.Module, caption: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """T5's of a padded caption, moved to the end as the original does, and which of them are valid."""
    count = len(caption) + 1
    ids = torch.tensor([[*caption, END, *[0] * (LENGTH - count)]])
    mask = (torch.arange(LENGTH) < count).long()
    made = t5.encoder(input_ids=ids, attention_mask=mask[None]).last_hidden_state[0]
    moved, mask = torch.cat([made[count:], made[:count]]), mask.flip(0)
    return moved * mask[:, None], mask.bool()


def vqgan() -> nn.Module:
    from transformers import JanusVQVAEConfig
    from transformers.models.janus.modeling_janus import JanusVQVAE

    settings = dict(latent_channels=32, num_patches=GRID, base_channels=32, channel_multiplier=[1, 2], num_res_blocks=1)
    return originals.perturb(JanusVQVAE(JanusVQVAEConfig(embed_dim=8, num_embeddings=CODES, **settings)), 1.3)


def renamed(state: dict) -> dict:
    """Janus's autoencoder in LlamaGen's names."""
    for old, new in LLAMAGEN.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    return state


def save(original: Original, pictures: nn.Module, folder: Path, **config: int) -> Path:
    folder.mkdir()
    torch.save({"model": original.state_dict(), "steps": 3}, folder / "t2i.pt")
    state = renamed(pictures.state_dict())
    torch.save({"model": {**state, "quantize.codebook_used": torch.zeros(65536)}}, folder / "vq_ds16.pt")
    (folder / "config.json").write_text(json.dumps({"n_head": HEADS, **config}))
    return folder


def save_reader(t5: nn.Module, folder: Path) -> Path:
    t5.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    form = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    pieces = [[piece, -float(i)] for i, piece in enumerate(PIECES)]
    ends = {"id": "</s>", "ids": [END], "tokens": ["</s>"]}
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": name, **form} for i, name in enumerate(PIECES[:3])],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, space]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"</s>": ends},
        },
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": False},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


class Text(html.parser.HTMLParser):
    """What BeautifulSoup takes for the text of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text += data


DASHES = r"[\u002D\u058A\u05BE\u1400\u1806\u2010-\u2015\u2E17\u2E1A\u2E3A\u2E3B\u2E40\u301C\u3030\u30A0\uFE31\uFE32\uFE58\uFE63\uFF0D]+"
ADDRESSES = [
    rf"\b((?:{scheme}:(?:\/{{1,3}}|[a-zA-Z0-9%])|[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b\/?(?!@)))" for scheme in ("https?", "www")
]
FILES = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for pattern, by in pairs:
        text = re.sub(pattern, by, text)
    return text


def clean(text: str) -> str:
    """The original's `clean_caption`, in the original's order."""
    import ftfy

    text = replaced(urllib.parse.unquote_plus(text).strip().lower(), ("<person>", "person"), *((address, "") for address in ADDRESSES))
    text = replaced(
        Text(text).text,
        (r"@[\w\d]+\b", ""),
        (r"[\u31c0-\u31ef]+|[\u31f0-\u31ff]+|[\u3200-\u32ff]+|[\u3300-\u33ff]+|[\u3400-\u4dbf]+|[\u4dc0-\u4dff]+|[\u4e00-\u9fff]+", ""),
        (DASHES, "-"),
        (r"[`´«»“”¨]", '"'),
        (r"[‘’]", "'"),
        (r"&quot;?", ""),
        (r"&amp", ""),
        (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),
        (r"\d:\d\d\s+$", ""),
        (r"\\n", " "),
        (r"#\d{1,3}\b", ""),
        (r"#\d{5,}\b", ""),
        (r"\b\d{6,}\b", ""),
        (rf"[\S]+\.(?:{FILES})", ""),
        (r"[\"\']{2,}", '"'),
        (r"[\.]{2,}", " "),
        (r"[#®•©™&@·º½¾¿¡§~\)\(\]\[\}\{\|\\\/\*]{1,}", " "),
        (r"\s+\.\s+", " "),
    )
    if len(re.findall(r"[-_]", text)) > 3:
        text = re.sub(r"[-_]", " ", text)
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    text = replaced(
        text,
        (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),
        (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
        (r"\b\d+[a-zA-Z]+\d+\b", ""),
        (r"(worldwide\s+)?(free\s+)?shipping", ""),
        (r"(free\s)?download(\sfree)?", ""),
        (r"\bclick\b\s(?:for|on)\s\w+", ""),
        (rf"\b(?:{FILES})(\simage[s]?)?", ""),
        (r"\bpage\s+\d+\b", ""),
        (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
        (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),
        (r"\b\s+\:\s+", ": "),
        (r"(\D[,\./])\b", r"\1 "),
        (r"\s+", " "),
        (r"^[\"\']([\w\W]+)[\"\']$", r"\1"),
        (r"^[\'\_,\-\:;]", ""),
        (r"[\'\_,\-\:\-\+]$", ""),
        (r"^\.\S+$", ""),
    )
    return text.strip()


def encoder(folder: Path):
    """The original's tokenizer, behind its cleaning."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return lambda caption: tokenizer.encode(clean(clean(caption)), add_special_tokens=False).ids


def generate(original: Original, conditions: tuple[torch.Tensor, torch.Tensor], valid: torch.Tensor, scale: float, choose) -> list[int]:
    """The picture: `choose` takes a token by its logits and its place."""
    image = []
    for place in range(GRID * GRID):
        conditional, unconditional = (original(condition, image, valid) for condition in conditions)
        image.append(choose(unconditional + (conditional - unconditional) * scale, place))
    return image


def sampled(logits: torch.Tensor, place: int) -> int:
    logits = logits / 0.8
    logits = logits.masked_fill(logits < logits.topk(24).values[-1], -torch.inf)
    best, order = logits.sort(descending=True)
    removed = best.softmax(-1).cumsum(-1) > 0.9
    removed[1:], removed[0] = removed[:-1].clone(), False
    logits = logits.scatter(0, order[removed], -torch.inf)
    return served.fall(logits.softmax(-1), 7, place)


def greedy(logits: torch.Tensor, _: int) -> int:
    return int(logits.argmax())


def hold(suite: served.Suite, original: Original, captions: list, conditions) -> None:
    """What the package draws is what the original does, greedy and sampled."""
    for scale in (1.0, 4.0):
        for caption in captions:
            expected = generate(original, *conditions(caption), scale, greedy)
            assert len(set(expected)) > 5, "the tokens are much alike"
            assert suite.draw(caption, guidance_scale=scale) == [expected]
    assert suite.draw(caption, guidance_scale=scale, given=expected[:15]) == [expected]
    expected = generate(original, *conditions(captions[0]), 3.0, sampled)
    assert suite.draw(captions[0], seeds=[7], temperature=0.8, top_k=24, top_p=0.9, guidance_scale=3.0) == [expected]


def hold_prompt(suite: served.Suite, prompt: str, text: list[int], original: Original, pictures: nn.Module, conditions) -> None:
    """A prompt becomes the original's tokens and picture."""
    expected = generate(original, *conditions(text), 3.0, greedy)
    made = suite.generate(prompt, guidance_scale=3.0)
    assert (made.text, made.tokens) == (text, expected)
    hold_pixels(made.pixels, pictures.decode(torch.tensor([expected])) / 2 + 0.5, down=False)


def test_pictures_of_captions_are_equal(tmp_path: Path):
    original, pictures, t5 = originals.perturb(Original(True, HEADS), 2.0), vqgan(), reader()
    original.output.weight.mul_(2)
    checkpoint = save(original, pictures, tmp_path / "checkpoint", image_size=GRID * FACTOR)
    package = served.imported(checkpoint, tmp_path / "package", "--text-encoder", str(save_reader(t5, tmp_path / "t5")))

    def conditions(caption: list[int]):
        read, valid = features(t5, caption)
        return (read, original.cls_embedding.uncond_embedding), valid

    encode = encoder(tmp_path / "t5")
    with served.suite(package) as suite:
        hold(suite, original, CAPTIONS, conditions)
        prompt = "<b>A photo</b> of an &quot;avocado&quot;  Armchair; it's 4K!"
        hold_prompt(suite, prompt, encode(prompt)[: LENGTH - 1], original, pictures, conditions)


def test_texts_are_equal(tmp_path: Path, monkeypatch):
    """With pieces of several letters, as T5's vocabulary has them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    trainer = trainers.UnigramTrainer(vocab_size=600, special_tokens=PIECES[:3], unk_token=PIECES[2], show_progress=False)
    trained.train_from_iterator(served.captions(), trainer)
    pieces = sorted(trained.get_vocab(), key=trained.token_to_id)
    assert sum(len(piece) > 2 for piece in pieces) > 50
    for name, value in dict(PIECES=pieces, LENGTH=128).items():
        monkeypatch.setattr(sys.modules[__name__], name, value)
    checkpoint = save(Original(True, HEADS), vqgan(), tmp_path / "checkpoint", image_size=GRID * FACTOR)
    t5 = save_reader(reader(), tmp_path / "t5")
    with served.suite(served.imported(checkpoint, tmp_path / "package", "--text-encoder", str(t5))) as suite:
        suite.hold_texts(encoder(t5))


def test_tokens_are_equal_at_the_published_sizes(tmp_path: Path, monkeypatch):
    """Of grid, text, vocabulary and heads: behind random tokens, the most likely ones are the same."""
    sizes = dict(GRID=16, LENGTH=120, CODES=16384, WIDTH=128, HEADS=2, LAYERS=2)
    for name, size in sizes.items():
        monkeypatch.setattr(sys.modules[__name__], name, size)
    original, pictures, t5 = originals.perturb(Original(True, HEADS), 2.0), vqgan(), reader()
    checkpoint = save(original, pictures, tmp_path / "checkpoint", image_size=GRID * FACTOR)
    package = served.imported(checkpoint, tmp_path / "package", "--text-encoder", str(save_reader(t5, tmp_path / "t5")))
    caption = torch.randint(4, len(PIECES), (LENGTH - 1,)).tolist()
    given = torch.randint(0, CODES, (GRID * GRID - 6,)).tolist()
    read, valid = features(t5, caption)
    image = list(given)
    while len(image) < GRID * GRID:
        conditional, unconditional = (original(condition, image, valid) for condition in (read, original.cls_embedding.uncond_embedding))
        image.append(greedy(unconditional + (conditional - unconditional) * 7.5, len(image)))
    assert len(set(image[len(given) :])) > 2, "the tokens are much alike"
    with served.suite(package) as suite:
        assert suite.draw(caption, given=given) == [image]


@pytest.mark.parametrize("key_heads", [2, 4])
def test_pictures_of_classes_are_equal(key_heads: int, tmp_path: Path):
    from tokenizers import Tokenizer

    original, pictures = originals.perturb(Original(False, key_heads), 2.0), vqgan()
    original.output.weight.mul_(2)
    package = served.imported(save(original, pictures, tmp_path / "checkpoint", block_size=GRID * GRID), tmp_path / "package")
    ids = [Tokenizer.from_file(str(package / "tokenizer.json")).encode(text).ids for text in ("7", " 0 ", "10", "dog")]
    assert ids == [[7], [0], [CLASSES], [CLASSES]]

    def conditions(label: list[int]):
        return (torch.tensor(label), torch.tensor([CLASSES])), torch.ones(1).bool()

    with served.suite(package) as suite:
        hold(suite, original, [[7], [0]], conditions)
        hold_prompt(suite, "3", [3], original, pictures, conditions)


def test_a_model_of_captions_needs_its_text_encoder(tmp_path: Path):
    checkpoint = save(Original(True, HEADS), vqgan(), tmp_path / "checkpoint", image_size=GRID * FACTOR)
    with pytest.raises(AssertionError, match=r"expected the text encoder that the model was trained with \(flan-t5-xl\), as --text-encoder, found none"):
        served.imported(checkpoint, tmp_path / "package")
