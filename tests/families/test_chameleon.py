"""Chameleon: image tokens among the text's, norms on every head; tokens equal over the whole grid, pixels within 1.

The package forbids image tokens in the last step of its `forward`; what comes before is the original here, drawn from as Meta's own code does.
"""

import sys
from pathlib import Path

import originals
import pytest
import served
import tokenizers
import torch
from test_pictures import CODES, decoded, hold_pixels, taming

GRID, WORDS = 8, 300
CAPTIONS = ["a red cat", "a cat on the mat , red"]
START, IMAGE = 0, 1


def vocabulary() -> dict[str, int]:
    """Image tokens lie between others, and not in the codebook's order."""
    ids = torch.randperm(WORDS - 10)[:CODES].add(10).tolist()
    letters = str.maketrans("0123456789", "ABCDEFGHIJ")
    names = {f"IMGIMG{str(code).translate(letters)}Z": i for code, i in enumerate(ids)}
    names |= {"<s>": START, "<racm3:break>": IMAGE, "<pad>": 2, "</s>": 3, "<image>": 4}
    rest = iter([i for i in range(5, WORDS) if i not in ids])
    return names | {word: next(rest) for word in dict.fromkeys(" ".join(CAPTIONS).split())} | {f"w{i}": i for i in rest}


def model(names: dict[str, int], behind: bool) -> torch.nn.Module:
    """Random weights, of which every one counts and which decide."""
    from transformers import ChameleonConfig, ChameleonForConditionalGeneration

    config = ChameleonConfig(
        vocab_size=WORDS,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2 if behind else 4,
        max_position_embeddings=1024,
        swin_norm=behind,
        vocabulary_map=names,
        vq_config=dict(
            embed_dim=32, num_embeddings=CODES, latent_channels=32, resolution=4 * GRID, base_channels=32, channel_multiplier=[1, 2, 2], num_res_blocks=1
        ),
    )
    chameleon = ChameleonForConditionalGeneration(config).eval()
    for name, parameter in [*chameleon.model.layers.named_parameters(), *chameleon.model.norm.named_parameters(), *chameleon.lm_head.named_parameters()]:
        parameter.add_(torch.randn_like(parameter) * 0.2) if "norm" in name or parameter.dim() == 1 else parameter.mul_(6)
    chameleon.model.embed_tokens.weight.mul_(20)
    return chameleon


def save(chameleon: torch.nn.Module, vqgan: torch.nn.Module, names: dict[str, int], folder: Path) -> Path:
    chameleon.save_pretrained(folder)
    torch.save({"state_dict": vqgan.state_dict()}, folder / "vqgan.ckpt")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(names, unk_token="<pad>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<s>", "<racm3:break>", "<pad>", "</s>"])
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", START)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def generate(chameleon: torch.nn.Module, image: list[int], caption: list[int], scale: float, choose, given: list[int] | None = None) -> list[int]:
    """Codes: `choose` takes one by the logits of all of them and the place. The unconditional row is the two tokens around a caption."""
    rows, made = [[START, *caption, IMAGE], [START, IMAGE]], list(given or [])
    for place in range(len(made), GRID * GRID):
        drawn = [image[code] for code in made]
        hidden = [chameleon.model(input_ids=torch.tensor([[*row, *drawn]]), use_cache=False).last_hidden_state[0, -1] for row in rows]
        conditional, unconditional = (chameleon.lm_head(last)[image] for last in hidden)
        made.append(choose(unconditional + scale * (conditional - unconditional), place))
    return made


def sampled(logits: torch.Tensor, place: int) -> int:
    """As Meta's code warps logits, with classes of transformers."""
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    warped = TopPLogitsWarper(0.9)(None, TemperatureLogitsWarper(0.7)(None, logits[None]))
    return served.fall(warped.softmax(-1)[0], 7, place)


@pytest.mark.parametrize("behind", [False, True])
def test_tokens_and_pixels_are_equal(behind: bool, tmp_path: Path):
    names = vocabulary()
    chameleon, vqgan = model(names, behind), taming(False)
    package = served.imported(save(chameleon, vqgan, names, tmp_path / "checkpoint"), tmp_path / "package")
    codes = {code: token for token, code in chameleon.model.vocabulary_mapping.bpe2img.items()}
    image = [codes[code] for code in range(CODES)]
    with served.suite(package) as suite:
        for caption in CAPTIONS:
            text = [names[word] for word in caption.split()]
            expected = generate(chameleon, image, text, 3.0, lambda logits, _: int(logits.argmax()))
            assert len(set(expected)) > 5, "the tokens are much alike"
            made = suite.generate(caption)
            assert (made.text, made.tokens) == (text, expected)
            assert suite.draw(text, given=expected[:15]) == [expected]
            hold_pixels(made.pixels, decoded(vqgan, torch.tensor([expected]), GRID, GRID), down=True)
        expected = generate(chameleon, image, text, 3.0, sampled)
        assert len(set(expected)) > 10
        # The defaults are the original's.
        assert suite.draw(text, seeds=[7]) == [expected]


def test_texts_are_equal(tmp_path: Path, monkeypatch):
    """With pieces of bytes, image tokens behind them, and the tokens around a caption in front, as in Meta's vocabulary."""
    from tokenizers import models, pre_tokenizers, processors, trainers

    first = ["<s>", "<racm3:break>", "<pad>", "</s>", "<image>"]
    letters = str.maketrans("0123456789", "ABCDEFGHIJ")
    image = [f"IMGIMG{str(code).translate(letters)}Z" for code in range(CODES)]
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=[*first, *image], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(served.captions(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", START)])
    names = tokenizer.get_vocab()
    monkeypatch.setattr(sys.modules[__name__], "WORDS", len(names))
    folder = save(model(names, False), taming(False), names, tmp_path / "checkpoint")
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    with served.suite(served.imported(folder, tmp_path / "package")) as suite:
        suite.hold_texts(lambda caption: tokenizer.encode(caption, add_special_tokens=False).ids)
        # What looks like a special token is text.
        spelt = suite.tokenize("<s>IMGIMGAZ<image>")[0]
        assert len(spelt) > 3 and not {names[name] for name in (*first, *image)} & set(spelt)


def test_half_an_autoencoder_is_not_enough(tmp_path: Path):
    names = vocabulary()
    folder = save(model(names, False), taming(False), names, tmp_path / "checkpoint")
    (folder / "vqgan.ckpt").unlink()
    with pytest.raises(AssertionError, match="expected the weights of the autoencoder's decoder, with decoder.conv_in.weight, found none"):
        served.imported(folder, tmp_path / "package")
