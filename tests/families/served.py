"""An imported checkpoint behind the whole suite, called as any client calls it."""

import contextlib
import gzip
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "clients/python/src"))

from easel.v1 import gateway_pb2, gateway_pb2_grpc, sampler_pb2, sampler_pb2_grpc, tokenizer_pb2, tokenizer_pb2_grpc, types_pb2  # noqa: E402

BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
LIBRARY = ROOT / ".tools/onnxruntime"
VOCABULARIES = ROOT / "crates/import/tests/fixtures/tokenizers"


def environment() -> dict[str, str]:
    """A binary built elsewhere finds the tree's ONNX Runtime as well."""
    libraries = sorted(LIBRARY.glob("libonnxruntime.so.*"))
    return {**os.environ, **({"ORT_DYLIB_PATH": str(libraries[0])} if libraries else {})}


def imported(checkpoint: Path, out: Path, *options: str, weights: str = "f32") -> Path:
    """The package that the command makes of a checkpoint, with weights in full precision unless told otherwise."""
    command = [BUILT / "easel", "import", checkpoint, "--out", out, "--weights", weights, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    return out


class Generated(NamedTuple):
    """What the gateway answers: the caption as the sampler got it, the picture's tokens, the picture [1, height, width, 3], and CLIP's score, 0 without CLIP."""

    text: list[int]
    tokens: list[int]
    pixels: np.ndarray
    score: float


class Suite:
    """All five services, running."""

    def __init__(self, channel: grpc.Channel, stages: contextlib.ExitStack, pid: int, patience: float):
        self.pid = pid
        self.gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        wait_ready(channel, patience)
        listed = self.gateway.ListStages(gateway_pb2.ListStagesRequest(), timeout=60).stages
        stage = {stage.name: stages.enter_context(grpc.insecure_channel(stage.address.removeprefix("http://"))) for stage in listed}
        self.sampler = sampler_pb2_grpc.SamplerServiceStub(stage["sampler"])
        self.tokenizer = tokenizer_pb2_grpc.TokenizerServiceStub(stage["tokenizer"])

    def generate(self, prompt: str, seed: int = 0, negative: str = "", **parameters: float) -> Generated:
        """A picture of a caption, from the gateway; unless a temperature is given, the most likely one."""
        request = gateway_pb2.GenerateRequest(
            prompt=prompt,
            negative_prompt=negative,
            candidates=1,
            seed=seed,
            parameters=types_pb2.SamplingParameters(**{"temperature": 0.0, **parameters}),
            format=gateway_pb2.IMAGE_FORMAT_RAW,
            previews=0,
        )
        events = {event.WhichOneof("event"): event for event in self.gateway.Generate(request, timeout=120)}
        picture = events["picture"].picture
        shape = [1, picture.image.height, picture.image.width, 3]
        pixels = np.frombuffer(picture.image.data, np.uint8).reshape(shape)
        return Generated(list(events["started"].started.text_tokens), list(picture.image_tokens), pixels, picture.clip_score)

    def classify(self, picture: Image.Image, labels: list[str]) -> dict[str, float]:
        """CLIP's scores of a picture with each of the labels, from the gateway."""
        data = io.BytesIO()
        picture.save(data, "PNG")
        request = gateway_pb2.GatewayServiceClassifyRequest(image=data.getvalue(), labels=labels)
        return {entry.label: entry.clip_score for entry in self.gateway.Classify(request, timeout=120).entries}

    def tokenize(self, prompt: str) -> tuple[list[int], bool]:
        """Its tokens, and whether there were more than the model reads."""
        answer = self.tokenizer.Tokenize(tokenizer_pb2.TokenizeRequest(prompt=prompt), timeout=60)
        return [token.id for token in answer.tokens], answer.truncated

    def hold_texts(self, encode: Callable[[str], list[int]]) -> None:
        """More than a thousand awkward captions are the tokens of `encode`, as many as the model reads: of nine in ten, all."""
        held, whole = captions(), 0
        for caption in held:
            expected = encode(caption)
            # A caption without a token is refused.
            made, truncated = self.tokenize(caption) if expected else ([], False)
            assert (made, truncated) == (expected[: len(made)], len(expected) > len(made)), repr(caption)
            whole += not truncated
        assert len(held) > 1000 and whole > 0.9 * len(held), f"{whole} of {len(held)} are whole"

    def draw(self, text: list[int], seeds: list[int] | None = None, given: list[int] | None = None, **parameters: float) -> list[list[int]]:
        """The image tokens of a candidate for each seed, from the sampler; without seeds, one that takes the most likely token everywhere."""
        if seeds is None:
            seeds, parameters = [0], {"temperature": 0.0, **parameters}
        request = sampler_pb2.SampleRequest(
            text_tokens=text,
            candidates=[sampler_pb2.SampleRequest.Candidate(id=i, seed=seed) for i, seed in enumerate(seeds)],
            parameters=types_pb2.SamplingParameters(**parameters),
            given=types_pb2.GivenTokens(tokens=given or []),
        )
        drawn = [[] for _ in seeds]
        for answer in self.sampler.Sample(request, timeout=120):
            if answer.HasField("chunk"):
                assert answer.chunk.start == len(drawn[answer.chunk.candidate])
                drawn[answer.chunk.candidate].extend(answer.chunk.tokens)
        return drawn


def wait_ready(channel: grpc.Channel, patience: float) -> None:
    """Returns once the service says that it serves: the health service's answer with 1 in its first field."""
    grpc.channel_ready_future(channel).result(timeout=patience)
    plain = dict(request_serializer=bytes, response_deserializer=bytes)
    for answer in channel.unary_stream("/grpc.health.v1.Health/Watch", **plain)(b"", timeout=patience):
        if answer == b"\x08\x01":
            return


@contextlib.contextmanager
def suite(package: Path, built: Path = BUILT, patience: float = 120):
    """The suite with one package, of the binaries in `built`; it may take `patience` seconds to be ready."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    command = [built / "easel", "serve", "--listen", address, "--package", package, "--threads", "1"]
    process = subprocess.Popen(command, env=environment())
    try:
        with grpc.insecure_channel(address, [("grpc.max_receive_message_length", 64 << 20)]) as channel, contextlib.ExitStack() as stages:
            yield Suite(channel, stages, process.pid, patience)
    finally:
        process.terminate()
        process.wait(timeout=60)


def kept() -> dict:
    """Awkward captions, and checksums of what the original tokenizers make of them, as the importer's own tests keep them."""
    return json.loads(gzip.decompress((VOCABULARIES / "expected.json.gz").read_bytes()))


def captions() -> list[str]:
    return [caption for caption in kept()["captions"] if caption.strip()]


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
