"""What lies where, as a second part of the ranker's embeddings.

The pictures of one caption are all of the same things; which of them is right is often a matter of where which colour is, and that is
what a transformer's embedding, taught to tell captions apart, forgets. So a picture's embedding gets a second part: a linear map of the
mean colours of its squares, in which the places and backgrounds that a caption leaves open hardly count, and all else by how much it
differs between scenes (a linear discriminant analysis: Fisher 1936). The text tower learns to foretell it, from rendered scenes alone;
what it says beside it stays as it was.
"""
import os
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

from . import clip
from .captions import caption
from .grammar import SHOWN, sample_held, sample_train
from .judge import looks
from .scenes import pixels
from .stream import batches, still
from .training import DEVICE, MIXED, Optimizers, Run

UNSAID = 0.03  # directions count half in which scenes that a caption does not tell apart differ by this share of the most
PART = 500  # scenes that are drawn at once


def colors(images, size, squares):
    """Pictures uint8 [n, h, w, 3] → mean colours of their squares as the ranker sees them, −1 … 1: [n, 3, squares, squares]."""
    return F.avg_pool2d(clip.preprocess(images, size), size // squares)


def fit(config):
    """The linear map, from `[layout] scenes` scenes and the looks of `looks` others: weight [width, 3, squares, squares] and bias [width]."""
    settings, size, rng = config["layout"], config["clip"]["image_size"], random.Random("layout")

    def seen(drawn):
        return colors(pixels(drawn), size, settings["squares"]).flatten(1)

    every = torch.cat([seen([sample_train(rng, SHOWN) for _ in range(PART)]) for _ in range(settings["scenes"] // PART)])
    alike = [looks(sample_train(rng, SHOWN)) for _ in range(settings["looks"])]
    alike = [seen(rng.sample(own, min(4, len(own)))) for own in alike if len(own) > 1]
    alike = torch.cat([own - own.mean(0) for own in alike])
    spread, directions = torch.linalg.eigh(alike.T @ alike / len(alike))
    directions = directions * (UNSAID / (spread.clamp(min=0) / spread.max() + UNSAID)).sqrt()
    centre = every.mean(0)
    _, most = torch.linalg.eigh(torch.cov(((every - centre) @ directions).T))
    chosen = directions @ most[:, -settings["width"] :]
    return chosen.T.reshape(settings["width"], 3, settings["squares"], settings["squares"]), -centre @ chosen


class Scenes:
    """Scenes and the mean colours of their squares: a store that grows, since drawing takes longer than reading captions."""

    def __init__(self, config, seed):
        settings, size = config["layout"], config["clip"]["image_size"]
        self.store, self.scenes, self.colors = settings["train"]["store"], [], []
        self.fresh = batches(
            config, settings["train"]["fresh"], f"layout {seed}",
            lambda scenes, captions, images, rng: (scenes, colors(images, size, settings["squares"])))

    def take(self, count, rng):
        """Scenes, and their colours [count, 3, squares, squares]."""
        while not self.scenes or len(self.scenes) < self.store:
            self._grow()
        self._grow()
        chosen = [rng.randrange(len(self.scenes)) for _ in range(count)]
        return [self.scenes[i] for i in chosen], torch.stack([self.colors[i] for i in chosen])

    def _grow(self):
        scenes, seen = next(self.fresh)
        self.scenes += scenes
        self.colors += list(seen.half())


def _short(tokens):
    """Without the columns behind the last end token, which no earlier one sees."""
    return tokens[:, : int(tokens.argmax(-1).max()) + 1]


class Check:
    """New scenes of combinations that may be trained on and of held-out ones: how far what their captions foretell is from what is seen, as 1 − cosine."""

    def __init__(self, config, text):
        self.sets = {}
        for name, seed, kind in (("seen", 9, sample_train), ("held", 8, sample_held)):
            _, captions, images = still(config, 4 * config["check"]["scenes"], seed, kind)
            means = colors(images, config["clip"]["image_size"], config["layout"]["squares"])
            self.sets[name] = torch.from_numpy(text(captions)).to(DEVICE), means

    @torch.no_grad()
    def __call__(self, told, seen):
        return {name: (1 - F.cosine_similarity(told(tokens)[1], seen(means))).mean().item() for name, (tokens, means) in self.sets.items()}


def train(config, work, replicas):
    """Teach the text tower what lies where, if the configuration has a layout; the image tower stays as it is."""
    if "layout" not in config:
        return
    settings = config["layout"]["train"]
    before, text = clip.build(config, work)
    before.load_state_dict(torch.load(os.path.join(work, "clip.pt"), map_location=DEVICE)["model"])
    before.eval().requires_grad_(False)
    model, _ = clip.build(config, work)
    model.load_state_dict(before.state_dict())
    model.add_layout(config["layout"])
    model.visual.requires_grad_(False)
    model.logit_scale.requires_grad_(False)
    learnt = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    optimizers = Optimizers(learnt, "resblocks", "in_proj", settings, (0.9, 0.98), replicas)
    fresh = not os.path.exists(os.path.join(work, "layout.pt"))
    run = Run(os.path.join(work, "layout.pt"), settings, {"model": model}, optimizers.kept(), replicas)
    layout = model.visual.layout
    if fresh:
        weight, bias = fit(config)
        layout.weight.copy_(weight), layout.bias.copy_(bias)
        nn.init.normal_(model.text_projection[:, before.text_projection.shape[1] :].data, std=0.05)
    elif not run.step:  # a package's layout: what `clip` learnt since counts
        learnt_since = before.state_dict()
        projection = learnt_since.pop("text_projection")
        model.load_state_dict(learnt_since, strict=False)
        model.text_projection.data[:, : projection.shape[1]] = projection
    seed, width = f"{replicas.rank} {run.step}", before.text_projection.shape[1]
    scenes, rng, check = Scenes(config, seed), random.Random(f"layout {seed}"), Check(config, text)

    def told(tokens):
        """What the text tower says: the part that was there, and the layout."""
        with torch.autocast(DEVICE, torch.bfloat16, enabled=MIXED):
            return model.told(tokens).float().split([width, len(layout.bias)], 1)

    def seen(means):
        return layout.map(means.to(DEVICE))

    while run.running():
        run.rates(settings["warmup"], settings["decay"])
        own, means = scenes.take(settings["batch"], rng)
        tokens = _short(torch.from_numpy(text([caption(scene, rng) for scene in own])).to(DEVICE))
        with torch.autocast(DEVICE, torch.bfloat16, enabled=MIXED):
            old = before.encode_text(tokens[: settings["kept"]])
        kept, place = told(tokens)
        true = seen(means.float())
        loss = 2 * (1 - F.cosine_similarity(place, true)).mean() + (1 - F.cosine_similarity(kept[: len(old)], old)).mean() \
            + (1 - F.cosine_similarity(torch.cat([kept, place], 1)[: len(old)], torch.cat([old, true[: len(old)]], 1))).mean()
        optimizers.step(loss)
        run.step += 1
        if run.due():
            run.report(loss=loss.item(), **check(told, seen), captions=run.rate(settings["batch"]))
    run.save()
