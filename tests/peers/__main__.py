"""Easel's engine beside what a user would run instead, in one run on one machine: python tests/peers --geometry M.

Every engine is a process of its own, one after another; Easel runs before and after them, and its better half counts for nobody: the mean of both does. Ratios are of medians.
What is not installed is left out (tests/peers/requirements.txt; `make peers`)."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from timing import Geometry, progress

#: Name → the module that runs it, the package that it needs, what it is told besides.
PEERS = {
    "eager": ("eager", "torch", {}),
    "generate": ("hugging_face", "transformers", {}),
    "genai": ("genai", "onnxruntime_genai", {}),
    "stock-q4": ("stock", "onnxruntime", {"bits": 4}),
    "stock-f32": ("stock", "onnxruntime", {"bits": 32}),
}


def numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/peers", description=__doc__)
    parser.add_argument("--only", help="one peer, whose JSON is written to standard output", choices=PEERS)
    parser.add_argument("--peers", default=",".join(PEERS), help="which, with commas")
    parser.add_argument("--easel", type=Path, default=Path("target/release/easel"))
    parser.add_argument("--geometry", default="M", help="S, M, L or WIDTHxLAYERS")
    parser.add_argument("--weights", default="q4", help="of Easel's package")
    parser.add_argument("--kv", default="f32", help="precision of Easel's keys and values: f32 or bf16")
    parser.add_argument("--cache", type=Path, default=Path("target/bench"))
    parser.add_argument("--positions", type=numbers, default=[256, 1279])
    parser.add_argument("--batches", type=numbers, default=[1, 8])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="file for the JSON of all")
    return parser.parse_args()


def easel(told: argparse.Namespace) -> dict:
    """One run of `easel bench engine`."""
    lists = {"positions": told.positions, "batches": told.batches}
    words = [f"--{name}={','.join(map(str, values))}" for name, values in lists.items()]
    words += [f"--geometry={told.geometry}", f"--weights={told.weights}", f"--kv={told.kv}", f"--cache={told.cache}"]
    words += [f"--steps={told.steps}", f"--threads={told.threads}", "--device=cpu", "--json"]
    return json.loads(subprocess.run([told.easel, "bench", "engine", *words], check=True, stdout=subprocess.PIPE).stdout)


def peer(name: str) -> dict | None:
    """One peer in a process of its own; none: it is not installed or fails."""
    _, needs, _ = PEERS[name]
    if importlib.util.find_spec(needs) is None:
        progress(f"{name}: {needs} is not installed")
        return None
    ran = subprocess.run([sys.executable, *sys.argv, "--only", name], stdout=subprocess.PIPE)
    if ran.returncode != 0:
        progress(f"{name}: failed")
        return None
    # Some libraries write to standard output as well; the object is the last line.
    return json.loads(ran.stdout.splitlines()[-1])


def table(ours: list[dict], peers: list[dict]) -> str:
    """ms a step, and how many times Easel's."""
    places = [(step["batch"], step["position"]) for step in ours[0]["steps"]]
    times = lambda run: {(step["batch"], step["position"]): step["ms"] for step in run["steps"]}
    mean = {place: sum(times(run)[place] for run in ours) / len(ours) for place in places}
    lines = ["| ms a step | " + " | ".join(f"{batch} at {position}" for batch, position in places) + " |"]
    lines.append("|---" * (len(places) + 1) + "|")
    lines.append("| Easel | " + " | ".join(f"{mean[place]:.1f}" for place in places) + " |")
    for run in peers:
        cells = [f"{times(run)[p]:.1f} ({times(run)[p] / mean[p]:.2f} ×)" if p in times(run) else "–" for p in places]
        lines.append(f"| {run['engine']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    told = arguments()
    geometry = Geometry.named(told.geometry)
    if told.only:
        module, _, more = PEERS[told.only]
        sizes = (told.threads, told.positions, told.batches, told.steps)
        return importlib.import_module(module).run(geometry, told.cache, *sizes, **more)
    ours = [easel(told)]
    peers = [run for name in told.peers.split(",") if (run := peer(name))]
    ours.append(easel(told))
    print(table(ours, peers))
    if told.out:
        told.out.write_text(json.dumps({"easel": ours, "peers": peers}, indent=1))


if __name__ == "__main__":
    main()
