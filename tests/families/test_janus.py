"""Janus in Hugging Face's layout: a text without padding, guidance against the same text blanked; tokens equal over the whole grid."""

import json
from pathlib import Path

import pytest
import served
import torch
from test_pictures import hold_pixels

GRID = 6
START, PAD, IMAGE, USER, ASSISTANT, COLON = 1, 0, 3, 7, 8, 9
CAPTIONS = [[33, 21], [17, 40, 90, 31, 77, 60, 12]]


def model(key_heads: int) -> torch.nn.Module:
    """Random weights, of which every one counts and which decide."""
    from transformers import JanusConfig, JanusForConditionalGeneration, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

    text = LlamaConfig(
        vocab_size=120,
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
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=24, patch_size=4, projection_dim=64, num_image_tokens=36, depth=2, mlp_ratio=2
    )
    pictures = JanusVQVAEConfig(
        embed_dim=8,
        num_embeddings=64,
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
    return folder


def generate(janus: torch.nn.Module, text: list[int]) -> list[int]:
    """The tokens of the original's own generation, the most likely one each time."""
    ids = torch.tensor([text])
    return janus.generate(ids, attention_mask=torch.ones_like(ids), generation_mode="image", do_sample=False, guidance_scale=5.0)[0].tolist()


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
