"""Writes golden.txt beside itself: the SHA-256 of pictures resized and cropped by Pillow. Needs numpy and a pillow before 13.

Pillow 13 runs the vertical pass first where a picture loses much more height than width; the models of today were trained before that, and the order
of the passes shows in the last bit. A line is: kind width height target_width target_height sha256. `picture` is made again in ../preprocess.rs.
"""
import hashlib
import pathlib

import numpy as np
import PIL
from PIL import Image

assert int(PIL.__version__.split(".")[0]) < 13, "pip install 'pillow<13'"


def picture(kind, width, height):
    i = np.arange(width * height * 3, dtype=np.uint64)
    if kind == "ramp":
        x, y, c = i // 3 % width, i // 3 // width, i % 3
        return ((x * 7 + y * 13 + c * 50) & 255).astype(np.uint8)
    v = (i + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    v = (v ^ (v >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    v = (v >> np.uint64(56)).astype(np.uint8)
    return v if kind == "noise" else np.where(v < 128, 0, 255).astype(np.uint8)  # edges: the sums overshoot


def reference(pixels, width, height, target_width, target_height):
    image = Image.fromarray(pixels.reshape(height, width, 3))
    if width * target_height <= height * target_width:
        size = target_width, int(target_width * height / width)
    else:
        size = int(target_height * width / height), target_height
    image = image.resize(size, Image.Resampling.BICUBIC)
    left = int(round((image.width - target_width) / 2.0))
    top = int(round((image.height - target_height) / 2.0))
    return image.crop((left, top, left + target_width, top + target_height)).tobytes()


SOURCES = [
    (1, 1), (2, 1), (1, 2), (3, 3), (1, 37), (41, 1), (5, 4), (16, 16), (31, 33), (32, 32), (63, 64), (64, 64), (64, 65), (64, 67),
    (65, 64), (64, 200), (73, 100), (100, 73), (127, 129), (128, 128), (224, 224), (225, 224), (300, 417), (333, 111), (512, 512),
    (640, 479), (1, 1000), (1000, 2), (2048, 3), (3, 999),
]
TARGETS = [(64, 64), (128, 128), (224, 224), (7, 7), (1, 1), (48, 32), (33, 80)]


def main():
    lines = []
    for n, (width, height) in enumerate(SOURCES):
        for m, (target_width, target_height) in enumerate(TARGETS):
            kind = ("noise", "ramp", "edges")[(n + m) % 3]
            out = reference(picture(kind, width, height), width, height, target_width, target_height)
            digest = hashlib.sha256(out).hexdigest()
            lines.append(f"{kind} {width} {height} {target_width} {target_height} {digest}\n")
    pathlib.Path(__file__).with_name("golden.txt").write_text("".join(lines))


main()
