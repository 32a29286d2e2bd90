"""Drawing scenes."""
import numpy as np
from PIL import Image

from .backgrounds import background, moonlit
from .canvas import CANVAS
from .grammar import OWN_BACKGROUND
from .sprites import sprite

# Of the things of a scene, the columns and rows: −1 near, 0 in the middle, 1 far.
RELATED = {"left": ((-1, 0), (1, 0)), "right": ((1, 0), (-1, 0)), "above": ((0, -1), (0, 1)), "below": ((0, 1), (0, -1))}
COUNTED = {
    2: ((-1, 0), (1, 0)), 3: ((0, -1), (-1, 1), (1, 1)), 4: ((-1, -1), (1, -1), (-1, 1), (1, 1)),
    5: ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1))}
IN_CORNER = {"top left": (-1, -1), "top right": (1, -1), "bottom left": (-1, 1), "bottom right": (1, 1)}


def placements(scene):
    """Every sprite of the scene: (thing, style, size, column, row), the last two as in `RELATED`."""
    layout, thing, style = CANVAS.layout, scene.things[0], scene.style
    if scene.kind == "count":
        return [(thing, style, layout.part, *place) for place in COUNTED[scene.count]]
    if scene.kind == "relation":
        return [(thing, style, layout.part, *place) for thing, place in zip(scene.things, RELATED[scene.relation])]
    if scene.kind == "panels":
        return [(thing, "", layout.part, 0, -1), (thing, scene.panel, layout.part, 0, 1)]
    if scene.corner:
        return [(thing, style, layout.part, *IN_CORNER[scene.corner])]
    return [(thing, style, layout.cameras.get(scene.camera) or layout.sizes[thing.size], 0, 0)]


def corner(place, shift, size):
    """Where a sprite begins, on whole tokens: a length of the layout."""
    layout = CANVAS.layout
    centre = (layout.near, layout.middle, layout.far)[place + 1] + shift * layout.step
    return (centre - size // 2) // 8 * 8


def _ground(scene):
    """What lies behind the sprites."""
    soft, side = f"soft{scene.soft}", CANVAS.side
    if scene.kind != "panels":
        return background(scene.background or OWN_BACKGROUND.get(scene.style, soft), side, side).copy()
    image = background(soft, side, side).copy()
    image.paste(background(soft, side, side // 2), (0, 0))
    image.paste(background(OWN_BACKGROUND.get(scene.panel, soft), side, side // 2), (0, side // 2))
    return image


def render(scene):
    """The picture of a scene, as large as the canvas."""
    image, px = _ground(scene), CANVAS.px
    light = scene.light if scene.light != "at night" else ""
    for thing, style, size, column, row in placements(scene):
        picture = sprite(thing.name, thing.color, style, px(size), scene.material, thing.texture, light, scene.camera == "from above")
        left, top = (px(corner(place, shift, size)) for place, shift in zip((column, row), scene.shift))
        top += (px(size) - picture.height) // 2
        if left < 0 or top < 0:
            picture = picture.crop((max(0, -left), max(0, -top), picture.width, picture.height))
        image.alpha_composite(picture, (max(0, left), max(0, top)))
    image = image.convert("RGB")
    return moonlit(image) if scene.light == "at night" else image


def pixels(scenes):
    """Pictures of many scenes as one uint8 array [n, side, side, 3]."""
    return np.stack([np.asarray(render(scene)) for scene in scenes])
