"""CLIP: embeddings whose cosines are within 1e-4 of the original's, from the graphs, and from the whole suite with the original's vocabulary and filters."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import originals
import pytest
import served
import test_image_gpt
import torch
from PIL import Image

CONTEXT, END = 77, 49407
MEAN, STD = np.float32([0.48145466, 0.4578275, 0.40821073]), np.float32([0.26862954, 0.26130258, 0.27577711])


def captions() -> torch.Tensor:
    ids = torch.randint(1, 49000, (3, CONTEXT))
    for row, length in enumerate([1, 9, CONTEXT - 1]):
        ids[row, 0], ids[row, length], ids[row, length + 1 :] = END - 1, END, 0
    return ids


def photos(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, side, side, 3)).astype(np.uint8)


def normalised(pictures: np.ndarray, mean=MEAN, std=STD) -> torch.Tensor:
    return torch.tensor((pictures.astype(np.float32) / 255 - mean) / std).permute(0, 3, 1, 2)


def unit(vectors) -> np.ndarray:
    vectors = getattr(vectors, "pooler_output", vectors)
    return torch.nn.functional.normalize(vectors, dim=-1).numpy()


def hold(graphs, pictures: np.ndarray, ids: torch.Tensor, expected: tuple) -> None:
    made = graphs["ranker_image"](pictures), graphs["ranker_text"](ids.numpy())
    images, texts = map(unit, expected)
    assert np.ptp(images, axis=0).max() > 1e-3 and np.ptp(texts, axis=0).max() > 1e-3, "all embeddings are alike"
    difference = np.abs(made[0] @ made[1].T - images @ texts.T).max()
    print(f"cosines: greatest difference {difference:.1e}; embeddings: {max(np.abs(made[0] - images).max(), np.abs(made[1] - texts).max()):.1e}")
    assert difference < 1e-4


def vocabulary(folder) -> None:
    """OpenAI's list of pairs, which open_clip ships."""
    with gzip.open(open_clip.tokenizer.default_bpe()) as text, open(folder / "bpe_simple_vocab_16e6.txt", "wb") as out:
        shutil.copyfileobj(text, out)


def open_clip_model(quick: bool, patch: int, width: int, head: int, layers: int = 2):
    vision = dict(layers=layers, width=width, head_width=head, patch_size=patch, image_size=6 * patch)
    text = dict(context_length=CONTEXT, vocab_size=END + 1, width=64, heads=2, layers=layers)
    model = open_clip.model.CLIP(embed_dim=48, vision_cfg=vision, text_cfg=text, quick_gelu=quick)
    return originals.perturb(model, 1.5), vision, text


@pytest.mark.parametrize("quick", [False, True])
def test_open_clip(run_part, tmp_path, quick):
    model, vision, text = open_clip_model(quick, patch=8, width=96, head=24)
    mean = [0.5, 0.4, 0.3]
    config = dict(model_cfg=dict(vision_cfg=vision, text_cfg=text, quick_gelu=quick), preprocess_cfg=dict(mean=mean, std=list(map(float, STD))))
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    vocabulary(tmp_path)
    graphs = run_part("ranker", tmp_path)
    pictures, ids = photos(48), captions()
    hold(graphs, pictures, ids, (model.encode_image(normalised(pictures, np.float32(mean))), model.encode_text(ids)))


def openai(folder: Path, script: bool) -> torch.nn.Module:
    """Heads are 64 wide; the file says three sizes beside the weights, and may be an archive of TorchScript."""
    vision = dict(layers=2, width=128, patch_size=8, image_size=48)
    text = dict(context_length=CONTEXT, vocab_size=END + 1, width=128, heads=2, layers=2)
    model = originals.perturb(open_clip.model.CLIP(embed_dim=48, vision_cfg=vision, text_cfg=text, quick_gelu=True), 1.5)
    for name, size in [("input_resolution", 48), ("context_length", CONTEXT), ("vocab_size", END + 1)]:
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(size))
    if script:
        wrapped = torch.jit.trace(model, (normalised(photos(48)), captions()), check_trace=False)
        wrapped.save(str(folder / "ViT.pt"))
    else:
        torch.save(model.state_dict(), folder / "ViT.pt")
    vocabulary(folder)
    return model


@pytest.mark.parametrize("script", [False, True])
def test_openai(run_part, tmp_path, script):
    model = openai(tmp_path, script)
    graphs = run_part("ranker", tmp_path / "ViT.pt")
    pictures, ids = photos(48), captions()
    hold(graphs, pictures, ids, (model.encode_image(normalised(pictures)), model.encode_text(ids)))


