"""EVALUATION.md and its pictures, from what lies in the work folder."""
import json
import os
import shlex
from string import Template

import numpy as np
from PIL import Image

from recipe.sprites import OBJECTS

from . import figures
from .measures import RANKINGS, all_right, scores
from .summary import BEST_OF, summarise

PICTURES = "evaluation/figures"
SHOWN = 32
# A result of each part, without which it was not run.
NEEDED = {
    "captions": "captions/seen-0000", "unguided": "unguided/held-0000", "nearness": "nearness/unguided/held-0000", "ceiling": "judge", "classification": "classification",
    "completion": "styles/4", "commands": "commands/time"}
TEXT = os.path.join(os.path.dirname(__file__), "EVALUATION.template.md")


def percent(value, spread=True):
    """A share with its interval: 64 % (60–68)."""
    if value is None:
        return "–"
    text = f"{100 * value['mean']:.0f} %"
    return text + f" ({100 * value['low']:.0f}–{100 * value['high']:.0f})" if spread else text


def points(value):
    """A difference of shares, in points."""
    return "–" if value is None else f"{100 * value['mean']:+.0f} ({100 * value['low']:+.0f} … {100 * value['high']:+.0f})"


def table(head, rows):
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows])


def _groups(rows):
    names = [name for name in RANKINGS if any(row.get(name) for row in rows.values())]
    labels = {
        "held": "**unseen combinations**", "held canonical": "canonical captions", "held free": "free captions", "seen": "**seen combinations**",
        "seen canonical": "canonical captions", "seen free": "free captions"}
    body = [[
        label, rows[key]["one"]["captions"] if rows[key]["one"] else 0, percent(rows[key]["one"]), percent(rows[key]["share"], False),
        *(percent(rows[key][name]) for name in names), percent(rows[key]["clip share"], False)] for key, label in labels.items()]
    body.append(["seen − unseen, points", "", points(rows["gap"]["one"]), "", *(points(rows["gap"][name]) for name in names), ""])
    head = ["", "captions", "one sample", "mean attribute", *(f"best of {BEST_OF}: {RANKINGS[name]}" for name in names), f"mean attribute, best of {BEST_OF} by CLIP"]
    return table(head, body)


def _attributes(rows):
    return table(["attribute", "captions, unseen + seen", "unseen, one sample", f"unseen, best of {BEST_OF} by CLIP", "seen, one sample", "seen, best by CLIP", "tokenizer alone"], [[
        name, " + ".join(str((row.get(group) or {"captions": 0})["captions"]) for group in ("held", "seen")),
        *(percent(row.get(key)) for key in ("held", "held clip", "seen", "seen clip", "ceiling"))] for name, row in rows.items()])


def _breakdown(rows, what, ceilings=None):
    head = [what, "captions", "one sample", f"best of {BEST_OF} by CLIP", "by CLIP and caption gain", "oracle"]
    body = [[name, row["one"]["captions"], *(percent(row[key]) for key in ("one", "clip", "both", "oracle"))] for name, row in rows.items()]
    if ceilings:
        head, body = [*head, "tokenizer alone"], [[*row, percent(ceilings.get(row[0].split()[-1]))] for row in body]
    return table(head, body)


def _lifts(lifts):
    labels = {"guided": "the package's settings", "unguided": "as the paper samples: temperature 1, no guidance, no top-k or top-p"}
    head = ["", "captions", "one sample", f"best of {BEST_OF} by CLIP", "lift, points", f"best of {BEST_OF} by the oracle", "lift, points"]
    rows = []
    for name, label in labels.items():
        own = lifts[name]
        rows.append([
            label, own["one"]["captions"] if own["one"] else 0, percent(own["one"]), percent(own["clip"]), points(own["clip lift"]),
            percent(own["oracle"]), points(own["oracle lift"])])
    return table(head, rows)


def _curve(curve):
    sizes = sorted(next(iter(curve["table"].values())), key=int) if curve["table"] else []
    return table(["ranked by", *(f"N = {n}" for n in sizes)], [
        [RANKINGS[name], *(percent(row[n]) for n in sizes)] for name, row in curve["table"].items()])


def _halves(part):
    if not part:
        return "–"
    rows = [["all right, one sample", percent(part["one"])], [f"all right, best of {part['candidates']} by CLIP", percent(part["clip"])],
            [f"all right, best of {part['candidates']} by an oracle", percent(part["oracle"])], ["mean attribute, one sample", percent(part["share"])],
            *([name, percent(value)] for name, value in part["attributes"].items())]
    return table(["lower half", f"{part['one']['captions']} pictures"], rows)


def _commands(examples):
    return "\n".join(
        f"easel generate {shlex.quote(each['caption'])} --candidates {each['candidates']} --keep 1 --seed 7   # keeps seed {each['seed']}"
        for each in examples or [])


