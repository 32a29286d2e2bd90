"""Endless batches of freshly drawn scenes: no picture is seen twice."""
import random

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .captions import caption
from .grammar import SHOWN, sample_train
from .practice import practised
from .scenes import pixels


class Scenes(IterableDataset):
    """Batches (scenes, captions, pixels uint8 [n, side, side, 3]); the seed and the worker's number decide which. The share `practice` of scenes is `practised`."""

    def __init__(self, batch, seed, finish=None, practice=0.0):
        self.batch, self.seed, self.practice = batch, seed, practice
        self.finish = finish or (lambda scenes, captions, images, rng: (captions, images))

    def __iter__(self):
        worker = get_worker_info()
        rng = random.Random(f"{self.seed} {worker.id if worker else 0}")
        while True:
            scenes = [self._scene(rng) for _ in range(self.batch)]
            yield self.finish(scenes, [caption(scene, rng) for scene in scenes], pixels(scenes), rng)

    def _scene(self, rng):
        scene = sample_train(rng, SHOWN)
        return practised(scene, rng) if self.practice and rng.random() < self.practice else scene


def _as_they_are(batch):
    return batch


def batches(config, batch, seed, finish=None, practice=0.0):
    """An iterator over `Scenes`, drawn by `[scenes] workers` processes, or by this one."""
    workers = config["scenes"]["workers"]
    options = {"prefetch_factor": 4, "multiprocessing_context": "fork"} if workers else {}
    return iter(DataLoader(Scenes(batch, seed, finish, practice), batch_size=None, num_workers=workers, collate_fn=_as_they_are, **options))


def still(config, count, seed, kind=sample_train):
    """Scenes, canonical captions and pictures that stay the same: for checks."""
    rng = random.Random(seed)
    scenes = [kind(rng) for _ in range(count)]
    return scenes, [caption(scene) for scene in scenes], pixels(scenes)


def detailed_crops(images, side, step, rng):
    """A square part of each picture, of three tried the one with the most detail: uint8 [n, side, side, 3]."""
    places = (images.shape[1] - side) // step + 1
    parts = []
    for image in images:
        tried = []
        for _ in range(3):
            top, left = rng.integers(0, places, 2) * step
            tried.append(image[top : top + side, left : left + side])
        parts.append(max(tried, key=lambda part: part[::4, ::4].astype(np.float32).var()))
    return np.stack(parts)
