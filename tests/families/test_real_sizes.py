"""Transformers at the published grids, texts and vocabularies, a few narrow layers of them: a picture is given but for its end, whose greedy tokens are equal.

ruDALL-E's is in its own file; DALL·E Mini is nowhere tested with another grid.
"""

import json
from pathlib import Path

import numpy as np
import originals
import pytest
import served
import test_chameleon
import test_dalle_pytorch
import test_emu3
import test_image_gpt
import test_janus
import test_mindall_e
import test_pictures
import tokenizers
import torch

# Cells that are drawn.
END = 12


@pytest.fixture
def sizes(monkeypatch):
    """Gives other files' models other sizes."""

    def change(*modules, **named: object) -> None:
        for module in modules:
            for name, value in named.items():
                monkeypatch.setattr(module, name, value)

    return change


def greedy(logits: torch.Tensor, _: int) -> int:
    return int(logits.argmax())


def picture(cells: int, codes: int) -> list[int]:
    return torch.randint(0, codes, (cells - END,)).tolist()


def hold(package: Path, text: list[int], given: list[int], expected: list[int]) -> None:
    assert expected[: len(given)] == given and len(expected) - len(given) == END and len(set(expected[-END:])) > 3, "the tokens are much alike"
    with served.suite(package) as suite:
        assert suite.draw(text, given=given) == [expected]


def test_dalle_pytorch_of_openais_geometry(tmp_path: Path, monkeypatch):
    """CLIP's vocabulary, 256 text positions, a grid of 32×32 of 8,192 codes, every kind of attention."""
    real = dict(num_text_tokens=49408, text_seq_len=256)
    pictures = dict(image_size=256, num_tokens=8192)
    for name, value in real.items():
        monkeypatch.setitem(test_dalle_pytorch.BASE, name, value)
    for name, value in pictures.items():
        monkeypatch.setitem(test_dalle_pytorch.PICTURES, name, value)
    options = dict(attn_types=test_dalle_pytorch.ALL)
    dalle = test_dalle_pytorch.model(options)
    package = served.imported(test_dalle_pytorch.save(dalle, options, tmp_path / "checkpoint"), tmp_path / "package")
    given, text = picture(1024, 8192), [320, 1125, 49405, 7]
    monkeypatch.setattr(dalle.vae, "get_codebook_indices", lambda _: torch.tensor([given]))
    first = dict(img=torch.zeros(1, 3, 256, 256), num_init_img_tokens=len(given))
    hold(package, text, given, test_dalle_pytorch.generate(dalle, monkeypatch, text, filter_thres=1.0, **first))


def test_janus_pro(tmp_path: Path, sizes):
    """102,400 words, a grid of 24×24 of 16,384 codes, guidance."""
    sizes(test_janus, GRID=24)
    janus = test_janus.model(4, words=102_400, codes=16_384)
    for layer in (janus.model.generation_aligner.fc1, *janus.model.generation_aligner.hidden_layers):
        layer.weight.mul_(4)
    package = served.imported(test_janus.save(janus, tmp_path / "checkpoint"), tmp_path / "package")
    given, caption = picture(576, 16_384), [100_015, 71, 9_999, 50_000]
    text = [test_janus.START, test_janus.USER, *caption, test_janus.ASSISTANT, test_janus.COLON, test_janus.IMAGE]
    hold(package, caption, given, test_janus.draw(janus, text, greedy, given))


def test_chameleon_7b(tmp_path: Path, sizes):
    """65,536 words, among them 8,192 codes, on a grid of 32×32, guidance."""
    sizes(test_chameleon, GRID=32, WORDS=65_536, CODES=8192)
    sizes(test_pictures, CODES=8192)
    names = test_chameleon.vocabulary()
    chameleon = test_chameleon.model(names, False)
    package = served.imported(test_chameleon.save(chameleon, test_pictures.taming(False), names, tmp_path / "checkpoint"), tmp_path / "package")
    codes = {code: token for token, code in chameleon.model.vocabulary_mapping.bpe2img.items()}
    given, text = picture(1024, 8192), [7, 60_000, 65_535]
    expected = test_chameleon.generate(chameleon, [codes[code] for code in range(8192)], text, 3.0, greedy, given)
    hold(package, text, given, expected)


