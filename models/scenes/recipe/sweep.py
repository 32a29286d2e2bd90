"""Judge samples of a trained checkpoint, before it is a package: one line for each setting of the sampler.

python3 -m recipe.sweep --config cpu.toml --work DIR --temperature 0.7 0.85 1 --top-k 64 256 --guidance 1 2 3
"""
import argparse
import itertools
import os
import random
import time
import tomllib
from collections import defaultdict

import numpy as np
import torch

from . import clip, transformer
from .canvas import use_config
from .captions import caption
from .dvae import load_codes
from .grammar import sample_held, sample_train
from .judge import judge
from .scenes import pixels
from .training import DEVICE

ROWS = 128  # drawn at once


def _tables(scenes, pictures):
    """The judge's results for each scene and its pictures, and each kind's and attribute's shares."""
    tables, kinds, attributes = [], defaultdict(list), defaultdict(list)
    for scene, own in zip(scenes, pictures):
        results = judge(own, scene)
        tables.append(np.array(list(results.values())))
        kinds[scene.kind].append(tables[-1].all(0).mean())
        for attribute, right in results.items():
            attributes[attribute.rstrip("2")].append(right.mean())
    return tables, kinds, attributes


def ceiling(config, work, scenes):
    """True renders through the encoder and the decoder: what no sampler can be better than."""
    dvae, grid = load_codes(config, work), config["transformer"]["grid"]
    painted = dvae.decode(dvae.encode(pixels(scenes)), grid)
    tables, *details = _tables(scenes, painted[:, None])
    return {"all right": np.mean([table.all() for table in tables]), "mean attribute": np.mean([table.mean() for table in tables])}, *details


class Sampler:
    """Captions to pictures, with the trained checkpoint."""

    def __init__(self, config, work):
        self.model, self.text = transformer.load(config, work)
        self.dvae, self.grid, self.settings = load_codes(config, work), config["transformer"]["grid"], config["sampling"]
        self.ranker = clip.load(config, work) if os.path.exists(clip.trained(config, work)) else None
        self.size = config["clip"]["image_size"]

    @torch.no_grad()
    def __call__(self, captions, **changes):
        """Pictures uint8 [n, side, side, 3], and their tokens."""
        names = ("temperature", "top_k")
        settings = {**{name: self.settings[name] for name in names}, "guidance": self.settings["guidance_scale"], **changes}
        rows = torch.from_numpy(self.text(captions)).to(DEVICE)
        tokens = torch.cat([self.model.sample(part, **settings) for part in rows.split(ROWS)])
        return np.concatenate([np.asarray(self.dvae.decode(part, self.grid)) for part in tokens.split(ROWS)]), tokens

    def scores(self, captions, images):
        """The ranker's cosine of each picture with its caption."""
        parts = zip(np.split(images, range(ROWS, len(images), ROWS)), (captions[i : i + ROWS] for i in range(0, len(captions), ROWS)))
        return np.concatenate([clip.scores(*self.ranker, seen, said, self.size).diagonal().cpu().numpy() for seen, said in parts])

    @torch.no_grad()
    def gains(self, captions, tokens):
        """ln p(picture | caption) − ln p(picture), for each caption and its picture's tokens."""
        text, parts = torch.from_numpy(self.text(captions)).to(DEVICE), []
        nothing = torch.arange(self.text.vocabulary, self.text.vocabulary + self.text.length, device=DEVICE)
        for said, drawn in zip(text.split(ROWS // 2), tokens.split(ROWS // 2)):
            logits = self.model(torch.cat([said, nothing.expand(len(said), -1)]), torch.cat([drawn, drawn]))[1]
            told = logits.log_softmax(-1).gather(2, torch.cat([drawn, drawn])[..., None])[..., 0].sum(1)
            parts.append(told[: len(said)] - told[len(said) :])
        return torch.cat(parts).cpu().numpy()


def measure(sampler, scenes, candidates, **settings):
    """All right in one sample, in the best by caption gain, by CLIP if it is trained, by both, and in any; the mean attribute; and each kind and attribute."""
    words = [caption(scene) for scene in scenes for _ in range(candidates)]
    images, tokens = sampler(words, **settings)
    rankings = {"gain": sampler.gains(words, tokens).reshape(len(scenes), candidates)}
    if sampler.ranker:
        rankings["CLIP"] = sampler.scores(words, images).reshape(len(scenes), candidates)
        rankings["both"] = sum(_standard(scores) for scores in rankings.values())
    tables, *details = _tables(scenes, np.split(images, len(scenes)))
    every = np.array([table.all(0) for table in tables])
    best = {f"best of {candidates} by {name}": every[np.arange(len(scenes)), scores.argmax(1)].mean() for name, scores in rankings.items()}
    return {
        "all right": every.mean(), **best, "by an oracle": every.any(1).mean(),
        "mean attribute": np.mean([table.mean() for table in tables])}, *details


def _standard(scores):
    """Scores of each caption's samples at mean 0 and deviation 1."""
    return (scores - scores.mean(1, keepdims=True)) / (scores.std(1, keepdims=True) + 1e-9)


def _line(name, numbers, *details):
    parts = ["  ".join(f"{key} {100 * value:.0f}" for key, value in numbers.items())]
    parts += [" ".join(f"{key} {100 * np.mean(values):.0f}" for key, values in sorted(detail.items())) for detail in details]
    print(f"{name}: " + " | ".join(parts), flush=True)


def evaluate(config, work):
    """Captions of seen and of unseen combinations, with the configuration's own settings."""
    sampler, settings = Sampler(config, work), config["judge"]
    for name, seed, kind in (("seen", 21, sample_train), ("unseen", 22, sample_held)):
        rng = random.Random(seed)
        _line(name, *measure(sampler, [kind(rng) for _ in range(settings["captions"])], settings["candidates"]))


def main():
    parser = argparse.ArgumentParser(prog="recipe.sweep", description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--captions", type=int, default=60, help="of unseen combinations")
    parser.add_argument("--seen", action="store_true", help="captions of seen combinations instead")
    parser.add_argument("--ceiling", action="store_true", help="only what encoder and decoder leave of true pictures")
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--temperature", type=float, nargs="+", default=[0.85])
    parser.add_argument("--top-k", type=int, nargs="+", default=[128])
    parser.add_argument("--guidance", type=float, nargs="+", default=[3.0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with open(arguments.config, "rb") as file:
        config = tomllib.load(file)
    use_config(config)
    rng = random.Random(22)
    scenes = [(sample_train if arguments.seen else sample_held)(rng) for _ in range(arguments.captions)]
    if arguments.ceiling:
        _line("ceiling", *ceiling(config, arguments.work, scenes))
        return
    sampler = Sampler(config, arguments.work)
    for temperature, top_k, guidance in itertools.product(arguments.temperature, arguments.top_k, arguments.guidance):
        torch.manual_seed(0)
        start = time.monotonic()
        results = measure(sampler, scenes, arguments.candidates, temperature=temperature, top_k=top_k, guidance=guidance)
        seconds = time.monotonic() - start
        _line(f"temperature {temperature:g} top-k {top_k} guidance {guidance:g} ({seconds:.0f} s)", *results)


if __name__ == "__main__":
    main()
