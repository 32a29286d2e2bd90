"""Janus, in Hugging Face's layout and in DeepSeek's: a text without padding, guidance against the same text blanked; tokens equal over the whole grid.

DeepSeek's code is no package. `draw` does what its loop does, with the same network's modules as transformers has them.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import served
import tokenizers
import torch
from test_pictures import LLAMAGEN, hold_pixels

GRID = 6
START, PAD, IMAGE, USER, ASSISTANT, COLON = 1, 0, 3, 7, 8, 9
CAPTIONS = [[33, 21], [17, 40, 90, 31, 77, 60, 12]]


def model(key_heads: int, words: int = 120, codes: int = 64) -> torch.nn.Module:
    """Random weights, of which every one counts and which decide."""
    from transformers import JanusConfig, JanusForConditionalGeneration, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

    text = LlamaConfig(
        vocab_size=words,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=key_heads,
        max_position_embeddings=256,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=2,
    )
    vision = JanusVisionConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=4 * GRID,
        patch_size=4,
        projection_dim=64,
        num_image_tokens=GRID * GRID,
        depth=2,
        mlp_ratio=2,
    )
    pictures = JanusVQVAEConfig(
        embed_dim=8,
        num_embeddings=codes,
        latent_channels=32,
        num_patches=GRID,
        base_channels=32,
        channel_multiplier=[1, 2],
        num_res_blocks=1,
        image_token_embed_dim=64,
        projection_dim=64,
        num_hidden_layers=2,
        in_channels=3,
        out_channels=3,
    )
    janus = JanusForConditionalGeneration(JanusConfig(text_config=text, vision_config=vision, vq_config=pictures, image_token_id=5))
    for name, parameter in janus.eval().named_parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * (0.2 if "norm" in name else 0.02))
        else:
            parameter.mul_(6 if "generation" in name else 8)
    settings = janus.generation_config
    settings.generation_kwargs = {"boi_token_id": IMAGE}
    settings.bos_token_id, settings.pad_token_id = START, PAD
    return janus


def save(janus: torch.nn.Module, folder: Path) -> Path:
    janus.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    special = {"<｜▁pad▁｜>": PAD, "<｜begin▁of▁sentence｜>": START, "<begin_of_image>": IMAGE, "<|User|>": USER, "<|Assistant|>": ASSISTANT}
    names = {i: f"w{i}" for i in range(120)} | {i: name for name, i in special.items()} | {COLON: ":"}
    form = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": name, **form} for name, i in special.items()],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {name: i for i, name in names.items()}, "unk_token": "w2"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def save_original(janus: torch.nn.Module, folder: Path) -> Path:
    """DeepSeek's names and configuration, with the vocabulary that `save` writes."""
    save(janus, folder)
    (folder / "model.safetensors").unlink()
    names = {"model.language_model.": "language_model.model.", "lm_head.": "language_model.lm_head.", "model.generation_embeddings.": "gen_embed."}
    names |= {"model.generation_aligner.fc1.": "gen_aligner.layers.0.", "model.generation_aligner.hidden_layers.0.": "gen_aligner.layers.2."}
    names |= {"model.generation_head.proj_out.": "gen_head.output_mlp_projector.", "model.generation_head.": "gen_head."}
    names |= {"model.vqmodel.": "gen_vision_model.", "model.vision_model.": "vision_model.", "model.aligner.": "aligner."}
    state = {"gen_vision_model.quantize.codebook_used": torch.zeros(65536)}
    for key, value in janus.state_dict().items():
        old = next(old for old in names if key.startswith(old))
        key = key.replace(old, names[old])
        if key.startswith("gen_vision_model."):
            for old, new in LLAMAGEN.items():
                key = key.replace(old, new)
        state[key] = value
    torch.save(state, folder / "pytorch_model.bin")
    text = janus.config.text_config
    sizes = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"]
    language = dict(model_type="llama", max_position_embeddings=256, **{size: getattr(text, size) for size in sizes})
    pictures = dict(cls="VQ-16", model_type="gen_vision", params=dict(image_token_size=64, n_embed=8, image_size=16 * GRID))
    (folder / "config.json").write_text(json.dumps(dict(model_type="multi_modality", language_config=language, gen_vision_config=pictures)))
    return folder


def generate(janus: torch.nn.Module, text: list[int]) -> list[int]:
    """The tokens of the original's own generation, the most likely one each time."""
    ids = torch.tensor([text])
    return janus.generate(ids, attention_mask=torch.ones_like(ids), generation_mode="image", do_sample=False, guidance_scale=5.0)[0].tolist()


