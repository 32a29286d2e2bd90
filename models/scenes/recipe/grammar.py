"""The grammar of scenes: what a caption can ask for, and which combinations are never seen in training."""
import zlib
from dataclasses import dataclass, replace

from .backgrounds import PLACES, PLAIN
from .sprites import COLORS, OBJECTS, SHAPES, TEXTURES

STYLES = ("", "sketch", "silhouette", "neon sign", "pixel art", "sticker")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
RELATIONS = ("left", "right", "above", "below")
COUNTS = (2, 3, 4, 5)
SIZES = ("small", "", "large")
CAMERAS = ("close-up", "from above", "in the distance")
LIGHTS = ("lit from the left", "lit from the right", "at night")
MADE = ("armchair", "vase", "teapot", "car", "boat", "house", "rocket", "guitar", "umbrella", "clock", "robot", "balloon", "bus")
MATERIALS = (
    "avocado", "watermelon", "strawberry", "pineapple", "pumpkin", "sunflower", "bee", "lemon", "donut", "pizza", "frog", "fox",
    "panda", "mushroom", "cactus", "fish")
OWN_BACKGROUND = {
    "sketch": "paper", "neon sign": "dark", "blueprint": "blue paper", "chalk drawing": "board", "stencil": "wall", "stamp": "paper"}
DAYLIGHT = ("at the beach", "on the grass", "in the snow", "in the desert")  # the places that can also be seen at night


@dataclass(frozen=True)
class Shares:
    """How often a scene has what: weights of the kinds, chances of a colour and of a texture (alone, or of each of several), weight of no style beside 9 of each."""
    kinds: tuple
    coloured: float
    textured: float
    several_textured: float
    no_style: int


KINDS = ("one", "relation", "count", "composite", "panels")
ASKED = Shares((46, 22, 10, 12, 10), 0.4, 0.16, 0.08, 55)
# Training shows oftener what is learnt last, and what must be told from the object itself to be right in an unseen combination.
SHOWN = Shares((46, 20, 8, 16, 10), 0.5, 0.4, 0.2, 45)


@dataclass(frozen=True)
class Thing:
    name: str
    color: str = ""
    size: str = ""
    texture: str = ""


@dataclass(frozen=True)
class Scene:
    """`kind` is one, count, relation, composite or panels; `soft` and `shift` (in steps of the layout) are what the caption does not say.

    Of two panels, the upper shows the thing as it is, and the lower the same thing in the style `panel`.
    """
    kind: str
    things: tuple
    style: str = ""
    background: str = ""
    soft: int = 0
    relation: str = ""
    count: int = 0
    corner: str = ""
    material: str = ""
    light: str = ""
    camera: str = ""
    panel: str = ""
    shift: tuple = (0, 0)


def _share(*parts):
    return zlib.crc32("|".join(parts).encode()) % 1000


def held_out(scene):
    """The reasons why a scene may not be trained on: combinations set aside by a hash, and armchair + avocado."""
    reasons = []
    for thing in scene.things:
        if thing.color and _share("c", thing.name, thing.color) < 120:
            reasons.append("color")
        if thing.texture and _share("t", thing.name, thing.texture) < 120:
            reasons.append("texture")
        style = scene.style or scene.panel
        if style and _share("s", thing.name, style) < 120:
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
    """Most things are where they are expected."""
    return rng.choices((-1, 0, 1), (15, 70, 15))[0]


def _thing(rng, name, coloured, textured=0.0, size=""):
    plain = name in SHAPES or name == "vase"  # these have no colour of their own
    color = rng.choice(tuple(COLORS)) if plain or rng.random() < coloured else ""
    return Thing(name, color, size, rng.choice(TEXTURES) if rng.random() < textured else "")


def _one(rng, name, shares):
    """One thing: how it is seen, its style or texture, and the light."""
    view = rng.choices(("", "size", "corner", "camera"), (60, 14, 14, 12))[0]
    style = "" if view == "camera" else rng.choices(STYLES, (shares.no_style, 9, 9, 9, 9, 9))[0]
    thing = _thing(rng, name, shares.coloured, 0 if style else shares.textured, rng.choice(("small", "large")) if view == "size" else "")
    fields = {"things": (thing,), "style": style}
    if view == "corner":
        fields["corner"] = rng.choice(CORNERS)
    elif view == "camera":
        fields["camera"] = rng.choice(CAMERAS)
    if thing.size != "large" and view != "corner" and fields.get("camera") != "close-up":
        fields["shift"] = (_shift(rng), 0)
    if not style and not thing.texture and rng.random() < 0.22:
        fields["light"] = rng.choice(LIGHTS)
    return fields


def sample(rng, kind=None, shares=ASKED):
    """A random scene of the whole grammar."""
    kind = kind or rng.choices(KINDS, shares.kinds)[0]
    name, fields = rng.choice(OBJECTS), {}
    if kind == "one":
        fields = _one(rng, name, shares)
    elif kind == "count":
        fields = {"count": rng.choice(COUNTS), "things": (_thing(rng, name, shares.coloured, shares.several_textured),)}
    elif kind == "relation":
        other = rng.choice([candidate for candidate in OBJECTS if candidate != name])
        fields = {"things": tuple(_thing(rng, each, shares.coloured, shares.several_textured) for each in (name, other)), "relation": rng.choice(RELATIONS)}
        fields["shift"] = (0, _shift(rng)) if fields["relation"] in ("left", "right") else (_shift(rng), 0)
    elif kind == "panels":
        fields = {"things": (_thing(rng, name, 0.3),), "panel": rng.choice(STYLES[1:])}
    else:
        fields = {"things": (Thing(rng.choice(MADE)),), "material": rng.choice(MATERIALS), "shift": (_shift(rng), 0)}
        fields["style"] = rng.choices(("", "sticker", "pixel art"), (84, 8, 8))[0]
    if fields.get("style") not in OWN_BACKGROUND and kind != "panels":
        draw = rng.random()
        if fields.get("light") == "at night":
            fields["background"] = rng.choice(DAYLIGHT) if draw < 0.6 else ""
        elif draw < 0.28:
            fields["background"] = "plain:" + rng.choice(tuple(PLAIN))
        elif draw < 0.52:
            fields["background"] = rng.choice(tuple(PLACES))
    return Scene(kind=kind, soft=rng.randrange(4), **fields)


def sample_train(rng, shares=ASKED):
    """A random scene that may be trained on."""
    while held_out(scene := sample(rng, shares=shares)):
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
