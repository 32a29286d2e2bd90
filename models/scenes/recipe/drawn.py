"""What the sampler draws for pairs of captions that differ in one attribute: the ranker learns from its mistakes."""
import os
import pickle
import random

import torch

from .alternatives import some_alternatives
from .captions import caption
from .grammar import SHOWN, held_out, sample_train
from .training import PRODUCTS


BETWEEN = 0.4  # of a picture between two captions: the weight of the right one


class Drawn:
    """`tokens[0]` was drawn for the scenes `pairs[…][0]`, `tokens[1]` for their alternatives `pairs[…][1]`, `tokens[2]` between both, each [n, cells].

    What lies between is what the sampler makes of a caption that it half understands: logits that are the weighted mean of both captions'.
    """

    def __init__(self, pairs, tokens):
        self.pairs, self.tokens = pairs, tokens

    def __len__(self):
        return len(self.pairs)


def _pair(rng):
    while True:
        scene = sample_train(rng, SHOWN)
        other, = some_alternatives(scene, rng, 1)
        if not held_out(other):
            return scene, other


def draw(config, work):
    """Draw `[drawn] pairs` pairs, as the trained sampler draws for users; what is there already is kept."""
    from . import transformer

    settings, sampling = config["drawn"], config["sampling"]
    model, text = transformer.load(config, work)
    model.to(PRODUCTS)
    path, rng = os.path.join(work, "drawn.pt"), random.Random(15)
    drawn = load_drawn(work) if os.path.exists(path) else Drawn([], [torch.empty(0, len(model.places()), dtype=torch.int16)] * 3)
    for _ in drawn.pairs:
        _pair(rng)
    while len(drawn) < settings["pairs"]:
        pairs = [_pair(rng) for _ in range(settings["batch"])]
        captions = [caption(scene, rng) for pair in zip(*pairs) for scene in pair]
        rows = torch.from_numpy(text(captions)).to(model.image_bias.device)
        asked, other = rows.chunk(2)
        both = model.sample(rows, sampling["temperature"], sampling["top_k"], sampling["guidance_scale"]).chunk(2)
        between = model.sample(asked, sampling["temperature"], sampling["top_k"], BETWEEN, instead=other)
        tokens = [torch.cat([kept, new.cpu().to(torch.int16)]) for kept, new in zip(drawn.tokens, (*both, between))]
        drawn = Drawn(drawn.pairs + pairs, tokens)
        torch.save({"pairs": pickle.dumps(drawn.pairs), "tokens": drawn.tokens}, path + ".new")
        os.replace(path + ".new", path)
        print(f"{len(drawn)} pairs", flush=True)


def load_drawn(work):
    kept = torch.load(os.path.join(work, "drawn.pt"))
    return Drawn(pickle.loads(kept["pairs"]), [tokens.long() for tokens in kept["tokens"]])
