"""Drawing scenes."""
import numpy as np
from PIL import Image

from .backgrounds import background, moonlit
from .grammar import CAMERAS, CORNERS, COUNTS, OWN_BACKGROUND, PART, RELATIONS, SIZES
from .sprites import SIDE, sprite


def placements(scene):
    """Every sprite of the scene: (thing, style, size, centre x, centre y) in a picture of 128 × 128."""
    dx, dy = scene.shift
    thing, style, middle = scene.things[0], scene.style, SIDE // 2
    if scene.kind == "count":
        return [(thing, style, PART, x, y) for x, y in COUNTS[scene.count]]
    if scene.kind == "relation":
        return [(thing, style, PART, x + dx, y + dy) for thing, (x, y) in zip(scene.things, RELATIONS[scene.relation])]
    if scene.kind == "panels":
        return [(thing, "", PART, middle, 32), (thing, scene.panel, PART, middle, 96)]
    if scene.corner:
        column, row = CORNERS[scene.corner]
        return [(thing, style, PART, 32 + 64 * column, 32 + 64 * row)]
    return [(thing, style, CAMERAS.get(scene.camera) or SIZES[thing.size], middle + dx, middle + dy)]


def _ground(scene):
    """What lies behind the sprites, 128 pixels square."""
    soft = f"soft{scene.soft}"
    if scene.kind != "panels":
        return background(scene.background or OWN_BACKGROUND.get(scene.style, soft)).copy()
    image = background(soft).resize((SIDE, SIDE // 2)).crop((0, 0, SIDE, SIDE))
    image.paste(background(OWN_BACKGROUND.get(scene.panel, soft)).resize((SIDE, SIDE // 2)), (0, SIDE // 2))
    return image


def render(scene, scale=1):
    """The picture of a scene, 128 · `scale` pixels square."""
    image = _ground(scene)
    if scale != 1:
        image = image.resize((SIDE * scale, SIDE * scale), Image.BICUBIC)
    light = scene.light if scene.light != "at night" else ""
    for thing, style, size, x, y in placements(scene):
        picture = sprite(thing.name, thing.color, style, size * scale, scene.material, thing.texture, light, scene.camera == "from above")
        left, top = x * scale - picture.width // 2, y * scale - picture.height // 2
        if left < 0 or top < 0:
            picture = picture.crop((max(0, -left), max(0, -top), picture.width, picture.height))
        image.alpha_composite(picture, (max(0, left), max(0, top)))
    image = image.convert("RGB")
    return moonlit(image) if scene.light == "at night" else image


def pixels(scenes, scale=1):
    """Pictures of many scenes as one uint8 array [n, 128 · scale, 128 · scale, 3]."""
    return np.stack([np.asarray(render(scene, scale)) for scene in scenes])