def hugging_face(folder, size: dict | None = None, **changes):
    from transformers import CLIPConfig, CLIPModel

    text = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, eos_token_id=END)
    vision = dict(hidden_size=96, intermediate_size=200, num_hidden_layers=3, num_attention_heads=4, image_size=48, patch_size=8)
    config = CLIPConfig(**size) if size is not None else CLIPConfig(text_config={**text, **changes}, vision_config={**vision, **changes}, projection_dim=40)
    model = originals.perturb(CLIPModel(config), 1.5 if size is None else 1.0)
    model.save_pretrained(folder)
    vocabulary(folder)
    return model


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_hugging_face(run_part, tmp_path, activation):
    model = hugging_face(tmp_path, hidden_act=activation)
    graphs = run_part("ranker", tmp_path)
    pictures, ids = photos(48), captions()
    hold(graphs, pictures, ids, (model.get_image_features(pixel_values=normalised(pictures)), model.get_text_features(input_ids=ids)))


def test_the_size_of_vit_b_32(run_part, tmp_path):
    model = hugging_face(tmp_path, size={})
    graphs = run_part("ranker", tmp_path)
    pictures, ids = photos(224), captions()
    hold(graphs, pictures, ids, (model.get_image_features(pixel_values=normalised(pictures)), model.get_text_features(input_ids=ids)))


def save(layout: str, folder: Path) -> tuple[torch.nn.Module, object]:
    """A checkpoint of a model that reads pictures of 48×48, and the model's own way from a picture to it."""
    folder.mkdir()
    if layout == "hugging-face":
        clip = hugging_face(folder)
        settings = dict(image_mean=MEAN.tolist(), image_std=STD.tolist(), size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48})
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    elif layout == "openai":
        clip = openai(folder, script=True)
    else:
        clip, vision, text = open_clip_model(True, patch=8, width=96, head=24)
        config = dict(model_cfg=dict(vision_cfg=vision, text_cfg=text, quick_gelu=True), preprocess_cfg=dict(mean=MEAN.tolist(), std=STD.tolist()))
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
        vocabulary(folder)
    return clip, open_clip.image_transform(48, is_train=False, mean=MEAN.tolist(), std=STD.tolist())


@pytest.mark.parametrize("layout", ["hugging-face", "open-clip", "openai"])
def test_the_scores_of_the_suite_are_the_originals(layout: str, tmp_path: Path):
    """Of pictures of any shape and more than a thousand awkward texts, and of a picture that is drawn."""
    clip, transform = save(layout, tmp_path / "clip")

    def smaller(picture: Image.Image) -> Image.Image:
        """As Pillow up to 12 does it: all columns, then all rows. Pillow 13 takes the rows first where that is less work, and rounds otherwise."""
        width, height = (int(48 * side / min(picture.size)) for side in picture.size)
        return picture.resize((width, picture.height), Image.Resampling.BICUBIC).resize((width, height), Image.Resampling.BICUBIC)

    colours = np.random.default_rng(1).uniform(-1, 1, (test_image_gpt.COLOURS, 3)).astype(np.float32)
    checkpoint = test_image_gpt.save(test_image_gpt.model("quick_gelu"), tmp_path / "checkpoint", colours)
    package = served.imported(checkpoint, tmp_path / "package", "--ranker", str(tmp_path / "clip"))

    def scores(picture: Image.Image, texts: list[str]) -> np.ndarray:
        pixels, ids = transform(smaller(picture))[None], open_clip.tokenize(texts)
        if layout != "hugging-face":
            images, words = clip.encode_image(pixels), clip.encode_text(ids)
        else:
            images, words = clip.get_image_features(pixel_values=pixels), clip.get_text_features(input_ids=ids)
        return (unit(words) @ unit(images).T)[:, 0]

    captions, noise = served.captions(), np.random.default_rng(2)
    shapes = [(48, 48), (31, 90), (200, 57), (64, 64), (7, 9), (300, 301)]
    with served.suite(package) as suite:
        for i, (height, width) in enumerate(shapes):
            picture = Image.fromarray(noise.integers(0, 256, (height, width, 3)).astype(np.uint8))
            texts = captions[i :: len(shapes)]
            made, expected = suite.classify(picture, texts), scores(picture, texts)
            assert np.ptp(expected) > 1e-2, "all scores are alike"
            assert np.abs([made[text] for text in texts] - expected).max() < 1e-4
        prompt = "A painting of an avocado armchair; it's 4k!"
        made = suite.generate(prompt)
        assert abs(made.score - scores(Image.fromarray(made.pixels[0]), [prompt])[0]) < 1e-4
    assert len(captions) > 1000


def test_an_activation_that_nobody_tells_is_asked_for(run_part, tmp_path):
    model, _, _ = open_clip_model(True, patch=8, width=96, head=24)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    vocabulary(tmp_path)
    with pytest.raises(AssertionError, match="expected open_clip_config.json beside the weights, or OpenAI's own file"):
        run_part("ranker", tmp_path / "model.pt")
