"""Scenes: what a picture shows, how it is drawn, and which combinations are never seen in training."""
import zlib
from dataclasses import dataclass, replace

import numpy as np

from .backgrounds import PLACES, PLAIN, background
from .sprites import COLORS, OBJECTS, SHAPES, SIDE, sprite

STEP = 16  # places snap to this many pixels, so that an object moves by whole image tokens
STYLES = ("", "sketch", "silhouette", "neon sign", "pixel art", "sticker")
CORNERS = {"top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}
RELATIONS = {
    "left": ((32, 64), (96, 64)), "right": ((96, 64), (32, 64)), "above": ((64, 32), (64, 96)), "below": ((64, 96), (64, 32))}
COUNTS = {
    2: (56, ((32, 64), (96, 64))),
    3: (48, ((64, 32), (32, 88), (96, 88))),
    4: (48, ((32, 32), (96, 32), (32, 96), (96, 96))),
    5: (40, ((32, 32), (96, 32), (64, 64), (32, 96), (96, 96)))}
SIZES = {"small": 48, "": 80, "large": 112}
MADE = ("armchair", "vase", "teapot", "car", "boat", "house", "rocket", "guitar", "umbrella", "clock", "robot", "balloon", "bus")
MATERIALS = (
    "avocado", "watermelon", "strawberry", "pineapple", "pumpkin", "sunflower", "bee", "lemon", "donut", "pizza", "frog", "fox",
    "panda", "mushroom", "cactus", "fish")
OWN_BACKGROUND = {"sketch": "paper", "neon sign": "dark"}


@dataclass(frozen=True)
class Thing:
    name: str
    color: str = ""
    size: str = ""


@dataclass(frozen=True)
class Scene:
    """`kind` is one, count, relation or composite; `soft` and `shift` are what the caption does not say."""
    kind: str
    things: tuple
    style: str = ""
    background: str = ""
    soft: int = 0
    relation: str = ""
    count: int = 0
    corner: str = ""
    material: str = ""
    shift: tuple = (0, 0)


def placements(scene):
    """Every sprite of the scene: (thing, size in pixels, centre x, centre y)."""
    dx, dy = scene.shift
    if scene.kind == "count":
        size, centres = COUNTS[scene.count]
        return [(scene.things[0], size, x, y) for x, y in centres]
    if scene.kind == "relation":
        centres = RELATIONS[scene.relation]
        return [(thing, 56, x + dx, y + dy) for thing, (x, y) in zip(scene.things, centres)]
    thing = scene.things[0]
    if scene.corner:
        column, row = CORNERS[scene.corner]
        return [(thing, 48, 32 + 64 * column, 32 + 64 * row)]
    return [(thing, SIZES[thing.size], SIDE // 2 + dx, SIDE // 2 + dy)]


def render(scene):
    """The picture of a scene, 128 pixels square."""
    image = background(scene.background or OWN_BACKGROUND.get(scene.style) or f"soft{scene.soft}").copy()
    for thing, size, x, y in placements(scene):
        left, top = x - size // 2, y - size // 2
        picture = sprite(thing.name, thing.color, scene.style, size, scene.material)
        if left < 0 or top < 0:
            picture = picture.crop((max(0, -left), max(0, -top), size, size))
        image.alpha_composite(picture, (max(0, left), max(0, top)))
    return image.convert("RGB")


def pixels(scenes):
    """Pictures of many scenes as one uint8 array [n, 128, 128, 3]."""
    return np.stack([np.asarray(render(scene)) for scene in scenes])


def _share(*parts):
    return zlib.crc32("|".join(parts).encode()) % 1000


def held_out(scene):
    """The reasons why a scene may not be trained on: combinations set aside by a hash, and armchair + avocado."""
    reasons = []
    for thing in scene.things:
        if thing.color and _share("c", thing.name, thing.color) < 120:
            reasons.append("color")
        if scene.style and _share("s", thing.name, scene.style) < 120:
            reasons.append("style")
        if scene.background in PLACES and _share("p", thing.name, scene.background) < 120:
            reasons.append("place")
    if scene.kind == "relation" and _share("r", *sorted(thing.name for thing in scene.things)) < 120:
        reasons.append("relation")
    if scene.kind == "composite":
        pair = (scene.things[0].name, scene.material)
        if pair == ("armchair", "avocado") or _share("x", *pair) < 200:
            reasons.append("composite")
    return reasons


def _shift(rng):
    return rng.choice((-STEP, 0, STEP))


def _thing(rng, name, coloured, size=""):
    plain = name in SHAPES or name == "vase"  # these have no colour of their own
    return Thing(name, rng.choice(tuple(COLORS)) if plain or rng.random() < coloured else "", size)


def sample(rng, kind=None):
    """A random scene of the whole grammar."""
    kind = kind or rng.choices(("one", "relation", "count", "composite"), (46, 28, 13, 13))[0]
    fields, name = {"kind": kind, "soft": rng.randrange(4)}, rng.choice(OBJECTS)
    if kind == "one":
        size = rng.choices(("", "small", "large"), (70, 15, 15))[0]
        if rng.random() < 0.18:
            fields["corner"], size = rng.choice(tuple(CORNERS)), ""
        fields["things"] = (_thing(rng, name, 0.4, size),)
        fields["style"] = rng.choices(STYLES, (50, 10, 10, 10, 10, 10))[0]
        if size != "large" and "corner" not in fields:
            fields["shift"] = (_shift(rng), 0)
    elif kind == "count":
        fields["count"] = rng.choice(tuple(COUNTS))
        fields["things"] = (_thing(rng, name, 0.4),)
    elif kind == "relation":
        other = rng.choice([candidate for candidate in OBJECTS if candidate != name])
        fields["things"] = (_thing(rng, name, 0.35), _thing(rng, other, 0.35))
        fields["relation"] = rng.choice(tuple(RELATIONS))
        fields["shift"] = (0, _shift(rng)) if fields["relation"] in ("left", "right") else (_shift(rng), 0)
    else:
        name = rng.choice(MADE)
        fields["things"], fields["material"] = (Thing(name),), rng.choice(MATERIALS)
        fields["style"] = rng.choices(("", "sticker", "pixel art"), (80, 10, 10))[0]
        fields["shift"] = (_shift(rng), 0)
    if fields.get("style") not in OWN_BACKGROUND:
        draw = rng.random()
        if draw < 0.28:
            fields["background"] = "plain:" + rng.choice(tuple(PLAIN))
        elif draw < 0.52:
            fields["background"] = rng.choice(tuple(PLACES))
    return Scene(**fields)


def sample_train(rng):
    """A random scene that may be trained on."""
    while held_out(scene := sample(rng)):
        pass
    return scene


def sample_held(rng):
    """A random scene with at least one combination that is never trained on."""
    while not held_out(scene := sample(rng)):
        pass
    return scene


def with_thing(scene, index, **changes):
    """The scene with one of its things changed."""
    things = list(scene.things)
    things[index] = replace(things[index], **changes)
    return replace(scene, things=tuple(things))
