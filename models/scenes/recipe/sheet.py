"""A contact sheet of samples with their captions: sheet.png."""
import os
import textwrap

from PIL import Image, ImageDraw

from . import clip
from .canvas import CANVAS
from .sweep import Sampler

CAPTIONS = (
    "a red car on the beach", "two green frogs", "a cat on the grass", "a blue house to the left of a red apple",
    "a yellow star above a green circle", "three bananas on a blue background", "an armchair in the shape of an avocado",
    "an armchair shaped like a strawberry", "a teapot in the shape of a pumpkin", "a sketch of a fox", "a neon sign of a guitar",
    "the silhouette of a tree at sunset", "pixel art of a robot", "a penguin in the snow", "a rocket in outer space", "a fish under water",
    "a huge pizza on a red background", "a purple elephant at the beach", "a small owl", "a donut sticker", "a frog at the top left",
    "five strawberries", "a unicorn to the right of a castle", "a vase in the shape of a bee", "a green heart in the desert",
    "a dog and a cat", "a pink umbrella under a yellow balloon", "a clock", "a ghost in the city at night", "four purple mushrooms",
    "a panda robot", "a big red heart")


def write_sheet(images, captions, columns, path):
    """Pictures in rows, each with its caption below."""
    side = CANVAS.side
    rows, height = -(-len(images) // columns), side + 32
    sheet = Image.new("RGB", (columns * (side + 6), rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (image, words) in enumerate(zip(images, captions)):
        x, y = i % columns * (side + 6) + 3, i // columns * height
        sheet.paste(Image.fromarray(image), (x, y))
        draw.multiline_text((x, y + side + 1), "\n".join(textwrap.wrap(words, 22)[:3]), fill="black", font_size=10, spacing=0)
    sheet.save(path)


def sheet(config, work):
    """The first sample of each caption, and beside it the one of eight that CLIP puts first."""
    sampler, size = Sampler(config, work), config["clip"]["image_size"]
    ranker, text = clip.load(config, work)
    images, captions = [], []
    for words in CAPTIONS:
        candidates, _ = sampler([words] * 8)
        best = clip.scores(ranker, text, candidates, [words], size)[:, 0].argmax()
        images += [candidates[0], candidates[best]]
        captions += [words, "(best of 8)"]
    write_sheet(images, captions, 12, os.path.join(work, "sheet.png"))
