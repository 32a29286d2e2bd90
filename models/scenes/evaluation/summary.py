"""The numbers of EVALUATION.md, from the raw results."""
from collections import Counter, defaultdict

import numpy as np

from recipe.grammar import Scene, Thing
from recipe.practice import has_look_alike
from recipe.sprites import OBJECTS

from .measures import RANKINGS, all_right, best_of, difference, interval, scores, share_right

BEST_OF = 16


def _ranked(records, name, n, value):
    return [best_of(n, known[name], value(record)) for record in records if name in (known := scores(record)) and len(record["candidates"]) >= n]


def headline(records):
    """One sample and the best of 16 by each ranking: all right, and the mean share of attributes."""
    row = {"one": interval([all_right(record).mean() for record in records]), "share": interval([share_right(record).mean() for record in records])}
    for name in RANKINGS:
        row[name] = interval(_ranked(records, name, BEST_OF, all_right))
    row["clip share"] = interval(_ranked(records, "clip", BEST_OF, share_right))
    return row


def lift(records):
    """Of unseen captions with as many samples and a CLIP: one sample, the best of 16 by CLIP and by the oracle, and by how much either is better than
    one sample of the caption. None where there is no such caption."""
    held = [record for record in records if record["group"] == "held" and len(record["candidates"]) >= BEST_OF and "clip" in scores(record)]
    one = [all_right(record).mean() for record in held]
    clip, oracle = (_ranked(held, name, BEST_OF, all_right) for name in ("clip", "oracle"))
    return {
        "one": interval(one), "clip": interval(clip), "oracle": interval(oracle), "clip lift": interval(np.subtract(clip, one)),
        "oracle lift": interval(np.subtract(oracle, one))}


def groups(records):
    """Rows of the first table: unseen and seen, by the form of the caption."""
    rows = {}
    for group in ("held", "seen"):
        own = [record for record in records if record["group"] == group]
        rows[group] = headline(own)
        for form in ("canonical", "free"):
            rows[f"{group} {form}"] = headline([record for record in own if record["form"] == form])
    parts = {group: [record for record in records if record["group"] == group] for group in ("held", "seen")}
    rows["gap"] = {
        "one": difference(*([all_right(record).mean() for record in parts[group]] for group in ("seen", "held"))),
        **{name: difference(*(_ranked(parts[group], name, BEST_OF, all_right) for group in ("seen", "held"))) for name in RANKINGS}}
    return rows


def attributes(records, ceiling):
    """For each attribute: right in one sample, in the best of 16 by CLIP, and after the tokenizer alone."""
    table = defaultdict(lambda: defaultdict(list))
    for record in records:
        known = scores(record)
        for attribute, right in record["judged"].items():
            row = table[attribute.rstrip("2")]
            row[record["group"]].append(np.mean(right))
            if "clip" in known and len(right) >= BEST_OF:
                row[record["group"] + " clip"].append(best_of(BEST_OF, known["clip"], right))
    for record in ceiling:
        for attribute, right in record["judged"].items():
            table[attribute.rstrip("2")]["ceiling"].append(right[0])
    return {attribute: {name: interval(values) for name, values in row.items()} for attribute, row in sorted(table.items())}


def _by(records, keys):
    parts = defaultdict(list)
    for record in records:
        for key in keys(record):
            parts[key].append(record)
    return {key: headline(part) for key, part in sorted(parts.items())}


def scene(record):
    """The scene that a record is of."""
    fields = {**record["scene"], "things": tuple(Thing(**thing) for thing in record["scene"]["things"]), "shift": tuple(record["scene"]["shift"])}
    return Scene(**fields)


def curve(records, most):
    """All right over N for the unseen captions with the most candidates."""
    many = [record for record in records if record["group"] == "held" and len(record["candidates"]) >= most]
    sizes = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= most]
    known = [scores(record) for record in many]
    names = [name for name in RANKINGS if many and all(name in each for each in known)]
    table = {name: {n: interval([best_of(n, each[name], all_right(record)) for each, record in zip(known, many)]) for n in sizes} for name in names}
    return {"captions": len(many), "table": table}


