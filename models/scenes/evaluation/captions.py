"""Pictures of captions: candidates of every caption, judged; and of unseen ones without guidance, as Ramesh et al. 2021 sample."""
from dataclasses import asdict
from itertools import zip_longest

import numpy as np
from PIL import Image

from recipe.grammar import held_out
from recipe.judge import distances, judge

from . import figures, sets
from .summary import headline


def lists(results):
    """The judge's arrays as JSON has them."""
    return {attribute: right.tolist() for attribute, right in results.items()}


def _pairs(options):
    """Unseen and seen captions in turns, so that a run that was stopped has some of both."""
    pairs = zip_longest(sets.captions("held", options.held), sets.captions("seen", options.seen))
    return [case for pair in pairs for case in pair if case]


def _so_far(store):
    """One sample and the best of 16 by CLIP and caption gain, of what there is."""
    records = store.all("captions")
    for group in ("held", "seen"):
        row = headline([record for record in records if record["group"] == group])
        known = {name: row[name] for name in ("one", "clip", "likelihood", "gain", "both", "oracle") if row[name]}
        print(f"  {group}: " + "  ".join(f"{name} {100 * value['mean']:.0f} %" for name, value in known.items()), flush=True)


# What the paper's sampling has none of.
UNGUIDED = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "guidance_scale": 1.0}


def _draw(service, store, name, case, count, **sampling):
    """Draw and judge a caption, unless as many candidates of it are there: whether it was drawn."""
    kept = store.read(name)
    if kept and len(kept["candidates"]) >= count:
        return False
    images, scores, started = service.draw(case.caption, count, case.seed, **sampling)
    # One row of pictures: lossless, and small enough to keep.
    Image.fromarray(np.concatenate(images, 1)).save(store.path(name + ".webp"), lossless=True, quality=0)
    store.write(name, {
        "group": case.group, "index": case.index, "form": case.form, "kind": case.scene.kind, "caption": case.caption,
        "scene": asdict(case.scene), "held_out": held_out(case.scene), "seed": case.seed,
        "unknown_words": list(started.unknown_words), "candidates": scores, "judged": lists(judge(images, case.scene))})
    return True


def run_nearness(service, store, options):
    """How far every picture of a caption that was drawn is from the true ones: what a ranking could do that knew these."""
    scenes = {case.name: case.scene for group, count in (("held", options.held), ("seen", options.seen)) for case in sets.captions(group, count)}
    for part in ("captions", "unguided"):
        for record in store.all(part):
            name = f"{record['group']}-{record['index']:04}"
            kept = store.read(f"nearness/{part}/{name}")
            if name in scenes and (kept is None or len(kept) < len(record["candidates"])):
                far = distances(figures.strip(store.path(f"{part}/{name}.webp")), scenes[name])
                store.write(f"nearness/{part}/{name}", [float(each) for each in far])


def _count(case, options):
    """How many candidates a caption has: more for those of the curve over N."""
    return options.many if case.group == "held" and case.index < options.curve else options.candidates


def run_unguided(service, store, options):
    """The unseen captions, drawn without guidance."""
    cases = sets.captions("held", options.held)
    for done, case in enumerate(cases, 1):
        if _draw(service, store, f"unguided/{case.name}", case, _count(case, options), **UNGUIDED):
            print(f"unguided {done}/{len(cases)}  {case.caption}", flush=True)


def run(service, store, options):
    """Draw and judge every caption that has not been drawn yet."""
    cases = _pairs(options)
    for done, case in enumerate(cases, 1):
        if not _draw(service, store, f"captions/{case.name}", case, _count(case, options)):
            continue
        print(f"captions {done}/{len(cases)}  {case.caption}", flush=True)
        if done % 20 == 0:
            _so_far(store)
