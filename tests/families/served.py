"""An imported checkpoint behind the sampler's own binary, called as any client calls it."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import grpc

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "clients/python/src"))

from easel.v1 import sampler_pb2, sampler_pb2_grpc, types_pb2  # noqa: E402

BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
LIBRARY = ROOT / ".tools/onnxruntime"


def environment() -> dict[str, str]:
    """A binary built elsewhere finds the tree's ONNX Runtime as well."""
    libraries = sorted(LIBRARY.glob("libonnxruntime.so.*"))
    return {**os.environ, **({"ORT_DYLIB_PATH": str(libraries[0])} if libraries else {})}


def imported(checkpoint: Path, out: Path, *options: str) -> Path:
    """The package that the command makes of a checkpoint, with weights in full precision."""
    command = [BUILT / "easel", "import", checkpoint, "--out", out, "--weights", "f32", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    return out


class Sampler:
    """The running service."""

    def __init__(self, channel: grpc.Channel):
        self.stub = sampler_pb2_grpc.SamplerServiceStub(channel)

    def draw(self, text: list[int], seeds: list[int] | None = None, given: list[int] | None = None, **parameters: float) -> list[list[int]]:
        """The image tokens of a candidate for each seed; without seeds, one that takes the most likely token everywhere."""
        if seeds is None:
            seeds, parameters = [0], {"temperature": 0.0, **parameters}
        request = sampler_pb2.SampleRequest(
            text_tokens=text,
            candidates=[sampler_pb2.SampleRequest.Candidate(id=i, seed=seed) for i, seed in enumerate(seeds)],
            parameters=types_pb2.SamplingParameters(**parameters),
            given=types_pb2.GivenTokens(tokens=given or []),
        )
        drawn = [[] for _ in seeds]
        for answer in self.stub.Sample(request, wait_for_ready=True, timeout=60):
            if answer.HasField("chunk"):
                assert answer.chunk.start == len(drawn[answer.chunk.candidate])
                drawn[answer.chunk.candidate].extend(answer.chunk.tokens)
        return drawn


def wait_ready(channel: grpc.Channel) -> None:
    """Returns once the service says that it serves: the health service's answer with 1 in its first field."""
    grpc.channel_ready_future(channel).result(timeout=60)
    plain = dict(request_serializer=bytes, response_deserializer=bytes)
    for answer in channel.unary_stream("/grpc.health.v1.Health/Watch", **plain)(b"", timeout=60):
        if answer == b"\x08\x01":
            return


@contextlib.contextmanager
def sampler(package: Path):
    """The sampler with one package."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    process = subprocess.Popen([BUILT / "easel-sampler", "--listen", address, "--package", package, "--threads", "1"], env=environment())
    try:
        with grpc.insecure_channel(address) as channel:
            wait_ready(channel)
            yield Sampler(channel)
    finally:
        process.terminate()
        process.wait(timeout=60)


def uniform(seed: int, position: int) -> float:
    """The number that Easel draws a token with: Philox4x32-10 keyed by the seed, its counter the position."""
    counter, key, low = [position, 0, 0, 0], [seed & 0xFFFFFFFF, seed >> 32], 0xFFFFFFFF
    for _ in range(10):
        a, c = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(c >> 32) ^ counter[1] ^ key[0], c & low, (a >> 32) ^ counter[3] ^ key[1], a & low]
        key = [(key[0] + 0x9E3779B9) & low, (key[1] + 0xBB67AE85) & low]
    return ((counter[1] << 32 | counter[0]) >> 11) / 2**53


def fall(weights, seed: int, position: int) -> int:
    """The token, by rising id, that Easel's number falls on."""
    weights = weights.double()
    target = uniform(seed, position) * weights.sum()
    return int((weights.cumsum(-1) > target).nonzero()[0, 0])
