"""Write the checkpoint folder that the import reads, and reference outputs to check an import against."""
import json
import os
import random
import shutil

import numpy as np
import torch
from safetensors.torch import save_file

from . import clip, transformer
from .captions import caption
from .dvae import Dvae, load_codes
from .grammar import sample_train
from .scenes import pixels
from .training import DEVICE

HERE = os.path.dirname(__file__)


def _contiguous(tensors, kind):
    return {name: tensor.detach().to(kind).contiguous() for name, tensor in tensors.items()}


def describe(config, vocabulary):
    """config.json: the sizes of the three models, without what only training needs."""
    sampler = {name: value for name, value in config["transformer"].items() if name != "train"}
    ranker_names = ("image_size", "mean", "std", "context_length", "vision_heads", "text_heads", "activation", "norm_epsilon", "pad")
    levels = config["dvae"]["quantizer"]["levels"]
    return {
        "family": "dalle", **config["package"],
        "transformer": {**sampler, "text_vocab": vocabulary, "codebook": int(np.prod(levels))},
        "dvae": {name: config["dvae"][name] for name in ("image_size", "quantizer", "encoder", "decoder")},
        "clip": {name: config["clip"][name] for name in ranker_names},
        "sampling": config["sampling"],
    }


def write(folder, config, work, sampler, text, dvae, ranker):
    """Write the folder beside its place, then move it there."""
    new = folder + ".new"
    shutil.rmtree(new, ignore_errors=True)
    os.makedirs(new)
    with open(os.path.join(new, "config.json"), "w") as file:
        json.dump(describe(config, text.vocabulary), file, indent=2, ensure_ascii=False)
    for name in ("tokenizer.json", "ranker_tokenizer.json", "words.txt"):
        shutil.copy(os.path.join(work, name), new)
    for name in ("LICENSE", "NOTICE"):
        shutil.copy(os.path.join(HERE, "..", name), new)
    kind = torch.float16 if config.get("export", {}).get("half") else torch.float32
    for name, tensors in (("transformer", sampler.exported()), ("dvae", dvae.state_dict()), ("clip", ranker.state_dict())):
        save_file(_contiguous(tensors, kind), os.path.join(new, f"{name}.safetensors"))
    golden(config, os.path.join(new, "golden.safetensors"), sampler, text, dvae, ranker, clip.RankerText(work, config["clip"]["context_length"]))
    for name in os.listdir(new):
        os.chmod(os.path.join(new, name), 0o644)
    old = folder + ".old"
    shutil.rmtree(old, ignore_errors=True)
    if os.path.exists(folder):
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


@torch.no_grad()
def golden(config, path, sampler, text, dvae, ranker, ranker_text):
    """Reference outputs: they are no part of a package."""
    captions, rng = config["golden"]["captions"], random.Random(12)
    tokens = torch.from_numpy(text(captions)).to(DEVICE)
    greedy = sampler.sample(tokens, temperature=0)
    _, logits = sampler(tokens[:1], greedy[:1])
    scenes = [sample_train(rng) for _ in range(4)]
    drawn, grid, size = pixels(scenes), config["transformer"]["grid"], config["clip"]["image_size"]
    small = clip.preprocess(drawn, size)
    said = torch.from_numpy(ranker_text([caption(scene) for scene in scenes])).to(DEVICE)
    save_file({
        "text_tokens": tokens, "greedy_tokens": greedy, "teacher_logits": logits[0].contiguous(),
        "greedy_pixels": torch.from_numpy(dvae.decode(greedy, grid)).contiguous(),
        "scene_pixels": torch.from_numpy(drawn), "scene_tokens": dvae.encode(drawn).contiguous(),
        "clip_pixels": ((small * 0.5 + 0.5) * 255).round().byte().permute(0, 2, 3, 1).contiguous(), "clip_text_tokens": said,
        "clip_image_embeddings": ranker.encode_image(small).contiguous(), "clip_text_embeddings": ranker.encode_text(said).contiguous(),
    }, path, {"captions": json.dumps(captions), "scene_captions": json.dumps([caption(scene) for scene in scenes])})


def export(config, work):
    """The trained checkpoint."""
    sampler, text = transformer.load(config, work)
    write(os.path.join(work, "checkpoint"), config, work, sampler, text, load_codes(config, work), clip.load(config, work)[0])


def export_random(config, work):
    """A checkpoint of the same layout whose weights are random, to develop an import with."""
    sampler, text = transformer.build(config, work)
    dvae = Dvae(config["dvae"]).to(DEVICE)
    write(os.path.join(work, "checkpoint-random"), config, work, sampler, text, dvae, clip.build(config, work)[0])
