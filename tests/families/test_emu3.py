"""Emu3: rows that end in a token of their own, guidance against a negative prompt; tokens equal over the whole grid, pixels within 1."""

import base64
import json
import re
import unicodedata
from pathlib import Path

import originals
import pytest
import served
import tokenizers
import torch
from test_pictures import hold_pixels

GRID, CODES = 6, 64
# Pixels of a picture in the configuration, of 8×8 a token.
AREA = (8 * GRID) ** 2
CAPTIONS = ["a red cat", "Portrait of a girl's face, 4k!"]
NEGATIVE = (
    "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped, worst quality, low quality, normal quality, "
    "jpeg artifacts, signature, watermark, username, blurry."
)
WORD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
VISION = ["<|image token|>", "<|image start|>", "<|image end|>", *(f"<|visual token {i:06d}|>" for i in range(CODES))]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)), *VISION]


def vocabulary(pieces: int) -> tokenizers.Tokenizer:
    """As Hugging Face's conversion writes it: pieces of bytes, then special tokens."""
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(WORD), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=pieces, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([*served.captions(), *[NEGATIVE] * 9], trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def ranks(tokenizer: tokenizers.Tokenizer) -> dict[bytes, int]:
    """The pieces as the original keeps them."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in visible]
    table = {chr(b): b for b in visible} | {chr(256 + i): b for i, b in enumerate(hidden)}
    return {bytes(table[c] for c in piece): i for piece, i in tokenizer.get_vocab(with_added_tokens=False).items()}


def model(tokenizer: tokenizers.Tokenizer) -> torch.nn.Module:
    """Random weights, of which every one counts and which decide."""
    from transformers import Emu3Config, Emu3ForConditionalGeneration

    text = dict(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    pictures = dict(
        codebook_size=CODES,
        embed_dim=4,
        latent_channels=4,
        base_channels=32,
        channel_multiplier=[1, 2],
        num_res_blocks=1,
        attn_resolutions=[1],
        hidden_size=64,
        num_attention_heads=1,
        temporal_downsample_factor=4,
    )
    names = {**tokenizer.get_vocab(), "<image>": 3}
    emu3 = Emu3ForConditionalGeneration(Emu3Config(text_config=text, vq_config=pictures, vocabulary_map=names))
    originals.perturb(emu3.model.vqmodel, 1.1)
    for name, parameter in [*emu3.model.text_model.named_parameters(), *emu3.lm_head.named_parameters()]:
        parameter.add_(torch.randn_like(parameter) * 0.2) if parameter.dim() == 1 else parameter.mul_(8)
    return emu3.eval()


def save(emu3: torch.nn.Module, tokenizer: tokenizers.Tokenizer, folder: Path) -> Path:
    """Hugging Face's layout."""
    emu3.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"image_area": AREA}))
    return folder


def save_original(emu3: torch.nn.Module, tokenizer: tokenizers.Tokenizer, folder: Path) -> Path:
    """The names of BAAI's own code, the autoencoder in a file of its own."""
    folder.mkdir()
    config = emu3.config.text_config
    fields = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "rms_norm_eps"]
    sizes = {field: getattr(config, field) for field in fields}
    (folder / "config.json").write_text(json.dumps(dict(model_type="Emu3", image_area=AREA, rope_theta=1e6, rope_scaling=None, hidden_act="silu", **sizes)))
    state = emu3.state_dict()
    text = {key.replace("model.text_model.", "model."): value for key, value in state.items() if "vqmodel" not in key}
    torch.save(text, folder / "pytorch_model.bin")
    pictures = {}
    for key, value in state.items():
        if "vqmodel" not in key:
            continue
        key = key.removeprefix("model.vqmodel.").replace("down_block.down", "down").replace("up_block.up", "up").replace("middle_block", "mid")
        key = re.sub(r"attn_norms\.(\d+)", r"attn.\1.norm", key).replace("attn_norm.", "attn_1.norm.").replace("out_proj", "proj_out")
        key = re.sub(r"\.([qkv])_proj\.", r".\1.", key)
        attends = key.endswith((".q.weight", ".k.weight", ".v.weight", ".proj_out.weight"))
        pictures[key] = value[:, :, None, None].clone() if attends else value
    torch.save(pictures, folder / "vision_tokenizer.bin")
    pieces = sorted(ranks(tokenizer).items(), key=lambda piece: piece[1])
    (folder / "emu3.tiktoken").write_text("".join(f"{base64.b64encode(piece).decode()} {rank}\n" for piece, rank in pieces))
    (folder / "emu3_vision_tokens.txt").write_text("\n".join(VISION) + "\n")
    return folder


