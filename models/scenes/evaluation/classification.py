"""Zero-shot classification over all objects, on renders of unseen combinations.

The labels are "a cat", "a dog", …; and, to ask for the object alone, the picture's own caption with each of the objects in it.
"""
import io
import random

from PIL import Image

from recipe.captions import article, caption
from recipe.grammar import held_out, sample, with_thing
from recipe.scenes import pixels
from recipe.sprites import OBJECTS

SCENES = 40_000  # drawn to choose from


def _scenes(each):
    """The same number of pictures of every object, of unseen combinations; what an object lacks of these are seen ones."""
    rng, unseen, seen = random.Random("evaluation classification"), {}, {}
    for _ in range(SCENES):
        scene = sample(rng, "one")
        own = (unseen if held_out(scene) else seen).setdefault(scene.things[0].name, [])
        if len(own) < each:
            own.append(scene)
    return [scene for name in OBJECTS for scene in (unseen.get(name, []) + seen[name])[:each]]


def _ranked(service, image, labels):
    """The five objects whose labels fit best."""
    return [OBJECTS[labels.index(entry.label)] for entry in service.client.classify(image, labels)[:5]]


def run(service, store, options):
    """Which object CLIP sees in each picture."""
    if store.read("classification"):
        return
    labels, results = [article(name) for name in OBJECTS], []
    for scene in _scenes(options.pictures):
        buffer = io.BytesIO()
        Image.fromarray(pixels([scene])[0]).save(buffer, "PNG")
        captions = [caption(with_thing(scene, 0, name=name)) for name in OBJECTS]
        results.append({
            "object": scene.things[0].name, "unseen": bool(held_out(scene)), "style": scene.style, "camera": scene.camera,
            "seen": _ranked(service, buffer.getvalue(), labels), "seen_by_caption": _ranked(service, buffer.getvalue(), captions)})
    store.write("classification", results)
    print(f"classification {len(results)}", flush=True)
