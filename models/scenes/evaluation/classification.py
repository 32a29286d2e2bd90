"""Zero-shot classification: CLIP's labels are the captions of all objects, its pictures renders of unseen combinations."""
import io
import random

from PIL import Image

from recipe.captions import article
from recipe.grammar import held_out, sample
from recipe.scenes import pixels
from recipe.sprites import OBJECTS

WITHOUT = 2  # objects, of which by chance no combination was held out


def _scenes(each):
    """The same number of pictures of every object, of unseen combinations; a few objects have none and take seen ones."""
    rng, unseen, seen = random.Random("evaluation classification"), {}, {}
    while len(unseen) < len(OBJECTS) - WITHOUT or any(len(scenes) < each for scenes in unseen.values()):
        scene = sample(rng, "one")
        own = (unseen if held_out(scene) else seen).setdefault(scene.things[0].name, [])
        if len(own) < each:
            own.append(scene)
    return [scene for name in OBJECTS for scene in unseen.get(name, seen[name])]


def run(service, store, options):
    """Which object CLIP sees in each picture."""
    if store.read("classification"):
        return
    labels, results = [article(name) for name in OBJECTS], []
    for scene in _scenes(options.pictures):
        buffer = io.BytesIO()
        Image.fromarray(pixels([scene])[0]).save(buffer, "PNG")
        entries = service.client.classify(buffer.getvalue(), labels)
        results.append({
            "object": scene.things[0].name, "unseen": bool(held_out(scene)), "style": scene.style, "camera": scene.camera,
            "seen": [OBJECTS[labels.index(entry.label)] for entry in entries[:5]]})
    store.write("classification", results)
    print(f"classification {len(results)}", flush=True)