def fill(numbers):
    """The values of the template."""
    classified, ceiling, checks, timed = (numbers[name] for name in ("classification", "ceiling", "judge", "time"))
    package, avocado = numbers["package"], numbers["avocado"]
    return {
        "package": f"{package['name']} {package['version']}", "digest": package["digest"], "mib": f"{package['bytes'] / 2**20:.1f}",
        "grid": " × ".join(map(str, package["grid"])),
        "settings": ", ".join(f"{name.replace('_', '-')} {round(value, 4)}" for name, value in package["defaults"].items()),
        "groups": _groups(numbers["groups"]), "attributes": _attributes(numbers["attributes"]),
        "kinds": _breakdown(numbers["kinds"], "kind", ceiling and ceiling["kinds"]), "reasons": _breakdown(numbers["reasons"], "held-out combination"),
        "curve": _curve(numbers["curve"]), "unguided": _curve(numbers["unguided"]),
        "lifts": _lifts(numbers["lifts"]), "look_alikes": _breakdown(numbers["look_alikes"], "held-out combinations"), "curve_captions": numbers["curve"]["captions"],
        "ceiling": table(["", "all right"], [
            ["true renders", percent(ceiling["true"])], ["through encoder and decoder", percent(ceiling["round trip"])],
            ["the same, lower half alone, place and background too", percent(ceiling["lower half"])]]),
        "ceiling_share": percent(ceiling["share"]), "psnr": f"{ceiling['psnr']:.1f}",
        "swapped": table(["attribute that is wrong", "found"], [[name, percent(value)] for name, value in checks["swapped"].items()]),
        "damaged": table(["damage", "mean attribute"], [[name, percent(value)] for name, value in checks["damaged"].items()]),
        "others": percent(checks["others"]), "completion": _halves(numbers["completion"]), "style": _halves(numbers["style"]),
        "pictures": classified["pictures"], "seen": " and ".join(classified["seen"]), "top1": percent(classified["top1"]), "top5": percent(classified["top5"]),
        "caption1": percent(classified["caption1"]), "caption5": percent(classified["caption5"]),
        "confused": "; ".join(f"{drawn} as {seen} ({count}×)" for drawn, seen, count in classified["confused"]) or "none",
        "styles": table(["style", "first label right"], [[name, percent(value)] for name, value in classified["styles"].items()]),
        "avocado": table(["of 32 samples", "share"], [[name, f"{100 * value:.0f} %"] for name, value in avocado.items()]),
        "time": table(["run", "seconds, start to end", "seconds, request alone", "peak memory, MiB"], [
            *([place, f"{run['seconds']:.1f}", f"{run['request_seconds']:.1f}", f"{run['memory_mib']:.0f}"] for place, run in enumerate(timed["runs"], 1)),
            ["median", *(f"{timed[name]:.1f}" for name in ("seconds", "request_seconds")), f"{timed['memory_mib']:.0f}"]]),
        "build": timed["build"], "load": f"{timed['load']:.1f}", "commands": _commands(numbers["examples"])}


def _captions_sheet(store, path):
    """The first unseen captions, best of 16 by CLIP: none chosen."""
    cells = []
    for record in store.all("captions"):
        if record["group"] != "held" or len(cells) == SHOWN:
            continue
        known = scores(record)
        best = int(np.argmax(known.get("clip", known["likelihood"])[:BEST_OF]))
        wrong = [name for name, right in record["judged"].items() if not right[best]]
        picture = figures.strip(store.path(f"captions/held-{record['index']:04}.webp"))[best]
        cells.append((picture, record["caption"], f"seed {record['seed'] + best}, " + ("wrong: " + ", ".join(wrong) if wrong else "all right")))
    figures.sheet(path, cells, 8, 5)


def _halves_sheet(store, group, path, count, shown):
    """What is given, and the samples, row by row."""
    cells = []
    for place, record in enumerate(store.all(group)[:count]):
        true, *drawn = figures.strip(store.path(f"{group}/{place:04}.webp" if group in ("completion", "style") else f"{group}/{place}.webp"))
        cells.append((figures.half_hidden(true), record["caption"], "given"))
        right = all_right(record)
        cells += [(picture, "", f"seed {record['seed'] + i}, " + ("right" if right[i] else "wrong")) for i, picture in enumerate(drawn[:shown])]
    figures.sheet(path, cells, 2 * (shown + 1), 5)


def _pictures(store, numbers, folder):
    figures.curve(os.path.join(folder, "ranking.png"), {name: {int(n): value for n, value in row.items()} for name, row in numbers["curve"]["table"].items()}, numbers["curve"]["captions"])
    figures.confusion(os.path.join(folder, "confusion.png"), OBJECTS, numbers["classification"]["counts"])
    _captions_sheet(store, os.path.join(folder, "captions.jpg"))
    _halves_sheet(store, "completion", os.path.join(folder, "completion.jpg"), 8, 3)
    _halves_sheet(store, "style", os.path.join(folder, "style.jpg"), 8, 3)
    _halves_sheet(store, "shown", os.path.join(folder, "shown.jpg"), 5, 3)
    _halves_sheet(store, "styles", os.path.join(folder, "styles.jpg"), 5, 3)
    cells = [(np.asarray(Image.open(store.path(each["file"])).convert("RGB")), each["caption"], f"seed {each['seed']}") for each in numbers["examples"]]
    figures.sheet(os.path.join(folder, "examples.png"), cells, 5, 4)
    Image.open(store.path("commands/avocado/sheet.png")).convert("RGB").save(os.path.join(folder, "avocado.jpg"), quality=88, optimize=True)


def run(store, options):
    """Write the text, the pictures and the numbers."""
    missing = [part for part, name in NEEDED.items() if store.read(name) is None]
    if missing:
        raise SystemExit(f"not there yet: {', '.join(missing)}")
    numbers = json.loads(json.dumps(summarise(store, options.many)))
    folder = os.path.join(options.out, PICTURES)
    os.makedirs(folder, exist_ok=True)
    _pictures(store, numbers, folder)
    with open(TEXT) as file:
        text = Template(file.read()).substitute(fill(numbers))
    with open(os.path.join(options.out, "EVALUATION.md"), "w") as file:
        file.write(text)
    with open(os.path.join(options.out, "evaluation", "results.json"), "w") as file:
        json.dump(numbers, file, indent=1, ensure_ascii=False)
        file.write("\n")
    print(f"written: {os.path.join(options.out, 'EVALUATION.md')}", flush=True)