def ceiling(records):
    """The judge on true renders, and the tokenizer's round trip."""
    right = [float(all_right(record)[0]) for record in records]
    true = [float(all(value[0] for value in record["true"].values())) for record in records]
    lower = [float(all(value[0] for value in record["lower"].values())) for record in records if record["lower"]]
    return {
        "true": interval(true), "round trip": interval(right), "lower half": interval(lower),
        "share": interval([share_right(record)[0] for record in records]), "psnr": float(np.mean([record["psnr"] for record in records])),
        "kinds": {kind: interval([value for value, record in zip(right, records) if record["kind"] == kind])
                  for kind in sorted({record["kind"] for record in records})}}


def halves(records):
    """Completions: all right in one sample, the best by CLIP, and each attribute."""
    if not records:
        return None
    parts = defaultdict(list)
    for record in records:
        for attribute, right in record["judged"].items():
            parts[attribute.rstrip("2")].append(np.mean(right))
    count = len(records[0]["candidates"])
    return {
        "candidates": count, "one": interval([all_right(record).mean() for record in records]),
        "share": interval([share_right(record).mean() for record in records]),
        "clip": interval(_ranked(records, "clip", count, all_right)), "oracle": interval(_ranked(records, "oracle", count, all_right)),
        "attributes": {name: interval(values) for name, values in sorted(parts.items())}}


def classification(results):
    """Accuracy, top 5, the confusion matrix, and what is taken for what most often."""
    counts = np.zeros((len(OBJECTS), len(OBJECTS)), int)
    for each in results:
        counts[OBJECTS.index(each["object"]), OBJECTS.index(each["seen"][0])] += 1
    wrong = Counter((each["object"], each["seen"][0]) for each in results if each["object"] != each["seen"][0])
    styles = defaultdict(list)
    for each in results:
        styles[each["style"] or "none"].append(each["object"] == each["seen"][0])
    return {
        "pictures": len(results), "seen": sorted({each["object"] for each in results if not each["unseen"]}), "counts": counts.tolist(), "top1": interval([each["object"] == each["seen"][0] for each in results]),
        "top5": interval([each["object"] in each["seen"] for each in results]),
        "caption1": interval([each["object"] == each["seen_by_caption"][0] for each in results]),
        "caption5": interval([each["object"] in each["seen_by_caption"] for each in results]), "confused": [[*pair, count] for pair, count in wrong.most_common(8)],
        "styles": {style: interval(values) for style, values in sorted(styles.items())}}


def checks(result):
    """The judge on pictures that are wrong in one attribute, on other captions' pictures, and on damaged ones."""
    return {
        "swapped": {name: interval(values) for name, values in sorted(result["swapped"].items())},
        "others": interval(result["others"]), "damaged": {name: interval(values) for name, values in result["damaged"].items()}}


def _drawn(store, part):
    """The records of a part, with the distances of their pictures from the true ones where these are known."""
    records = store.all(part)
    for record in records:
        far = store.read(f"nearness/{part}/{record['group']}-{record['index']:04}")
        if far and len(far) == len(record["candidates"]):
            record["far"] = far
    return records


def summarise(store, most):
    """Everything that is told, of what is there so far."""
    records, unguided, rendered = _drawn(store, "captions"), _drawn(store, "unguided"), store.all("ceiling")
    avocado, classified, checked = store.read("commands/avocado/judged"), store.read("classification"), store.read("judge")
    held = [record for record in records if record["group"] == "held"]
    return {
        "package": store.read("package"), "groups": groups(records), "attributes": attributes(records, rendered),
        "kinds": _by(records, lambda record: [f"{record['group']} {record['kind']}"]), "reasons": _by(held, lambda record: set(record["held_out"])),
        "curve": curve(records, most), "unguided": curve(unguided, most),
        "look_alikes": _by(held, lambda record: ["some with a look-alike in practice" if has_look_alike(scene(record)) else "none with a look-alike in practice"]),
        "lifts": {"guided": lift(records), "unguided": lift(unguided)},
        "ceiling": ceiling(rendered) if rendered else None, "judge": checks(checked) if checked else None,
        "completion": halves(store.all("completion")), "style": halves(store.all("style")),
        "classification": classification(classified) if classified else None,
        "avocado": {name: float(np.mean(right)) for name, right in {**avocado, "all": np.array(list(avocado.values())).all(0)}.items()} if avocado else None,
        "time": store.read("commands/time"), "examples": store.read("commands/examples")}
