"""Scenes that differ from a given one in a single attribute: the judge's choices and the ranker's hard negatives."""
from dataclasses import replace

from .backgrounds import PLACES, PLAIN
from .scenes import CORNERS, COUNTS, MADE, MATERIALS, RELATIONS, SIZES, STYLES, with_thing
from .sprites import COLORS, OBJECTS


def alternatives(scene):
    """For each attribute that the caption names, the scenes that differ in it."""
    choices, names = {}, MADE if scene.kind == "composite" else OBJECTS
    for i, thing in enumerate(scene.things):
        mark = "2" if i else ""
        taken = {other.name for other in scene.things} | {scene.material}
        choices["object" + mark] = [with_thing(scene, i, name=name) for name in names if name not in taken]
        if thing.color:
            choices["color" + mark] = [with_thing(scene, i, color=color) for color in COLORS if color != thing.color]
    for attribute, options in (("material", MATERIALS), ("relation", RELATIONS), ("count", COUNTS), ("corner", CORNERS), ("style", STYLES)):
        value = getattr(scene, attribute)
        if value:
            choices[attribute] = [replace(scene, **{attribute: option}) for option in options if option != value]
    if scene.background:
        options = [*("plain:" + color for color in PLAIN), *PLACES]
        choices["background"] = [replace(scene, background=option) for option in options if option != scene.background]
    if scene.kind == "one" and not scene.corner:
        choices["size"] = [with_thing(scene, 0, size=size) for size in SIZES if size != scene.things[0].size]
    return choices
