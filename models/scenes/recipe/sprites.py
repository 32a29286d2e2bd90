"""Sprites: one square RGBA picture for an object in a colour, a style and a size.

Most objects are glyphs of Noto Color Emoji; the geometric shapes, the armchair and the vase are drawn here. All functions
are deterministic and cached, so that a scene costs little more than pasting.
"""
import functools
import math
import os

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from .canvas import CANVAS

FONT = os.environ.get("EASEL_EMOJI_FONT", "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
SIDE = 128

EMOJI = {
    "cat": "🐱", "dog": "🐶", "fox": "🦊", "panda": "🐼", "frog": "🐸", "pig": "🐷", "owl": "🦉", "penguin": "🐧",
    "turtle": "🐢", "butterfly": "🦋", "bee": "🐝", "fish": "🐠", "whale": "🐳", "unicorn": "🦄", "elephant": "🐘",
    "tree": "🌳", "cactus": "🌵", "mushroom": "🍄", "sunflower": "🌻", "apple": "🍎", "lemon": "🍋", "banana": "🍌",
    "watermelon": "🍉", "strawberry": "🍓", "pineapple": "🍍", "avocado": "🥑", "pumpkin": "🎃", "donut": "🍩", "pizza": "🍕",
    "car": "🚗", "bus": "🚌", "boat": "⛵", "rocket": "🚀", "balloon": "🎈", "umbrella": "☂", "house": "🏠", "castle": "🏰",
    "clock": "⏰", "guitar": "🎸", "teapot": "🫖", "crown": "👑", "robot": "🤖", "ghost": "👻",
}
SHAPES = ("circle", "square", "triangle", "star", "heart")
OWN = ("armchair", "vase")
OBJECTS = (*EMOJI, *SHAPES, *OWN)
COLORS = {
    "red": (220, 38, 38), "orange": (245, 130, 32), "yellow": (250, 204, 21), "green": (34, 160, 70), "blue": (37, 99, 235),
    "purple": (140, 60, 220), "pink": (244, 114, 182), "brown": (139, 86, 48), "gray": (128, 134, 145),
}
TEXTURES = ("striped", "dotted", "checkered")
# What the sampler practises on, and what no caption of the grammar asks for: see practice.py.
MORE_COLORS = {
    "teal": (16, 140, 140), "navy": (32, 44, 120), "lime": (150, 215, 40), "maroon": (128, 24, 54), "gold": (205, 165, 40),
    "cyan": (60, 205, 235), "beige": (220, 200, 165), "magenta": (200, 40, 160)}
MORE_TEXTURES = ("banded", "halved", "capped", "ringed", "slanted", "broad-striped", "odd-striped", "odd-checkered")
MORE_STYLES = ("blueprint", "chalk drawing", "stencil", "outline", "mosaic", "negative", "badge", "stamp")
SHADES = {**COLORS, **MORE_COLORS}
NEON = {
    "": (0, 255, 225), "red": (255, 60, 70), "orange": (255, 150, 40), "yellow": (255, 240, 70), "green": (70, 255, 110),
    "blue": (70, 140, 255), "purple": (190, 90, 255), "pink": (255, 100, 200), "brown": (215, 150, 90), "gray": (200, 210, 220),
    **{name: tuple(60 + channel * 195 // max(color) for channel in color) for name, color in MORE_COLORS.items()},
}


def _shape(name, n=256):
    """A geometric shape with a soft vertical shading, so that it does not look flat."""
    image = Image.new("RGBA", (n, n), (0, 0, 0, 0))
    draw, fill = ImageDraw.Draw(image), (200, 200, 205, 255)
    margin, centre = n * 0.04, n / 2
    radius = centre - margin
    if name == "circle":
        draw.ellipse((margin, margin, n - margin, n - margin), fill=fill)
    elif name == "square":
        draw.rounded_rectangle((2 * margin, 2 * margin, n - 2 * margin, n - 2 * margin), n * 0.06, fill=fill)
    elif name == "triangle":
        draw.polygon([(centre, margin), (n - margin, n - 2 * margin), (margin, n - 2 * margin)], fill=fill)
    elif name == "star":
        points = []
        for i in range(10):
            r, angle = radius * (1 if i % 2 == 0 else 0.45), math.radians(36 * i - 90)
            points.append((centre + r * math.cos(angle), centre + r * math.sin(angle) + n * 0.03))
        draw.polygon(points, fill=fill)
    elif name == "heart":
        points = []
        for i in range(120):
            t = 2 * math.pi * i / 120
            x, y = 16 * math.sin(t) ** 3, 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
            points.append((centre + x * radius / 17, centre - (y + 2.5) * radius / 17))
        draw.polygon(points, fill=fill)
    pixels = np.asarray(image).astype(np.float32)
    pixels[..., :3] = np.clip(pixels[..., :3] * np.linspace(1.12, 0.82, n)[:, None, None], 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def _own(name, n=256):
    """The two objects that the emoji font lacks."""
    image = Image.new("RGBA", (n, n), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    if name == "armchair":
        leg, body, dark, light = (96, 60, 36, 255), (196, 164, 132, 255), (160, 128, 98, 255), (222, 196, 168, 255)
        for x in (48, 190):
            draw.polygon([(x, 216), (x + 20, 216), (x + 14, 250), (x + 6, 250)], fill=leg)
        draw.rounded_rectangle((52, 12, 204, 180), 44, fill=body)
        draw.rounded_rectangle((72, 32, 184, 170), 30, fill=light)
        draw.rounded_rectangle((40, 150, 216, 224), 18, fill=body)
        draw.rounded_rectangle((60, 132, 196, 176), 16, fill=light)
        draw.rounded_rectangle((14, 100, 66, 224), 24, fill=dark)
        draw.rounded_rectangle((190, 100, 242, 224), 24, fill=dark)
    else:
        outline = [(96, 20), (160, 20), (150, 70), (196, 130), (186, 200), (160, 240), (96, 240), (70, 200), (60, 130), (106, 70)]
        draw.polygon(outline, fill=(190, 190, 198, 255))
        draw.ellipse((92, 10, 164, 34), fill=(150, 150, 160, 255))
        draw.polygon([(84, 120), (104, 100), (100, 210), (90, 190)], fill=(225, 225, 232, 255))
    return image


@functools.lru_cache(None)
def _font():
    return ImageFont.truetype(FONT, 109)


@functools.lru_cache(None)
def base(name):
    """The object in its own colours, fitted to a 128 px square."""
    if name in EMOJI:
        image = Image.new("RGBA", (136, 128), (0, 0, 0, 0))
        ImageDraw.Draw(image).text((0, 0), EMOJI[name], font=_font(), embedded_color=True)
    else:
        image = _shape(name) if name in SHAPES else _own(name)
    image = image.crop(image.getbbox())
    scale = 124 / max(image.size)
    image = image.resize(tuple(max(1, round(side * scale)) for side in image.size), Image.LANCZOS)
    square = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return square


def _ramp(rgb):
    """256 shades of a colour, from a dark to a pale one."""
    colour, t = np.array(rgb, np.float32), np.linspace(0, 1, 256)[:, None]
    dark = colour * 0.28
    shades = np.where(t < 0.62, dark + (colour - dark) * (t / 0.62), colour + (255 - colour) * ((t - 0.62) / 0.38) * 0.85)
    return shades.clip(0, 255).astype(np.uint8)


RAMPS = {name: _ramp(rgb) for name, rgb in SHADES.items()}


def _luminance(image):
    """Luminance stretched to 0 … 1 over the object, and its alpha."""
    pixels = np.asarray(image).astype(np.float32)
    light = pixels[..., 0] * 0.35 + pixels[..., 1] * 0.5 + pixels[..., 2] * 0.15
    low, high = np.percentile(light[pixels[..., 3] > 40], [4, 96])
    if high - low < 30:
        low, high = low - 70, high + 50
    return ((light - low) / (high - low)).clip(0, 1), pixels[..., 3].astype(np.uint8)


@functools.lru_cache(None)
def tint(name, color):
    """The object repainted in shades of one colour."""
    light, alpha = _luminance(base(name))
    return Image.fromarray(np.dstack([RAMPS[color][((0.12 + 0.80 * light) * 255).astype(np.uint8)], alpha]))


def _nearest(covered):
    """For every pixel, the row and the column of the nearest covered one."""
    rows, columns = (np.arange(side, dtype=np.int32) for side in covered.shape)
    along = np.where(covered[None], np.abs(rows[:, None] - rows)[:, :, None], 2 * SIDE)
    across = np.square(along.min(1))[:, None] + np.square(columns[:, None] - columns)
    column = across.argmin(2)
    return along.argmin(1)[rows[:, None], column], column


@functools.lru_cache(None)
def _skin(material):
    """The colours of an object, which go on to the edges of a rectangle around it: uint8 [height, width, 3]."""
    image = base(material)
    pixels = np.asarray(image.crop(image.getbbox()))
    return pixels[_nearest(pixels[..., 3] > 128)][..., :3]


@functools.lru_cache(None)
def composite(name, material):
    """`name` in the shape of `material`: the silhouette and shading of one, the colours of the other stretched over it."""
    shape, pixels = base(name), _skin(material)
    left, top, right, bottom = shape.getbbox()
    painted = Image.new("RGB", (SIDE, SIDE))
    painted.paste(Image.fromarray(pixels).resize((right - left, bottom - top), Image.BILINEAR), (left, top))
    light, alpha = _luminance(shape)
    shaded = np.asarray(painted).astype(np.float32) * (0.62 + 0.5 * light[..., None])
    return Image.fromarray(np.dstack([shaded.clip(0, 255).astype(np.uint8), alpha]))


@functools.lru_cache(None)
def _pattern(texture):
    """Where a texture covers a 128 px square: 0 … 1."""
    y, x = np.mgrid[:SIDE, :SIDE]
    band = SIDE / CANVAS.layout.bands
    if texture == "dotted":
        odd = y // (2 * band) % 2 * band
        distance = np.hypot((x + odd) % (2 * band) - band, y % (2 * band) - band)
        return (0.68 * band - distance).clip(0, 1).astype(np.float32)
    column, row, middle = x // band, y // band, SIDE // 2
    covered = {
        "striped": column % 2, "checkered": (column + row) % 2, "banded": row % 2, "halved": x < middle, "capped": y < middle,
        "ringed": np.maximum(abs(x - middle), abs(y - middle)) // band % 2, "slanted": (x + y) // (2 * band) % 2,
        "broad-striped": column // 2 % 2, "odd-striped": (column + 1) % 2, "odd-checkered": (column + row + 1) % 2}
    return covered[texture].astype(np.float32)


@functools.lru_cache(1024)
def textured(name, color, texture):
    """The object with a texture on it: white on dark objects, dark blue on pale ones."""
    pixels = np.asarray(tint(name, color) if color else base(name)).astype(np.float32)
    pale = pixels[..., :3][pixels[..., 3] > 128].mean() > 165
    cover = _pattern(texture)[..., None] * (0.75 if pale else 0.85)
    pixels[..., :3] = pixels[..., :3] * (1 - cover) + np.array((40, 52, 110) if pale else (252, 250, 244)) * cover
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _lit(image, light):
    """Bright where the light comes from, dark on the other side."""
    pixels = np.asarray(image).astype(np.float32)
    ramp = np.linspace(1.35, 0.25, image.width)
    ramp = ramp if light == "lit from the left" else ramp[::-1]
    pixels[..., :3] = (pixels[..., :3] * ramp[None, :, None] + (ramp[None, :, None] > 1) * 22).clip(0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def _from_above(image):
    """Foreshortened, wider at the top, with a shadow below: 3/5 of the height."""
    side, height = image.width, image.width * 3 // 5
    inset = side * 0.18
    # The inverse of the map that sends the square to a trapezoid: Pillow asks where each target pixel comes from.
    sources, targets = ((0, 0), (side, 0), (side, side), (0, side)), ((0, 0), (side, 0), (side - inset, height), (inset, height))
    rows = []
    for (x, y), (u, v) in zip(targets, sources):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    map_ = np.linalg.solve(np.array(rows, float), np.array([each for pair in sources for each in pair], float))
    seen = image.transform((side, height), Image.Transform.PERSPECTIVE, map_.tolist(), Image.BICUBIC)
    shadow = Image.new("RGBA", (side, height))
    shadow.paste(_flat((20, 20, 40), (np.asarray(seen)[..., 3] * 0.4).astype(np.uint8)), (side // 20, side // 16))
    shadow.alpha_composite(seen)
    return shadow


def _edges(image):
    """Strength (0 … 1) of the lines of a drawing."""
    pixels = np.asarray(image).astype(np.float32)
    alpha = pixels[..., 3] / 255
    gray = (pixels[..., 0] * 0.3 + pixels[..., 1] * 0.59 + pixels[..., 2] * 0.11) * alpha + 255 * (1 - alpha)
    gray = np.asarray(Image.fromarray(gray.astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.0))).astype(np.float32)

    def gradient(plane):
        dx, dy = np.zeros_like(plane), np.zeros_like(plane)
        dx[:, 1:-1] = plane[:, 2:] - plane[:, :-2]
        dy[1:-1] = plane[2:] - plane[:-2]
        return np.hypot(dx, dy)

    return (np.maximum(gradient(gray) * 1.6, gradient(alpha * 255) * 0.9) / 150).clip(0, 1)


def _flat(color, alpha):
    return Image.fromarray(np.dstack([*(np.full_like(alpha, channel) for channel in color), alpha]))


def _sketch(image, color):
    ink = tuple(int(channel * 0.8) for channel in SHADES[color]) if color else (52, 52, 60)
    return _lines(image, ink, 0.3 if color else 0.1)


def _lines(image, ink, wash):
    """The lines of a drawing, and inside of it a wash of the same ink."""
    lines = (_edges(image) * 255).astype(np.uint8)
    return _flat(ink, np.maximum(lines, (np.asarray(image)[..., 3] * wash).astype(np.uint8)))


def _neon(image, color):
    lines = Image.fromarray((_edges(image) * 255).astype(np.uint8))
    glow = np.asarray(lines.filter(ImageFilter.GaussianBlur(image.width / 24))).astype(np.float32) * 1.6
    core = np.asarray(lines).astype(np.float32)
    white = (core / 255 * 0.55)[..., None]
    pixels = np.dstack([np.array(NEON[color]) * (1 - white) + 255 * white, np.maximum(glow, core)])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _pixel_art(source, size, side=4):
    cells = max(8, size // side)
    pixels = np.asarray(source.resize((cells, cells), Image.BOX)).copy()
    pixels[..., 3] = np.where(pixels[..., 3] > 110, 255, 0)
    pixels[..., :3] = (pixels[..., :3] // 32) * 32 + 16
    return Image.fromarray(pixels).resize((size, size), Image.NEAREST)


def _sticker(source, size, rim_color=(255, 255, 255)):
    rim = max(2, size // 24)
    inner = Image.new("RGBA", (size, size))
    inner.paste(source.resize((size - 2 * rim - 2, size - 2 * rim - 2), Image.LANCZOS), (rim + 1, rim + 1))
    sticker = Image.new("RGBA", (size, size), (*rim_color, 255))
    sticker.putalpha(inner.getchannel("A").filter(ImageFilter.MaxFilter(2 * rim + 1)).filter(ImageFilter.GaussianBlur(0.6)))
    sticker.alpha_composite(inner)
    return sticker


def _practised(source, style, color, size):
    """A sprite in one of `MORE_STYLES`."""
    if style == "mosaic":
        return _pixel_art(source, size, 8)
    if style == "badge":
        return _sticker(source, size, COLORS["yellow"])
    image = source.resize((size, size), Image.LANCZOS)
    pixels = np.asarray(image)
    if style == "blueprint":
        return _lines(image, SHADES.get(color, (235, 242, 255)), 0.12)
    if style == "chalk drawing":
        return _lines(image, tuple((2 * channel + 255) // 3 for channel in SHADES.get(color, (240, 240, 230))), 0.3)
    if style == "stencil":
        return _flat(SHADES.get(color, (246, 246, 240)), pixels[..., 3])
    if style == "negative":
        return Image.fromarray(np.dstack([255 - pixels[..., :3], pixels[..., 3]]))
    if style == "stamp":  # two tones, as printed with a block
        light, alpha = _luminance(image)
        return _flat(SHADES.get(color, (60, 30, 30)), np.where(light < 0.5, alpha, alpha // 5).astype(np.uint8))
    rim = max(3, size // 20) // 2 * 2 + 1
    outer, inner = (image.getchannel("A").filter(kind(rim)) for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter))
    return _flat(SHADES.get(color, (30, 30, 40)), np.asarray(outer) - np.asarray(inner))


@functools.lru_cache(6144)
def sprite(name, color, style, size, material="", texture="", light="", above=False):
    """The picture of one object, `size` pixels wide and, but from above, as high."""
    source = composite(name, material) if material else tint(name, color) if color else base(name)
    if texture:
        source = textured(name, color, texture)
    if style == "pixel art":
        return _pixel_art(source, size)
    if style == "sticker":
        return _sticker(source, size)
    if style in MORE_STYLES:
        return _practised(source, style, color, size)
    image = source.resize((size, size), Image.LANCZOS)
    if style == "silhouette":
        return _flat(SHADES[color] if color else (22, 20, 28), np.asarray(image)[..., 3])
    if style == "sketch":
        return _sketch(image, color)
    if style == "neon sign":
        return _neon(image, color)
    image = _lit(image, light) if light else image
    return _from_above(image) if above else image
