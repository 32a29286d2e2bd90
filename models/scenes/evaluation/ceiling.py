"""What the judge and the tokenizer can do at best: true renders, damaged ones, and renders through encoder and decoder."""
import random

import numpy as np
from PIL import Image, ImageFilter

from recipe.alternatives import alternatives
from recipe.judge import judge
from recipe.scenes import pixels

from . import sets
from .captions import lists

CELL = 16
GRAY = 128


def _blurred(image, _):
    return image.filter(ImageFilter.GaussianBlur(2))


def _noisy(image, rng):
    noise = np.random.default_rng(rng.randrange(1 << 30)).normal(0, 24, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def _covered(image, rng, share=0.5):
    covered = np.asarray(image).copy()
    for y in range(0, image.height, CELL):
        for x in range(0, image.width, CELL):
            if rng.random() < share:
                covered[y : y + CELL, x : x + CELL] = GRAY
    return Image.fromarray(covered)


def _gray(image, _):
    return Image.new("RGB", image.size, (GRAY, GRAY, GRAY))


DAMAGES = {
    "blurred, radius 2": _blurred, "noise, σ = 24 of 255": _noisy, "half of the 16 × 16 blocks gray": _covered, "gray all over": _gray}


def run(service, store, options):
    """True renders of every caption's scene, once as they are and once through the tokenizer."""
    cases = sets.captions("held", options.held) + sets.captions("seen", options.seen)
    for start in range(0, len(cases), 16):
        part = [case for case in cases[start : start + 16] if not store.read(f"ceiling/{case.name}")]
        if not part:
            continue
        drawn = pixels([case.scene for case in part])
        painted = service.round_trip(drawn)
        for case, image, back in zip(part, drawn, painted):
            error = np.square(image.astype(float) - back).mean() / 255**2
            store.write(f"ceiling/{case.name}", {
                "group": case.group, "kind": case.scene.kind, "psnr": -10 * float(np.log10(error)),
                "true": lists(judge(image[None], case.scene)), "judged": lists(judge(back[None], case.scene)),
                "lower": lists(judge(back[None], case.scene, lower=True, exact=True))})
        print(f"ceiling {min(start + 16, len(cases))}/{len(cases)}", flush=True)
    _check_judge(store, options)


def _check_judge(store, options):
    """Pictures that are wrong in one attribute, pictures of other captions, and damaged pictures."""
    if store.read("judge"):
        return
    cases, rng = sets.captions("held", options.checks), random.Random("damage")
    swapped, others, damaged = {}, [], {name: [] for name in DAMAGES}
    for case, stranger in zip(cases, cases[1:] + cases[:1]):
        true = Image.fromarray(pixels([case.scene])[0])
        for attribute, wrongs in alternatives(case.scene).items():
            wrong = judge(pixels([rng.choice(wrongs)]), case.scene)
            swapped.setdefault(attribute.rstrip("2"), []).append(not wrong[attribute][0])
        others.append(all(right[0] for right in judge(pixels([stranger.scene]), case.scene).values()))
        for name, damage in DAMAGES.items():
            seen = judge(np.asarray(damage(true, rng))[None], case.scene)
            damaged[name].append(float(np.mean([right[0] for right in seen.values()])))
    store.write("judge", {"swapped": swapped, "others": others, "damaged": damaged})
