"""Scenes that differ from a given one in a single attribute: the judge's choices and the ranker's hard negatives."""
from dataclasses import replace

from .backgrounds import PLACES, PLAIN
from .grammar import CAMERAS, CORNERS, COUNTS, LIGHTS, MADE, MATERIALS, RELATIONS, SIZES, STYLES, with_thing
from .sprites import COLORS, OBJECTS, TEXTURES


def alternatives(scene):
    """For each attribute that the caption names, the scenes that differ in it."""
    choices, names = {}, MADE if scene.kind == "composite" else OBJECTS
    for i, thing in enumerate(scene.things):
        mark = "2" if i else ""
        taken = {other.name for other in scene.things} | {scene.material}
        choices["object" + mark] = [with_thing(scene, i, name=name) for name in names if name not in taken]
        if thing.color:
            choices["color" + mark] = [with_thing(scene, i, color=color) for color in COLORS if color != thing.color]
        if thing.texture:
            choices["texture" + mark] = [with_thing(scene, i, texture=texture) for texture in ("", *TEXTURES) if texture != thing.texture]
    for attribute, options in (
            ("material", MATERIALS), ("relation", RELATIONS), ("count", COUNTS), ("corner", CORNERS), ("style", STYLES),
            ("light", ("", *LIGHTS)), ("panel", STYLES)):
        value = getattr(scene, attribute)
        if value:
            choices[attribute] = [replace(scene, **{attribute: option}) for option in options if option != value]
    if scene.background:
        options = [*("plain:" + color for color in PLAIN), *PLACES]
        choices["background"] = [replace(scene, background=option) for option in options if option != scene.background]
    if scene.kind == "one" and not scene.corner:
        views = [(size, "") for size in SIZES] + [("", camera) for camera in CAMERAS if not scene.style]
        own = (scene.things[0].size, scene.camera)
        choices["view"] = [replace(with_thing(scene, 0, size=size), camera=camera) for size, camera in views if (size, camera) != own]
    return choices
