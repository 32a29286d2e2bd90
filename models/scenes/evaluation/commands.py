"""What the `easel` command itself draws: the examples, the avocado armchairs, and how long eight candidates take."""
import contextlib
import json
import os
import subprocess
import time
from statistics import median

import numpy as np
from PIL import Image

from recipe.captions import caption
from recipe.grammar import Scene, Thing
from recipe.judge import judge

from .captions import lists

AVOCADO = Scene(kind="composite", things=(Thing("armchair"),), material="avocado")
SEED, SAMPLES, TIMED, RUNS, CORES = 7, 32, 8, 3, 2


@contextlib.contextmanager
def _two_cores():
    """What is started meanwhile runs on two cores."""
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(every)[:CORES]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


def generate(options, folder, words, *arguments, threads):
    """Runs `easel generate`: its record, the seconds from start to end, and the most memory that it had, in MiB."""
    command = [
        str(options.easel), "generate", words, *arguments, "--package", str(options.package), "--threads", str(threads),
        "--out", folder, "--no-preview"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EASEL_")}
    start = time.monotonic()
    with open(folder + ".log", "wb") as log, _two_cores():
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    if status:
        raise SystemExit(f"failed, see {folder}.log: {' '.join(command)}")
    with open(os.path.join(folder, "generation.json")) as file:
        return json.load(file), seconds, usage.ru_maxrss / 1024


def picture(folder, record, place):
    """A picture of a generation, the best first, as uint8 [h, w, 3]."""
    return np.asarray(Image.open(os.path.join(folder, record["pictures"][place]["file"])).convert("RGB"))


def _avocados(store, options):
    folder = store.path("commands/avocado")
    record, *_ = generate(options, folder, caption(AVOCADO), "--candidates", str(SAMPLES), "--seed", str(SEED), threads=options.threads)
    images = np.stack([picture(folder, record, place) for place in range(SAMPLES)])
    store.write("commands/avocado/judged", lists(judge(images, AVOCADO)))


def _examples(service, store, options):
    shown = []
    for place, words in enumerate(service.package.examples):
        name = f"commands/example-{place:02}"
        folder = store.path(name)
        record, *_ = generate(
            options, folder, words, "--candidates", str(options.many), "--keep", "1", "--seed", str(SEED), threads=options.threads)
        best = record["pictures"][0]
        shown.append({"caption": words, "seed": best["seed"], "candidates": options.many, "file": f"{name}/{best['file']}"})
    store.write("commands/examples", shown)


def _time(service, store, options):
    runs, words, load = [], service.package.examples[0], os.getloadavg()[0]
    for _ in range(RUNS):
        record, seconds, memory = generate(
            options, store.path("commands/timed"), words, "--candidates", str(TIMED), "--seed", str(SEED), threads=CORES)
        runs.append({"seconds": seconds, "request_seconds": record["total_seconds"], "memory_mib": memory})
    store.write("commands/time", {
        "candidates": TIMED, "cores": CORES, "build": options.easel.parent.name, "load": load, "runs": runs,
        **{name: median(run[name] for run in runs) for name in ("seconds", "request_seconds", "memory_mib")}})


def run(service, store, options):
    """Draw what is missing."""
    if not store.read("commands/avocado/judged"):
        _avocados(store, options)
    if not store.read("commands/examples"):
        _examples(service, store, options)
    if not store.read("commands/time"):
        _time(service, store, options)
    print("commands", flush=True)
