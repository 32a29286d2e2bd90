"""An independent judge without a network: for each attribute of a caption, draw every alternative, and see which is nearest.

The judge knows only the renderer. It compares colours at 16 × 16 and, with less weight, edges at 64 × 64, over all the soft
backgrounds and places that the grammar allows. Each attribute is judged given the others, so "all right" is reported beside
the mean. What is compared was chosen on blurred renders of other scenes, right ones and ones with a wrong attribute: finer
colours and heavier edges miss more of the right ones (10 of 650 more), and find no more of the wrong ones.
"""
from dataclasses import replace

import numpy as np
from PIL import Image

from .alternatives import alternatives
from .grammar import OWN_BACKGROUND
from .scenes import render

SIDE = 64  # of the pictures that are compared
WHOLE, UPPER, LOWER = slice(0, SIDE), slice(0, SIDE // 2), slice(SIDE // 2, SIDE)
EDGES = 0.25  # weight of the edges, against colours of weight 1
SOFT = 4
SAME = 1e-6  # a smaller squared distance is none: two options that look alike in the part that is judged


def shrunk(image):
    """A Pillow picture, 64 · n pixels square, as uint8 [64, 64, 3]."""
    return np.asarray(image.reduce(image.width // SIDE))


def features(images):
    """What is compared of uint8 pictures [n, rows, 64, 3]: blurred colours and an edge map, scaled to those weights."""
    count, rows = len(images), images.shape[1]
    half = images.astype(np.float32) / 255
    gray = half @ np.full(3, 1 / 3, np.float32)
    colors = half.reshape(count, rows // 4, 4, SIDE // 4, 4, 3).mean((2, 4)).reshape(count, -1)
    edges = np.abs(np.diff(gray, axis=2))[:, : rows - 2, :-1] + np.abs(np.diff(gray, axis=1))[:, : rows - 2, :-2]
    edges = edges.reshape(count, rows // 2 - 1, 2, SIDE // 2 - 1, 2).mean((2, 4)).reshape(count, -1)
    return np.concatenate([colors / colors.shape[1] ** 0.5, EDGES * edges / edges.shape[1] ** 0.5], 1)


def shifts(scene):
    """The places that the grammar may give the scene without saying so."""
    thing = scene.things[0]
    if scene.kind in ("count", "panels") or scene.corner or thing.size == "large" or scene.camera == "close-up":
        return [(0, 0)]
    upright = scene.kind == "relation" and scene.relation in ("left", "right")
    return [(0, step) if upright else (step, 0) for step in (-1, 0, 1)]


def grounds(scene):
    """The soft backgrounds that the grammar may give the scene without saying so."""
    return range(SOFT) if not scene.background and (scene.kind == "panels" or scene.style not in OWN_BACKGROUND) else (scene.soft,)


def looks(scene):
    """The scene in every place and on every soft background that its caption allows."""
    return [replace(scene, soft=soft, shift=shift) for soft in grounds(scene) for shift in shifts(scene)]


def _unsaid(scene):
    """Where the scene is and on which soft background, as two more attributes."""
    choices = {"ground": [replace(scene, soft=soft) for soft in grounds(scene) if soft != scene.soft]}
    choices["place"] = [replace(scene, shift=shift) for shift in shifts(scene) if shift != scene.shift]
    return choices


class _Compared:
    """Those rows of the pictures that are compared, a slice of 0 … 64, as features around their mean."""

    def __init__(self, images, rows):
        self.rows, seen = rows, features(np.stack([shrunk(Image.fromarray(image))[rows] for image in images]))
        self.centre = seen.mean(0)
        self.seen = seen - self.centre

    def drawn(self, scenes):
        return features(np.stack([shrunk(render(each))[self.rows] for each in scenes])) - self.centre

    def distances(self, options):
        """Squared distances of every picture to each of some scenes that were `drawn`."""
        return np.square(self.seen).sum(1)[:, None] + np.square(options).sum(1) - 2 * self.seen @ options.T


def distances(images, scene):
    """Pictures uint8 [n, side, side, 3]: the squared distance of each to the nearest of the scene's looks, [n]."""
    compared = _Compared(images, WHOLE)
    return compared.distances(compared.drawn(looks(scene))).min(1)


def _judge(images, scene, rows, exact):
    """`judge` for those rows of the pictures that are compared."""
    compared = _Compared(images, rows)
    own = compared.drawn([scene] if exact else looks(scene))
    right = compared.distances(own).min(1)
    choices, results = alternatives(scene) | (_unsaid(scene) if exact else {}), {}
    for attribute, options in choices.items():
        if not options:
            continue
        others = compared.drawn([look for option in options for look in ([option] if exact else looks(option))])
        if rows != WHOLE:
            apart = np.array([np.square(own - other).sum(1).min() for other in others])
            others = others[apart > SAME]
        if len(others):
            results[attribute] = compared.distances(others).min(1) > right
    return results


def judge(images, scene, lower=False, exact=False):
    """Pictures of one caption, uint8 [n, side, side, 3]: for each attribute, which pictures show it.

    Of two panels, both must. With `lower` the lower half alone is judged, and an attribute of which it tells nothing is not.
    `exact` asks for the scene's own place and background too.
    """
    if lower:
        return _judge(images, scene, LOWER, exact)
    if scene.kind != "panels":
        return _judge(images, scene, WHOLE, exact)
    above, below = _judge(images, scene, UPPER, exact), _judge(images, scene, LOWER, exact)
    return {attribute: right & above.get(attribute, True) for attribute, right in below.items()}
