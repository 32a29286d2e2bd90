"""What the sampler also practises on: colours, textures, styles and composites that no caption of the grammar asks for.

Three textures and six styles can be learnt by heart for every object, and then an object in one that it was never shown in comes out wrong.
The more of them there are, the more what they do to an object must be learnt apart from it. Their words are not in words.txt: the sampler
has seen them less, and the ranker never.
"""
from dataclasses import replace

from .grammar import OWN_BACKGROUND, held_out
from .sprites import COLORS, EMOJI, MORE_COLORS, MORE_STYLES, MORE_TEXTURES, OBJECTS, TEXTURES


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
    plain = not scene.light and scene.kind != "panels"
    scene = replace(scene, things=tuple(_repainted(thing, rng, plain) for thing in scene.things))
    if scene.kind == "panels":
        return replace(scene, panel=rng.choice(MORE_STYLES)) if rng.random() < 0.6 else scene
    if scene.kind == "one" and plain and not scene.camera and rng.random() < 0.4:
        style = rng.choice(MORE_STYLES)
        return replace(scene, style=style, background="" if style in OWN_BACKGROUND else scene.background)
    return scene


def practised(scene, rng):
    """A scene like one that may be trained on, with something of practice; it has no held-out combination either."""
    while True:
        changed = _changed(scene, rng)
        same = changed.kind == "composite" and changed.things[0].name == changed.material
        if changed != scene and not same and not held_out(changed):
            return changed
