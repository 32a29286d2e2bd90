"""Scenes that differ from a given one in a single attribute: the judge's choices and the ranker's hard negatives."""
from dataclasses import replace

from .backgrounds import PLACES, PLAIN
from .grammar import CAMERAS, CORNERS, COUNTS, LIGHTS, MADE, MATERIALS, RELATIONS, SIZES, STYLES, with_thing
from .sprites import COLORS, OBJECTS, TEXTURES


# How often an attribute is chosen beside the others: what the sampler does wrong oftener is learnt from oftener.
HARD = {"object": 3, "texture": 3, "material": 3, "style": 2, "panel": 2, "color": 1.5, "view": 1.5}


def alternatives(scene):
    """For each attribute that the caption names, the scenes that differ in it."""
    return {attribute: others() for attribute, others in _choices(scene).items()}


def some_alternatives(scene, rng, count):
    """At most `count` scenes that differ in a single attribute: as many of one attribute as there are, then of another, the hard ones rather first."""
    choices, chosen = _choices(scene), []
    # A weighted random order: Efraimidis and Spirakis 2006.
    for attribute in sorted(choices, key=lambda attribute: -rng.random() ** (1 / HARD.get(attribute.rstrip("2"), 1))):
        others = choices[attribute]()
        chosen += rng.sample(others, min(count - len(chosen), len(others)))
        if len(chosen) == count:
            break
    return chosen


def _choices(scene):
    """For each attribute that the caption names, what makes the scenes that differ in it."""
    choices, names = {}, MADE if scene.kind == "composite" else OBJECTS
    taken = {thing.name for thing in scene.things} | {scene.material}

    def of_thing(i, attribute, options):
        return lambda: [with_thing(scene, i, **{attribute: option}) for option in options if option != getattr(scene.things[i], attribute)]

    def of_scene(attribute, options):
        return lambda: [replace(scene, **{attribute: option}) for option in options if option != getattr(scene, attribute)]

    for i, thing in enumerate(scene.things):
        mark = "2" if i else ""
        choices["object" + mark] = of_thing(i, "name", [name for name in names if name not in taken])
        if thing.color:
            choices["color" + mark] = of_thing(i, "color", COLORS)
        if thing.texture:
            choices["texture" + mark] = of_thing(i, "texture", ("", *TEXTURES))
    for attribute, options in (
            ("material", MATERIALS), ("relation", RELATIONS), ("count", COUNTS), ("corner", CORNERS), ("style", STYLES),
            ("light", ("", *LIGHTS)), ("panel", STYLES), ("background", (*("plain:" + color for color in PLAIN), *PLACES))):
        if getattr(scene, attribute):
            choices[attribute] = of_scene(attribute, options)
    if scene.kind == "one" and not scene.corner:
        choices["view"] = lambda: _other_views(scene)
    return choices


def _other_views(scene):
    views = [(size, "") for size in SIZES] + [("", camera) for camera in CAMERAS if not scene.style]
    own = (scene.things[0].size, scene.camera)
    return [replace(with_thing(scene, 0, size=size), camera=camera) for size, camera in views if (size, camera) != own]
