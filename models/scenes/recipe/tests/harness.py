"""Running the recipe's stages and the suite's services as their users do."""

import array
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = pathlib.Path(__file__).resolve().parents[4]
BINARIES = ROOT / "target" / "debug"
FONT = pathlib.Path(os.environ.get("EASEL_EMOJI_FONT", "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"))
CONFIG = ROOT / "models" / "scenes" / "recipe" / "tiny.toml"
LINE = re.compile(r"\s*[\d.]+ min  step (\d+)  (.*)")
TYPES = {"I64": "q", "U8": "B", "F32": "f"}

needs_font = pytest.mark.skipif(not FONT.exists(), reason="objects are drawn from Noto Color Emoji (Debian: fonts-noto-color-emoji)")


def _python(*arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", *arguments, "--config", CONFIG], cwd=CONFIG.parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True)


def start(stage, work):
    """A stage of the recipe, in a session of its own."""
    return _python("recipe", stage, "--work", work)


def run(stage, work):
    """What a stage prints, once it is through."""
    process = start(stage, work)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def run_all(work, out, minutes, status):
    """What all stages print, run within so many minutes."""
    process = _python("recipe.run", "--work", work, "--out", out, "--minutes", str(minutes))
    output, _ = process.communicate()
    assert process.returncode == status, output
    return output


def stop(process):
    """Ends a stage and all its processes at once, as a power cut would."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def reports(output):
    """The progress lines of a training stage: {name: number} and the step."""
    lines = [match for match in map(LINE.fullmatch, output.splitlines()) if match]
    pairs = [line[2].split() for line in lines]
    return [{"step": int(line[1]), **dict(zip(words[::2], map(float, words[1::2])))} for line, words in zip(lines, pairs)]


def easel(*arguments):
    """What the command prints."""
    done = subprocess.run([BINARIES / "easel", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_tensors(path):
    """A safetensors file: {name: (shape, flat numbers)}, and its metadata."""
    data = path.read_bytes()
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:body])
    metadata = header.pop("__metadata__")

    def numbers(entry):
        first, end = entry["data_offsets"]
        return array.array(TYPES[entry["dtype"]], data[body + first : body + end])

    return {name: (entry["shape"], numbers(entry)) for name, entry in header.items()}, metadata


def rows(tensor):
    """The numbers of a tensor, a list for each index of its first axis."""
    shape, numbers = tensor
    length = len(numbers) // shape[0]
    return [numbers[i * length : (i + 1) * length].tolist() for i in range(shape[0])]


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def service(name, package):
    """A channel to a service of its own that has loaded the package."""
    target = f"127.0.0.1:{_free_port()}"
    process = subprocess.Popen([BINARIES / f"easel-{name}", "--listen", target, "--package", package, "--log", "warn"], cwd=ROOT)
    try:
        with grpc.insecure_channel(target) as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
            for answer in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60):
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            yield channel
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