def test_image_gpt_small(tmp_path: Path, sizes):
    """512 colours on a grid of 32×32."""
    sizes(test_image_gpt, GRID=32, COLOURS=512)
    gpt = test_image_gpt.model("quick_gelu")
    colours = np.random.default_rng(1).uniform(-1, 1, (512, 3)).astype(np.float32)
    package = served.imported(test_image_gpt.save(gpt, tmp_path / "checkpoint", colours), tmp_path / "package")
    given = picture(1024, 512)
    hold(package, [], given, test_image_gpt.complete(gpt, given, greedy))


def test_mindall_e_of_1_3_billion(tmp_path: Path, sizes):
    """64 text positions of 16,384 words, a grid of 16×16 of 16,384 codes."""
    sizes(test_mindall_e, GRID=16, LENGTH=64, WORDS=16_384, CODES=16_384)
    sizes(test_pictures, CODES=16_384)
    original = originals.perturb(test_mindall_e.Original(False), 2.0)
    original.head_img.weight.mul_(2)
    folder = test_mindall_e.save(original, test_pictures.taming(False), False, tmp_path / "checkpoint")
    package = served.imported(folder, tmp_path / "package")
    text, given = [5, 16_000, 33, 9], picture(256, 16_384)
    expected = list(given)
    while len(expected) < 256:
        padded = torch.tensor(text + [test_mindall_e.PAD] * (64 - len(text)))
        expected.append(greedy(original(padded, torch.tensor(expected)), len(expected)))
    hold(package, text, given, expected)


def test_emu3_gen(tmp_path: Path, sizes):
    """184,622 words, the last of them 32,768 codes, a grid of 90×90 with ends of rows, guidance against the negative prompt."""
    grid, codes, pieces = 90, 32_768, 151_643
    vision = [*test_emu3.VISION[:3], *(f"<|visual token {i:06d}|>" for i in range(codes))]
    sizes(test_emu3, GRID=grid, CODES=codes, AREA=720 * 720)
    tokenizer = json.loads(test_emu3.vocabulary(1500).to_str())
    # Pieces that no text becomes.
    kept = {piece: i for piece, i in tokenizer["model"]["vocab"].items() if i < 1500}
    tokenizer["model"]["vocab"] = kept | {f"Ġ no piece {i}": i for i in range(len(kept), pieces)}
    tokenizer["added_tokens"] = []
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(tokenizer))
    tokenizer.add_special_tokens([*test_emu3.SPECIAL[: -len(test_emu3.VISION)], *vision])
    assert tokenizer.get_vocab_size() == 184_622
    emu3 = test_emu3.model(tokenizer)
    package = served.imported(test_emu3.save(emu3, tokenizer, tmp_path / "checkpoint"), tmp_path / "package")
    first, end = tokenizer.token_to_id("<|visual token 000000|>"), tokenizer.token_to_id("<|extra_200|>")
    caption, given = [101, 151_000, 77_777, 9], picture(grid * grid, codes)
    around = tokenizer.encode(f"<|image start|>{grid}*{grid}<|image token|>").ids
    texts = [[tokenizer.token_to_id("<|extra_203|>"), *text, *around] for text in (caption, tokenizer.encode(test_emu3.NEGATIVE).ids)]
    cells = [first + code for code in given]
    rows = [token for i, cell in enumerate(cells) for token in ([cell, end] if i % grid == grid - 1 else [cell])]
    inputs, kept, expected = [[*text, *rows] for text in texts], [None, None], list(given)
    while len(expected) < grid * grid:
        logits = []
        for i, ids in enumerate(inputs):
            out = emu3.model.text_model(input_ids=torch.tensor([ids]), past_key_values=kept[i], use_cache=True)
            kept[i] = out.past_key_values
            logits.append(emu3.lm_head(out.last_hidden_state[0, -1])[first:])
        conditional, unconditional = logits
        expected.append(greedy(unconditional + 3 * (conditional - unconditional), len(expected)))
        inputs = [[first + expected[-1]]] * 2
    hold(package, caption, given, expected)
