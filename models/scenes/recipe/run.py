"""All stages in order, within a time: python3 -m recipe.run --config h200.toml --work DIR --out DIR --minutes 9.5

Made for a borrowed machine whose commands end after some minutes. What is done is not done again, and what was stopped goes on: call
it until it prints "everything is done". Each call leaves in --out what must not be lost, in parts of at most 15 MiB: the exported
checkpoint, or as long as there is none the weights so far, from which --resume goes on after the machine was lost.
"""
import argparse
import glob
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import time

STAGES = ("text", "codes", "transformer", "decoder", "drawn", "clip", "layout", "export")
RESERVE = 50  # seconds at the end, to stop a stage and to pack
PART = 15 << 20
KEPT = ("tokenizer.json", "ranker_tokenizer.json", "words.txt")


def environment(options):
    """One thread a process, the font, and the wheels that the machine's own Python lacks."""
    changes = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    if options.font:
        changes["EASEL_EMOJI_FONT"] = os.path.abspath(options.font)
    if options.wheels:
        site = os.path.abspath(os.path.join(options.work, "site"))
        if not os.path.exists(site):
            wheels = glob.glob(os.path.join(options.wheels, "*.whl"))
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", site, *wheels], check=True)
        changes["PYTHONPATH"] = site
    return {**os.environ, **changes}


def run(stage, options, deadline):
    """Whether the stage is done; at the deadline it is told to stop."""
    done = pathlib.Path(options.work, f"{stage}.done")
    if done.exists():
        return True
    where = environment(options)
    if stage == "export":
        where["CUDA_VISIBLE_DEVICES"] = ""  # the reference outputs are those of 32-bit arithmetic
    print(f"{stage}: {deadline - time.monotonic():.0f} s left", flush=True)
    with open(os.path.join(options.work, f"{stage}.log"), "a") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "recipe", stage, "--config", os.path.abspath(options.config), "--work", os.path.abspath(options.work)],
            cwd=pathlib.Path(__file__).parents[1], env=where, stdout=log, stderr=subprocess.STDOUT)
        stopped = False
        try:
            process.wait(max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            stopped = True
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(RESERVE / 2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    lines = pathlib.Path(options.work, f"{stage}.log").read_text().splitlines()
    print(*lines[-8:], sep="\n", flush=True)
    if process.returncode == 0:
        done.touch()
    elif not stopped:
        print(*lines[-40:], f"{stage} failed with status {process.returncode}", sep="\n", flush=True)
    return process.returncode == 0


def weights(path):
    """A training state without its optimisers; the sampler's at 16 bits."""
    import torch

    kept = {name: part for name, part in torch.load(path, map_location="cpu").items() if name in ("model", "decoder", "step", "seconds")}
    if path.name == "transformer.pt":
        kept["model"] = {name: tensor.half() for name, tensor in kept["model"].items()}
    return kept


def pack(options):
    """Write the parts and the logs to --out."""
    import torch

    work, out = pathlib.Path(options.work), pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    archive, finished = work / "kept.tar", (work / "export.done").exists()
    with tarfile.open(archive, "w") as tar:
        if finished:
            for path in (work / "checkpoint").iterdir():
                if path.name != "golden.safetensors":
                    tar.add(path, f"checkpoint/{path.name}")
        else:
            for path in [*map(work.joinpath, KEPT), *work.glob("*.done"), *work.glob("drawn.pt")]:
                if path.exists():
                    tar.add(path, path.name)
            for name in ("codes", "transformer", "decoder", "clip", "layout"):
                if (work / f"{name}.pt").exists():
                    torch.save(weights(work / f"{name}.pt"), work / "part.pt")
                    tar.add(work / "part.pt", f"{name}.pt")
    with open(archive, "rb") as file:
        for i, part in enumerate(iter(lambda: file.read(PART), b"")):
            (out / f"kept.tar.{i:02}").write_bytes(part)
    with open(out / "logs.txt", "w") as file:
        for stage in STAGES:
            if (work / f"{stage}.log").exists():
                file.write(f"== {stage}\n{(work / f'{stage}.log').read_text()}\n")


def resume(options):
    """Unpack the parts of an earlier call, if there is nothing yet."""
    if options.resume and not any(name.endswith(".pt") for name in os.listdir(options.work)):
        whole = os.path.join(options.work, "kept.tar")
        with open(whole, "wb") as file:
            for part in sorted(glob.glob(os.path.join(options.resume, "kept.tar.*"))):
                file.write(pathlib.Path(part).read_bytes())
        with tarfile.open(whole) as tar:
            tar.extractall(options.work, filter="data")


def main():
    parser = argparse.ArgumentParser(prog="recipe.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--work", required=True, help="folder of all that is made")
    parser.add_argument("--out", required=True, help="folder for what must not be lost")
    parser.add_argument("--minutes", type=float, required=True, help="after which it ends, done or not")
    parser.add_argument("--resume", help="folder with the parts of an earlier call's --out, for an empty --work")
    parser.add_argument("--font", help="NotoColorEmoji.ttf, if it is not where Debian has it")
    parser.add_argument("--wheels", help="folder of wheels that this Python lacks")
    options = parser.parse_args()
    deadline = time.monotonic() + options.minutes * 60 - RESERVE
    os.makedirs(options.work, exist_ok=True)
    resume(options)
    done = all(run(stage, options, deadline) for stage in STAGES)
    pack(options)
    print("everything is done" if done else "call it again to go on", flush=True)
    sys.exit(0 if done else 75)


if __name__ == "__main__":
    main()
