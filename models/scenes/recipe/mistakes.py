"""Several pictures of each caption, drawn by the sampler, and what the judge says of them: the ranker learns which of them to put first.

All captions are of combinations that may be trained on. What is kept of a batch is one file of pictures, as the ranker sees them, and
one of scenes and verdicts.
"""
import os
import pathlib
import pickle
import random

import numpy as np

from .captions import caption
from .grammar import SHOWN, sample_train
from .judge import margins

FOLDER = "mistakes"


def _files(work):
    """Files of verdicts, whose pictures were written before."""
    return sorted(pathlib.Path(work, FOLDER).glob("*.pkl"))


def keep(folder, number, scenes, pictures, verdicts):
    """Keep a batch: pictures uint8 [captions, n, size, size, 3], and for each scene the judge's margins, [attributes, n]."""
    np.save(folder / f"{number:05}.npy", pictures)
    whole = folder / f"{number:05}.pkl"
    whole.with_suffix(".new").write_bytes(pickle.dumps((scenes, verdicts)))
    os.replace(whole.with_suffix(".new"), whole)


def draw(config, work):
    """Draw and judge `[mistakes] captions` captions, each with one of the `settings`; what is there already is kept."""
    from .clip import shrink
    from .sweep import Sampler

    settings, folder = config["mistakes"], pathlib.Path(work, FOLDER)
    batch, count, sampler = settings["batch"], settings["candidates"], Sampler(config, work)
    folder.mkdir(exist_ok=True)
    for number in range(len(_files(work)), -(-settings["captions"] // batch)):
        rng, asked = random.Random(f"mistakes {number}"), settings["settings"][number % len(settings["settings"])]
        scenes = [sample_train(rng, SHOWN) for _ in range(batch)]
        images, _ = sampler([words for scene in scenes for words in [caption(scene, rng)] * count], **asked)
        drawn = np.split(images, batch)
        verdicts = [np.array(list(margins(own, scene).values())) for own, scene in zip(drawn, scenes)]
        keep(folder, number, scenes, np.stack([shrink(own, config["clip"]["image_size"]) for own in drawn]), verdicts)
        print(f"{(number + 1) * batch} captions, of the last pictures {100 * np.mean([each.min(0) > 0 for each in verdicts]):.0f} % right", flush=True)


def before(verdicts):
    """Margins [attributes, n] of the pictures of one caption → float [n, n]: how much rather one (row) is to come first than another
    (column), 0 … 1. Of each picture the attribute counts that it shows least."""
    least = verdicts.min(0)
    return np.clip(least[:, None] - least, 0, 1).astype(np.float32)


class Mistakes:
    """The captions of whose pictures some are to come before others."""

    def __init__(self, work):
        self.scenes, self.pictures, self.before = [], [], []
        for path in _files(work):
            scenes, verdicts = pickle.loads(path.read_bytes())
            pictures = np.load(path.with_suffix(".npy"), mmap_mode="r")
            for i, order in enumerate(map(before, verdicts)):
                if order.sum() >= 1:
                    self.scenes.append(scenes[i])
                    self.pictures.append(pictures[i])
                    self.before.append(order)

    def take(self, count, rng):
        """Scenes; their pictures uint8 [count · n, size, size, 3]; what of each scene's pictures comes before what, float [count, n, n]."""
        chosen = rng.choices(range(len(self.scenes)), k=count)
        return [self.scenes[i] for i in chosen], np.concatenate([self.pictures[i] for i in chosen]), np.stack([self.before[i] for i in chosen])
