"""What the sampler also practises on: colours, textures, styles and composites that no caption of the grammar asks for.

Three textures and six styles can be learnt by heart for every object, and then an object in one that it was never shown in comes out wrong.
The more of them there are, the more what they do to an object must be learnt apart from it. Their words are not in words.txt: the sampler
has seen them less, and the ranker never.
"""
from dataclasses import replace

from .grammar import MADE, MATERIALS, OWN_BACKGROUND, held_out
from .sprites import COLORS, EMOJI, MORE_COLORS, MORE_STYLES, MORE_TEXTURES, OBJECTS, TEXTURES

# What looks much like something of the grammar: an object that was never to be seen in the one is not shown in the other either.
LOOK_ALIKES = {
    "teal": "green", "magenta": "purple", "odd-striped": "striped", "broad-striped": "striped", "slanted": "striped", "odd-checkered": "checkered",
    "stencil": "silhouette", "mosaic": "pixel art", "badge": "sticker", "chalk drawing": "sketch", "blueprint": "sketch"}
HIDES_TEXTURE = ("silhouette", "stencil", "outline")
MORE = {*MORE_COLORS, *MORE_TEXTURES, *MORE_STYLES}


def _named(scene, words):
    """The scene with each colour, texture and style named by what `words` has for it."""
    things = tuple(replace(thing, color=words(thing.color), texture=words(thing.texture)) for thing in scene.things)
    return replace(scene, things=things, style=words(scene.style), panel=words(scene.panel))


def has_look_alike(scene):
    """Whether one of its held-out combinations has a look-alike in practice: then the shipped sampler (0.10.0) may have seen that one."""
    return len(held_out(_named(scene, lambda word: "" if word in LOOK_ALIKES.values() else word))) < len(held_out(scene))


def _repainted(thing, rng, plain):
    """The thing in another colour or texture, oftener one of practice."""
    color, texture = thing.color, thing.texture
    if rng.random() < 0.5:
        color = rng.choice(tuple(MORE_COLORS if rng.random() < 0.7 else COLORS))
    if plain and rng.random() < 0.6:
        texture = rng.choice(MORE_TEXTURES if rng.random() < 0.7 else TEXTURES)
    return replace(thing, color=color, texture=texture)


def _changed(scene, rng):
    if scene.kind == "composite":
        name, material = rng.choice(OBJECTS), rng.choice(tuple(EMOJI))
        return replace(scene, things=(replace(scene.things[0], name=name),), material=material)
    plain, style = not scene.light and scene.kind != "panels", scene.style
    if scene.kind == "one" and plain and not scene.camera and rng.random() < 0.4:
        style = rng.choice(MORE_STYLES)
    things = tuple(_repainted(thing, rng, plain and style not in HIDES_TEXTURE) for thing in scene.things)
    things = tuple(replace(thing, texture="") for thing in things) if style in HIDES_TEXTURE else things
    panel = rng.choice(MORE_STYLES) if scene.panel and rng.random() < 0.6 else scene.panel
    return replace(scene, things=things, style=style, panel=panel, background="" if style in OWN_BACKGROUND else scene.background)


def _is_new(scene):
    """Whether the grammar never asks for it."""
    if scene.kind == "composite":
        name, material = scene.things[0].name, scene.material
        return name != material and not (name in MADE and material in MATERIALS)
    named = {scene.style, scene.panel, *(word for thing in scene.things for word in (thing.color, thing.texture))}
    return bool(named & MORE) or bool(scene.style and scene.things[0].texture)


def practised(scene, rng):
    """A scene like one that may be trained on, with something that the grammar never asks for; neither it nor what it looks like is held out."""
    while True:
        changed = _changed(scene, rng)
        if _is_new(changed) and not held_out(changed) and not held_out(_named(changed, lambda word: LOOK_ALIKES.get(word, word))):
            return changed