def generate(
    emu3: torch.nn.Module, tokenizer: tokenizers.Tokenizer, caption: str, monkeypatch, seed: int | None = None, negative: str = NEGATIVE, **options: float
) -> list[int]:
    """The cells of the package's own generation, bound to the grid as the original binds it."""
    around = f"<|image start|>{GRID}*{GRID}<|image token|>"
    ids, negative = (torch.tensor([tokenizer.encode(f"<|extra_203|>{text}{around}").ids]) for text in (caption, negative))
    first = tokenizer.token_to_id("<|visual token 000000|>")
    end, cells = tokenizer.token_to_id("<|extra_200|>"), list(range(first, first + CODES))

    def allowed(_: int, so_far: torch.Tensor) -> list[int]:
        return cells if (len(so_far) - ids.shape[1] + 1) % (GRID + 1) else [end]

    drawn = iter(range(GRID * GRID))

    def draw(shares: torch.Tensor, **_: int) -> torch.Tensor:
        return torch.tensor([[end if shares[0, end] > 0 else served.fall(shares[0], seed, next(drawn))]])

    settings = dict(prefix_allowed_tokens_fn=allowed, negative_prompt_ids=negative, guidance_scale=3.0, max_new_tokens=GRID * (GRID + 1))
    with monkeypatch.context() as patch:
        if seed is not None:
            patch.setattr(torch, "multinomial", draw)
        made = emu3.generate(ids, attention_mask=torch.ones_like(ids), do_sample=seed is not None, **settings, **options)
    rows = made[0, ids.shape[1] :].reshape(GRID, GRID + 1)
    assert (rows[:, -1] == end).all()
    return (rows[:, :-1] - first).flatten().tolist()


@pytest.mark.parametrize("write", [save, save_original])
def test_tokens_and_pixels_are_equal(write, tmp_path: Path, monkeypatch):
    tokenizer = vocabulary(400)
    emu3 = model(tokenizer)
    package = served.imported(write(emu3, tokenizer, tmp_path / "checkpoint"), tmp_path / "package")
    with served.suite(package) as suite:
        for caption in CAPTIONS:
            expected = generate(emu3, tokenizer, caption, monkeypatch)
            assert len(expected) == GRID * GRID and len(set(expected)) > 5, "the tokens are much alike"
            made = suite.generate(caption)
            assert (made.text, made.tokens) == (tokenizer.encode(caption).ids, expected)
            assert suite.draw(made.text, given=expected[:15]) == [expected]
            hold_pixels(made.pixels, emu3.model.vqmodel.decode(torch.tensor(expected).reshape(1, GRID, GRID)) / 2 + 0.5, down=True)
        expected = generate(emu3, tokenizer, caption, monkeypatch, negative="a blue cat")
        assert expected != made.tokens and suite.generate(caption, negative="a blue cat").tokens == expected
        options = dict(temperature=0.8, top_k=24, top_p=0.9)
        expected = generate(emu3, tokenizer, caption, monkeypatch, seed=7, **options)
        assert len(set(expected)) > 10
        assert suite.draw(made.text, seeds=[7], **options) == [expected]


def test_the_originals_vocabulary_is_equal(tmp_path: Path):
    import tiktoken

    tokenizer = vocabulary(1500)
    package = served.imported(save_original(model(tokenizer), tokenizer, tmp_path / "checkpoint"), tmp_path / "package")
    pieces = ranks(tokenizer)
    original = tiktoken.Encoding("emu3", pat_str=WORD, mergeable_ranks=pieces, special_tokens={name: len(pieces) + i for i, name in enumerate(SPECIAL)})
    manifest = json.loads((package / "manifest.json").read_text())
    text = manifest["text"]
    assert text["prefix"] == original.encode("<|extra_203|>", allowed_special="all")
    assert text["suffix"] == original.encode(f"<|image start|>{GRID}*{GRID}<|image token|>", allowed_special="all")
    assert manifest["guidance"]["ids"] == original.encode(NEGATIVE)
    assert text["vocabulary"] == len(pieces) + len(SPECIAL) - CODES
    with served.suite(package) as suite:
        suite.hold_texts(lambda caption: original.encode_ordinary(unicodedata.normalize("NFC", caption)))
