"""Pictures of which the top half is given: completed, and continued in another style."""
import io
import random
from dataclasses import asdict, replace

import numpy as np
from PIL import Image

from recipe.captions import caption
from recipe.grammar import STYLES, Scene, Thing
from recipe.judge import judge
from recipe.scenes import pixels

from . import sets
from .captions import lists

SHOWN = (("cat", "sketch"), ("car", "neon sign"), ("teapot", "pixel art"), ("fox", "silhouette"), ("rocket", "sticker"))


def _tells_of_object(scene):
    """Whether the lower half of the true picture shows what the caption is about."""
    return "object" in judge(pixels([scene]), scene, lower=True, exact=True)


def _png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _scenes(options):
    return {
        "completion": sets.unseen(("one", "count", "relation", "composite"), options.completions, "completion", _tells_of_object),
        "style": sets.unseen(("panels",), options.completions, "style")}


def _case(service, store, name, scene, options, exact):
    image = pixels([scene])[0]
    rows = service.package.grid.rows // 2
    words, seed = caption(scene), random.Random(name).randrange(1 << 31)
    images, scores, _ = service.draw(words, options.completed, seed, image=_png(image), keep_rows=rows)
    strip = [image, *images] if image.shape == images[0].shape else [np.asarray(Image.fromarray(image).resize(images.shape[2:0:-1])), *images]
    Image.fromarray(np.concatenate(strip, 1)).save(store.path(name + ".webp"), lossless=True, quality=0)
    store.write(name, {
        "kind": scene.kind, "caption": words, "scene": asdict(scene), "seed": seed, "candidates": scores,
        "judged": lists(judge(images, scene, lower=True, exact=exact))})


def run(service, store, options):
    """Draw and judge what is missing: each picture's strip begins with the true one."""
    if not service.package.image_prompts:
        raise SystemExit(f"the package {service.package.name} cannot be given pictures")
    for part, scenes in _scenes(options).items():
        for index, scene in enumerate(scenes):
            name = f"{part}/{index:04}"
            if not store.read(name):
                _case(service, store, name, scene, options, exact=part == "completion")
        print(f"{part} {len(scenes)}", flush=True)
    for index, (name, style) in enumerate(SHOWN):
        if not store.read(f"shown/{index}"):
            scene = Scene(kind="panels", things=(Thing(name),), panel=style, soft=index % 4)
            _case(service, store, f"shown/{index}", scene, options, exact=False)
    # One given picture, every style below it.
    for index, style in enumerate(STYLES[1:]):
        if not store.read(f"styles/{index}"):
            base = Scene(kind="panels", things=(Thing("penguin"),), panel=style)
            _case(service, store, f"styles/{index}", replace(base, soft=0), options, exact=False)
