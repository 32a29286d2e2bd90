"""Plots and contact sheets, small enough to be committed."""
import textwrap

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from .measures import RANKINGS

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  the backend comes first

SIDE, GAP, LINE, INK, FAINT = 128, 6, 12, (40, 40, 40), (120, 120, 120)
COLOURS = {"clip": "#1f5fd0", "likelihood": "#999999", "gain": "#d08020", "both": "#208050", "nearness": "#c060a0", "oracle": "#bbbbbb"}


def curve(path, table, captions):
    """All right over N, one line for each ranking: table[name] = {N: interval}."""
    figure, axes = pyplot.subplots(figsize=(7, 4.2), dpi=110)
    for name, points in table.items():
        many = sorted(points)
        means = [100 * points[n]["mean"] for n in many]
        axes.plot(many, means, "o--" if name in ("nearness", "oracle") else "o-", label=RANKINGS[name], color=COLOURS[name], markersize=4)
        if name == "clip":
            low, high = ([100 * points[n][end] for n in many] for end in ("low", "high"))
            axes.fill_between(many, low, high, color=COLOURS[name], alpha=0.12, label="95 % of it")
    axes.set_xscale("log", base=2)
    axes.set_xticks(many, [str(n) for n in many])
    axes.axvline(32, color="#cc4444", linewidth=1, linestyle=":")
    note = "Ramesh et al. 2021, figure 9c:\nreturns diminish after 32"
    axes.text(0.94, 0.02, note, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color="#cc4444")
    axes.set_xlabel("candidates drawn, N")
    axes.set_ylabel("all attributes right, %")
    axes.set_title(f"The best of N, {captions} captions of unseen combinations", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="upper left")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def confusion(path, names, counts):
    """Rows are what was drawn, columns what CLIP saw first."""
    figure, axes = pyplot.subplots(figsize=(9, 9), dpi=90)
    axes.imshow(np.array(counts) / np.maximum(1, np.sum(counts, 1, keepdims=True)), cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.set_xlabel("CLIP's first label")
    axes.set_ylabel("object in the picture")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def strip(path):
    """The pictures of a row of squares."""
    row = np.asarray(Image.open(path).convert("RGB"))
    return np.split(row, row.shape[1] // row.shape[0], 1)


def half_hidden(image):
    """What is given of a picture: its lower half is gray."""
    given = np.array(image)
    given[len(given) // 2 :] = 224
    return given


def sheet(path, cells, columns, lines):
    """Cells of (picture, words, faint words): the words lie below the picture, on at most `lines` lines."""
    height = SIDE + LINE * lines + GAP
    page = Image.new("RGB", (columns * (SIDE + GAP) + GAP, -(-len(cells) // columns) * (height + GAP) + GAP), "white")
    draw = ImageDraw.Draw(page)
    for place, (picture, words, faint) in enumerate(cells):
        x, y = GAP + place % columns * (SIDE + GAP), GAP + place // columns * (height + GAP)
        page.paste(Image.fromarray(picture).resize((SIDE, SIDE), Image.LANCZOS), (x, y))
        rows = [(line, INK) for line in textwrap.wrap(words, 25)] + [(line, FAINT) for line in textwrap.wrap(faint, 25)]
        for row, (line, colour) in enumerate(rows[:lines]):
            draw.text((x, y + SIDE + 1 + row * LINE), line, fill=colour, font_size=10)
    page.save(path, quality=88, optimize=True)
