"""An independent judge without a network: for each attribute of a caption, draw every alternative, and see which is nearest.

The judge knows only the renderer. It compares colours at 32 × 32 and edges at 64 × 64, over all the places that the grammar
allows. Each attribute is judged given the others, so "all right" is reported beside the mean.
"""
import random
from collections import defaultdict
from dataclasses import replace

import numpy as np
import torch

from . import clip, transformer
from .alternatives import alternatives
from .backgrounds import background
from .captions import caption
from .dvae import load_codes
from .scenes import OWN_BACKGROUND, STEP, held_out, pixels, sample_held, sample_train


def _halved(images):
    count, side = len(images), images.shape[1] // 2
    return images.reshape(count, side, 2, side, 2, -1).mean((2, 4))


def features(images):
    """What is compared: blurred colours and an edge map, scaled to equal weight."""
    half = _halved(images.astype(np.float32) / 255)
    gray, colors = half.mean(-1), _halved(half)
    edges = np.abs(np.diff(gray, axis=2))[:, :62, :62] + np.abs(np.diff(gray, axis=1))[:, :62, :62]
    edges = _halved(edges[..., None])
    count = len(images)
    return np.concatenate([colors.reshape(count, -1) / np.sqrt(3 * 1024), edges.reshape(count, -1) / 31], 1)


def _shifts(scene):
    if scene.kind == "count" or scene.corner or any(thing.size == "large" for thing in scene.things):
        return [(0, 0)]
    upright = scene.kind == "relation" and scene.relation in ("left", "right")
    return [(0, step) if upright else (step, 0) for step in (-STEP, 0, STEP)]


def _frame(images):
    """The outer three pixels of half-size pictures, where no object is."""
    half = _halved(images.astype(np.float32))
    edges = (half[:, :3], half[:, -3:], half[:, :, :3], half[:, :, -3:])
    return np.concatenate([edge.reshape(len(images), -1) for edge in edges], 1)


def judge(images, scene):
    """Pictures of one caption: for each attribute, which pictures show it."""
    soft = np.stack([np.asarray(background(f"soft{i}").convert("RGB")) for i in range(4)])
    nearest = np.square(_frame(images)[:, None] - _frame(soft)[None]).sum(-1).argmin(1)
    seen, grounds = features(images), sorted(set(nearest.tolist()))

    def distance(option):
        own = option.background or option.style in OWN_BACKGROUND
        drawn = features(pixels([
            replace(option, soft=ground, shift=shift) for ground in (grounds[:1] if own else grounds) for shift in _shifts(option)]))
        return np.square(seen[:, None] - drawn[None]).sum(-1).min(1)

    right = distance(scene)
    return {name: np.min([distance(option) for option in options], 0) > right for name, options in alternatives(scene).items()}


class Sampler:
    """Captions to pictures, with the trained checkpoint."""

    def __init__(self, config, work):
        self.model, self.text = transformer.load(config, work)
        self.dvae, self.grid, self.settings = load_codes(config, work), config["transformer"]["grid"], config["sampling"]

    def __call__(self, captions, **changes):
        names = ("temperature", "top_k")
        settings = {**{name: self.settings[name] for name in names}, "guidance": self.settings["guidance_scale"], **changes}
        rows = torch.from_numpy(self.text(captions))
        tokens = torch.cat([self.model.sample(part, **settings) for part in rows.split(64)])
        return np.concatenate([self.dvae.decode(part, self.grid) for part in tokens.split(64)]), tokens


def evaluate(config, work):
    """Judge samples of captions that were trained on and of held-out ones, one each and ranked by CLIP."""
    settings, sampler = config["judge"], Sampler(config, work)
    ranker, ranker_text = clip.load(config, work)
    for name, seed, kind in (("trained", 21, sample_train), ("held out", 22, sample_held)):
        rng, attributes, tags = random.Random(seed), defaultdict(list), defaultdict(list)
        all_right, share, ranked, oracle = [], [], [], []
        scenes = [kind(rng) for _ in range(settings["captions"])]
        for scene in scenes:
            words = caption(scene)
            images, _ = sampler([words] * settings["candidates"])
            results = judge(images, scene)
            table = np.array(list(results.values()))
            for attribute, right in results.items():
                attributes[attribute.rstrip("2")].append(right.mean())
            every = table.all(0)
            all_right.append(every.mean())
            share.append(table.mean())
            order = clip.scores(ranker, ranker_text, images, [words], config["clip"]["image_size"])[:, 0]
            ranked.append((every[order.argmax()], table[:, order.argmax()].mean()))
            oracle.append(every.any())
            for tag in set(held_out(scene)) or {scene.kind}:
                tags[tag].append(every.mean())
        best, best_share = np.mean(ranked, 0)
        print(
            f"{name}: {len(scenes)} captions x {settings['candidates']}  all right {np.mean(all_right):.3f}  mean attribute "
            f"{np.mean(share):.3f}  best by CLIP {best:.3f} / {best_share:.3f}  best possible {np.mean(oracle):.3f}")
        print("  ", {key: round(float(np.mean(values)), 3) for key, values in sorted(attributes.items())})
        print("  ", {key: (round(float(np.mean(values)), 3), len(values)) for key, values in sorted(tags.items())}, flush=True)