def draw(janus: torch.nn.Module, text: list[int], choose: Callable[[torch.Tensor, int], int], given: list[int] | None = None) -> list[int]:
    """DeepSeek's own generation: the unconditional row is the text with all but its ends blanked, and nothing of it is hidden."""
    rows = torch.tensor([text, [text[0], *[PAD] * (len(text) - 2), text[-1]]])
    embeddings, kept, made = janus.get_input_embeddings()(rows), None, list(given or [])
    if made:
        embeddings = torch.cat([embeddings, janus.prepare_embeddings_for_image_generation(torch.tensor([made, made]))], 1)
    for place in range(len(made), GRID * GRID):
        out = janus.model.language_model(inputs_embeds=embeddings, past_key_values=kept, use_cache=True)
        kept = out.past_key_values
        conditional, unconditional = janus.model.generation_head(out.last_hidden_state[:, -1])
        made.append(choose(unconditional + 5 * (conditional - unconditional), place))
        embeddings = janus.prepare_embeddings_for_image_generation(torch.tensor([[made[-1]], [made[-1]]]))
    return made


@pytest.mark.parametrize("key_heads", [2, 4])
def test_guided_tokens_are_equal(key_heads: int, tmp_path: Path):
    janus = model(key_heads)
    package = served.imported(save(janus, tmp_path / "checkpoint"), tmp_path / "package")
    with served.suite(package) as suite:
        for caption in CAPTIONS:
            expected = generate(janus, [START, USER, *caption, ASSISTANT, COLON, IMAGE])
            assert len(expected) == GRID * GRID and len(set(expected)) > 5, "the tokens are much alike"
            assert suite.draw(caption, guidance_scale=5.0) == [expected]
            assert suite.draw(caption, guidance_scale=5.0, given=expected[:15]) == [expected]


def test_a_prompt_becomes_the_same_picture(tmp_path: Path):
    from transformers import PreTrainedTokenizerFast

    janus = model(2)
    folder = save(janus, tmp_path / "checkpoint")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    prompt = "w33 nothing w21: w90"
    text = tokenizer.encode(f"<｜begin▁of▁sentence｜><|User|>: {prompt}\n\n<|Assistant|>:<begin_of_image>")
    assert text == [START, USER, COLON, 33, 2, 21, COLON, 90, ASSISTANT, COLON, IMAGE]
    expected = generate(janus, text)
    with served.suite(served.imported(folder, tmp_path / "package")) as suite:
        made = suite.generate(prompt, guidance_scale=5.0)
        assert (made.text, made.tokens) == (text[2:-3], expected)
        hold_pixels(made.pixels, janus.model.vqmodel.decode(torch.tensor([expected])) / 2 + 0.5, down=True)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_tokens_of_deepseeks_own_layout_are_equal(temperature: float, tmp_path: Path):
    janus = model(4)
    # Of likely tokens there must be many.
    janus.model.generation_head.vision_head.weight.mul_(0.1)
    package = served.imported(save_original(janus, tmp_path / "checkpoint"), tmp_path / "package")
    with served.suite(package) as suite:
        for caption in CAPTIONS:
            text = [START, USER, *caption, ASSISTANT, COLON, IMAGE]
            expected = draw(janus, text, lambda logits, _: int(logits.argmax()))
            assert expected == generate(janus, text) and len(set(expected)) > 5, "the tokens are much alike"
            assert suite.draw(caption) == [expected]
        for seed in (7, 2**40):
            expected = draw(janus, text, lambda logits, place: served.fall((logits / temperature).softmax(-1), seed, place))
            assert suite.draw(caption, seeds=[seed], temperature=temperature) == [expected] and len(set(expected)) > 15
    assert (package / "encoder.onnx").exists()


def test_texts_are_equal_with_a_vocabulary_of_bytes(tmp_path: Path):
    """As DeepSeek's: pieces of bytes, digits alone, special tokens behind them, one of which it puts before every text."""
    from tokenizers import Regex, models, pre_tokenizers, processors, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    splits = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+"]
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*(pre_tokenizers.Split(Regex(split), "isolated") for split in splits), digits, byte_level])
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(served.captions(), trainer)
    tokenizer.add_special_tokens(["<｜begin▁of▁sentence｜>", "<｜▁pad▁｜>", "<begin_of_image>", "<|User|>", "<|Assistant|>"])
    start = tokenizer.token_to_id("<｜begin▁of▁sentence｜>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<｜begin▁of▁sentence｜> $A", special_tokens=[("<｜begin▁of▁sentence｜>", start)])
    folder = save_original(model(4, tokenizer.get_vocab_size()), tmp_path / "checkpoint")
    tokenizer.save(str(folder / "tokenizer.json"))
    package = served.imported(folder, tmp_path / "package")
    text = json.loads((package / "manifest.json").read_text())["text"]

    def encode(caption: str) -> list[int]:
        ids = tokenizer.encode(f"<|User|>: {caption}\n\n<|Assistant|>:<begin_of_image>").ids
        first, last = len(text["prefix"]), len(ids) - len(text["suffix"])
        assert (ids[:first], ids[last:]) == (text["prefix"], text["suffix"])
        return ids[first:last]

    with served.suite(package) as suite:
        suite.hold_texts(encode)
