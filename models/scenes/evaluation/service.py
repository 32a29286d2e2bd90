"""The suite under evaluation: started here, or one that runs already."""
import contextlib
import hashlib
import pathlib
import socket
import subprocess
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "clients/python/src"))

import easel  # noqa: E402  the client lies in the project, not among the installed packages
from easel.v1 import decoder_pb2, decoder_pb2_grpc, types_pb2  # noqa: E402

START_SECONDS = 180


def binary(given):
    """The `easel` command: the one that was given, else the release build, else the debug build."""
    for path in [pathlib.Path(given)] if given else [ROOT / "target" / build / "easel" for build in ("release", "debug")]:
        if path.is_file():
            return path.resolve()
    raise SystemExit("there is no easel command: build it with cargo build --release, or name it with --easel")


def digest(package):
    """The SHA-256 of a package's manifest, which names the digests of all its files."""
    return hashlib.sha256((package / "manifest.json").read_bytes()).hexdigest()


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_until_serving(target):
    with grpc.insecure_channel(target) as channel:
        grpc.channel_ready_future(channel).result(timeout=START_SECONDS)
        for answer in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=START_SECONDS):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return


@contextlib.contextmanager
def suite(easel_command, package, threads, log):
    """The address of a suite that lives as long as the context."""
    target = f"127.0.0.1:{_free_port()}"
    command = [easel_command, "serve", "--listen", target, "--package", package, "--threads", str(threads)]
    with open(log, "ab") as file:
        process = subprocess.Popen([str(word) for word in command], cwd=ROOT, stderr=file)
    try:
        _wait_until_serving(target)
        yield target
    finally:
        process.terminate()
        process.wait()


class Service:
    """What the evaluation asks of the suite."""

    def __init__(self, target):
        self.client = easel.Client(target)
        self.package = self.client.package()
        address = next(stage.address for stage in self.client.stages() if stage.name == "decoder")
        self._decoder = decoder_pb2_grpc.DecoderServiceStub(grpc.insecure_channel(address.removeprefix("http://")))

    def defaults(self):
        """The package's sampling parameters."""
        own = self.package.defaults
        return {name: getattr(own, name) for name in ("temperature", "top_k", "top_p", "guidance_scale")}

    def draw(self, caption, candidates, seed, image=None, keep_rows=None, **sampling):
        """A drawing's candidates in their order: pictures uint8 [n, h, w, 3], and the scores of each; `sampling` instead of the defaults."""
        drawing = self.client.draw(
            caption, candidates=candidates, seed=seed, previews=0, format=easel.IMAGE_FORMAT_RAW, image=image, keep_rows=keep_rows, **sampling)
        pictures = sorted(drawing.pictures, key=lambda picture: picture.candidate)
        scores = [{"clip": each.clip_score, "likelihood": each.log_likelihood, **_unconditional(each)} for each in pictures]
        return np.stack([_pixels(each.image.data, each.image) for each in pictures]), scores, drawing.started

    def round_trip(self, images):
        """Pictures after the encoder and the decoder."""
        header = decoder_pb2.DecodeRequest.Header(candidates=range(len(images)))
        requests = [decoder_pb2.DecodeRequest(header=header)]
        for i, image in enumerate(images):
            picture = types_pb2.Picture(width=image.shape[1], height=image.shape[0], rgb8=image.tobytes())
            tokens = self._decoder.Encode(decoder_pb2.EncodeRequest(picture=picture)).tokens
            requests.append(decoder_pb2.DecodeRequest(chunk=types_pb2.TokenChunk(candidate=i, tokens=tokens)))
        painted = {}
        for response in self._decoder.Decode(iter(requests)):
            if response.WhichOneof("event") == "finished":
                painted[response.finished.candidate] = _pixels(response.finished.picture.rgb8, response.finished.picture)
        return np.stack([painted[i] for i in range(len(images))])


def _unconditional(picture):
    """Of packages and requests without guidance there is none."""
    told = "unconditional_log_likelihood" in picture.DESCRIPTOR.fields_by_name and picture.HasField("unconditional_log_likelihood")
    return {"unconditional": picture.unconditional_log_likelihood} if told else {}


def _pixels(data, size):
    return np.frombuffer(data, np.uint8).reshape(size.height, size.width, 3)
