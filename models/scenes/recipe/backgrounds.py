"""Backgrounds: plain colours, eight places, and the soft ones of scenes whose caption names none."""
import functools

import numpy as np
from PIL import Image, ImageDraw

from .sprites import SIDE

PLAIN = {
    "white": (250, 250, 250), "black": (24, 24, 30), "red": (200, 60, 60), "orange": (246, 160, 90), "yellow": (250, 225, 120),
    "green": (120, 190, 120), "blue": (110, 165, 235), "purple": (165, 130, 220), "pink": (248, 190, 214),
}
SOFT = {
    "soft0": ((236, 243, 252), (214, 228, 245)), "soft1": ((254, 244, 232), (250, 228, 206)),
    "soft2": ((238, 248, 238), (216, 236, 218)), "soft3": ((248, 238, 250), (232, 216, 240)),
    "paper": ((250, 246, 234), (244, 238, 222)), "dark": ((16, 14, 34), (34, 18, 48)),
    "blue paper": ((34, 74, 160), (26, 58, 132)), "board": ((40, 74, 60), (30, 56, 48)), "wall": ((96, 100, 110), (70, 74, 84)),
}
# The sky and ground of each place: (height, colour) stops from the top to the bottom.
PLACES = {
    "at the beach": [
        (0, (120, 200, 250)), (0.5, (200, 236, 255)), (0.501, (40, 150, 200)), (0.68, (90, 200, 220)), (0.70, (250, 240, 210)),
        (0.72, (244, 216, 160)), (1, (230, 190, 126))],
    "in space": [(0, (10, 10, 36)), (1, (44, 20, 72))],
    "on the grass": [(0, (130, 200, 250)), (0.62, (214, 240, 255)), (0.621, (120, 200, 90)), (1, (60, 140, 60))],
    "in the snow": [(0, (150, 180, 215)), (0.64, (214, 228, 242)), (0.641, (250, 252, 255)), (1, (222, 232, 244))],
    "at sunset": [(0, (70, 40, 110)), (0.35, (220, 90, 100)), (0.62, (255, 190, 100)), (0.63, (90, 50, 80)), (1, (40, 24, 50))],
    "under the sea": [(0, (60, 180, 220)), (0.8, (14, 70, 140)), (0.82, (190, 170, 120)), (1, (150, 130, 90))],
    "in the desert": [(0, (250, 200, 120)), (0.6, (255, 232, 180)), (0.601, (226, 170, 96)), (1, (200, 140, 70))],
    "in the city at night": [(0, (14, 18, 48)), (0.78, (50, 50, 96)), (0.781, (44, 46, 56)), (1, (28, 30, 38))],
}


def _gradient(stops):
    heights, rows = [height for height, _ in stops], np.linspace(0, 1, SIDE)
    channels = [np.interp(rows, heights, [color[k] for _, color in stops]) for k in range(3)]
    pixels = np.repeat(np.stack(channels, 1)[:, None, :], SIDE, 1)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _stars(draw, random):
    for _ in range(46):
        draw.point(tuple(random.randint(0, SIDE, 2).tolist()), fill=(255, 255, 255))
    draw.ellipse((96, 8, 120, 32), fill=(214, 140, 90))
    draw.ellipse((90, 16, 126, 24), outline=(240, 210, 160))


def _clouds(draw, random):
    for x, y, width in ((14, 14, 26), (84, 24, 30)):
        draw.ellipse((x, y, x + width, y + 10), fill=(255, 255, 255))
        draw.ellipse((x + 6, y - 5, x + width - 7, y + 7), fill=(255, 255, 255))


def _snowflakes(draw, random):
    for _ in range(34):
        x, y = random.randint(0, SIDE, 2).tolist()
        draw.ellipse((x, y, x + 2, y + 2), fill=(255, 255, 255))


def _sun(draw, random):
    draw.pieslice((46, 62, 82, 98), 180, 360, fill=(255, 238, 180))


def _sea(draw, random):
    for _ in range(12):
        x, y = random.randint(4, SIDE - 6, 2).tolist()
        size = int(random.randint(2, 5))
        draw.ellipse((x, y * 0.75, x + size, y * 0.75 + size), outline=(190, 235, 250))
    for x in (12, 110):
        draw.line([(x, 110), (x + 3, 96), (x - 2, 84), (x + 2, 72)], fill=(40, 140, 80), width=4)


def _pyramid(draw, random):
    draw.polygon([(70, 78), (96, 44), (122, 78)], fill=(210, 150, 84))
    draw.polygon([(96, 44), (122, 78), (104, 78)], fill=(180, 122, 66))
    draw.ellipse((12, 12, 32, 32), fill=(255, 246, 200))


def _skyline(draw, random):
    x = 0
    for width, height in ((24, 56), (16, 40), (24, 72), (16, 48), (24, 64), (24, 40)):
        draw.rectangle((x, 104 - height, x + width - 2, 104), fill=(26, 28, 56))
        for top in range(104 - height, 96, 8):
            for left in range(x, x + width, 8):
                if random.rand() < 0.6:
                    draw.rectangle((left + 1, top + 2, left + 4, top + 5), fill=(250, 214, 110))
        x += width


DETAILS = {
    "in space": _stars, "on the grass": _clouds, "in the snow": _snowflakes, "at sunset": _sun, "under the sea": _sea,
    "in the desert": _pyramid, "in the city at night": _skyline,
}


@functools.lru_cache(None)
def background(kind, width=SIDE, height=SIDE):
    """A place, a plain colour ("plain:red") or a soft gradient, as an RGBA picture."""
    if (width, height) != (SIDE, SIDE):
        return background(kind).resize((width, height), Image.BICUBIC)
    if kind in PLACES:
        image = _gradient(PLACES[kind])
        if kind in DETAILS:
            DETAILS[kind](ImageDraw.Draw(image), np.random.RandomState(7))
    elif kind in SOFT:
        image = _gradient([(0, SOFT[kind][0]), (1, SOFT[kind][1])])
    else:
        color = np.array(PLAIN[kind.removeprefix("plain:")], np.float32)
        image = _gradient([(0, tuple(np.minimum(255, color * 1.04))), (1, tuple(color * 0.94))])
    return image.convert("RGBA")


@functools.lru_cache(None)
def _moon(side):
    """The moon and a few stars, to be laid over a night."""
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw, unit = ImageDraw.Draw(image), side / SIDE
    draw.ellipse([each * unit for each in (8, 8, 22, 22)], fill=(250, 246, 214, 255))
    for x, y in ((36, 8), (60, 4), (84, 10), (108, 6), (120, 20), (4, 34), (124, 44)):
        draw.ellipse([each * unit for each in (x, y, x + 1.4, y + 1.4)], fill=(255, 255, 240, 255))
    return image


def moonlit(image):
    """An RGB picture as it looks at night: dark, blue, and with the moon in its corner."""
    pixels = np.asarray(image).astype(np.float32) * np.array((0.36, 0.42, 0.66), np.float32) + np.array((2, 4, 18), np.float32)
    night = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    moon = _moon(image.width)
    night.paste(moon, (0, 0), moon)
    return night
