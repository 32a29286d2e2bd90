"""The client: a channel to the gateway, and what to do with what it answers."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import grpc

from .errors import translated
from .v1 import gateway_pb2 as pb
from .v1 import gateway_pb2_grpc, types_pb2

_EXTENSIONS = {
    pb.IMAGE_FORMAT_UNSPECIFIED: "png",
    pb.IMAGE_FORMAT_PNG: "png",
    pb.IMAGE_FORMAT_JPEG: "jpg",
    pb.IMAGE_FORMAT_WEBP: "webp",
    pb.IMAGE_FORMAT_RAW: "rgb",
}
_OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


def extension(image: pb.EncodedImage) -> str:
    """The file name extension of an encoded picture, without the dot."""
    return _EXTENSIONS[image.format]


def save(image: pb.EncodedImage, path: str | pathlib.Path) -> pathlib.Path:
    """Writes a picture to `path` (its format's extension is appended when `path` has none) and returns where it lies."""
    path = pathlib.Path(path)
    if not path.suffix:
        path = path.with_name(f"{path.name}.{extension(image)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image.data)
    return path


class Generation(Iterator):
    """The events of one drawing, as they come: messages Queued, Started, Progress, Preview, GeneratedPicture, Ranking, Finished."""

    def __init__(self, call: grpc.Call):
        self._call = call

    def __next__(self):
        with translated():
            response = next(self._call)
        return getattr(response, response.WhichOneof("event"))

    def close(self) -> None:
        """Cancels what is not finished, in every stage."""
        self._call.cancel()

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


@dataclasses.dataclass
class Drawing:
    """A finished drawing.

    Attributes:
        pictures: best first where they were ranked, else in the order of their candidates.
        started: seeds, parameters, tokens: all that is needed to repeat it.
        ranking: every candidate's score and likelihoods, best first, and what it is ranked by.
        finished: the times of every stage.
    """

    pictures: list[pb.GenerateResponse.GeneratedPicture]
    started: pb.GenerateResponse.Started
    ranking: pb.GenerateResponse.Ranking
    finished: pb.GenerateResponse.Finished

    @classmethod
    def of(cls, events: Iterable) -> Drawing:
        """Collects the events of a generation."""
        by_kind: dict[type, object] = {}
        pictures = {}
        for event in events:
            if isinstance(event, pb.GenerateResponse.GeneratedPicture):
                pictures[event.candidate] = event
            else:
                by_kind[type(event)] = event
        ranking = by_kind[pb.GenerateResponse.Ranking]
        order = [entry.candidate for entry in ranking.entries] or sorted(pictures)
        return cls(
            pictures=[pictures[c] for c in order if c in pictures],
            started=by_kind[pb.GenerateResponse.Started],
            ranking=ranking,
            finished=by_kind[pb.GenerateResponse.Finished],
        )

    def save(self, folder: str | pathlib.Path) -> list[pathlib.Path]:
        """Writes the pictures as `01-seed7.png`, best first, and returns the paths."""
        folder = pathlib.Path(folder)
        return [save(p.image, folder / f"{rank:02}-seed{p.seed}.{extension(p.image)}") for rank, p in enumerate(self.pictures, 1)]


class Client:
    """A connection to a gateway; made at the first call, and again whenever it is lost."""

    def __init__(
        self,
        target: str = "127.0.0.1:50050",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        traceparent: str | None = None,
        timeout: float | None = None,
    ):
        """Opens a channel to `target` ("host:port"), over TLS when `credentials` are given.

        `traceparent` (W3C) is sent with every call, so that the suite's spans join the caller's trace. Every call must be finished within `timeout`
        seconds, else DEADLINE_EXCEEDED.
        """
        target = target.removeprefix("http://")
        self._channel = grpc.secure_channel(target, credentials, _OPTIONS) if credentials else grpc.insecure_channel(target, _OPTIONS)
        self._gateway = gateway_pb2_grpc.GatewayServiceStub(self._channel)
        self._metadata = [("traceparent", traceparent)] if traceparent else None
        self._timeout = timeout

    def generate(
        self,
        prompt: str = "",
        *,
        candidates: int = 1,
        keep: int = 0,
        rank_by: int = pb.RANK_BY_UNSPECIFIED,
        seed: int | None = None,
        package: str = "",
        text_tokens: Sequence[int] = (),
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str = "",
        image: bytes | None = None,
        keep_rows: int | None = None,
        redraw_from: tuple[int, int] | None = None,
        format: int = pb.IMAGE_FORMAT_PNG,
        quality: int = 0,
        previews: int | None = None,
        timeout: float | None = None,
    ) -> Generation:
        """Draws pictures of a caption; see `easel.v1.GenerateRequest` for the meaning of every argument. `timeout` is in seconds; left out, the
        client's.

        Raises Error, at the first event or any later one.
        """
        request = pb.GenerateRequest(
            package=package, prompt=prompt, text_tokens=text_tokens, candidates=candidates, keep=keep, rank_by=rank_by, seed=seed, format=format,
            quality=quality, previews=previews, negative_prompt=negative_prompt,
            parameters=types_pb2.SamplingParameters(temperature=temperature, top_k=top_k, top_p=top_p, guidance_scale=guidance_scale),
        )
        if image is not None:
            request.image.image = image
        if keep_rows is not None:
            request.image.keep_rows = keep_rows
        if redraw_from is not None:
            request.image.redraw_from.row, request.image.redraw_from.column = redraw_from
        timeout = self._timeout if timeout is None else timeout
        return Generation(self._gateway.Generate(request, timeout=timeout, metadata=self._metadata))

    def draw(self, prompt: str = "", **arguments) -> Drawing:
        """Draws pictures of a caption and waits for all of them; arguments as for `generate`."""
        with self.generate(prompt, **arguments) as events:
            return Drawing.of(events)

    def classify(self, image: bytes, labels: Sequence[str], *, package: str = "") -> list[pb.GatewayServiceClassifyResponse.Entry]:
        """A picture (PNG, JPEG or WebP) against labels: label, probability and clip_score, most likely first."""
        request = pb.GatewayServiceClassifyRequest(package=package, image=image, labels=labels)
        return list(self._call(self._gateway.Classify, request).entries)

    def embed(self, texts: Sequence[str] = (), images: Sequence[bytes] = (), *, package: str = "") -> pb.GatewayServiceEmbedResponse:
        """Texts and pictures as unit vectors of CLIP's joint space."""
        return self._call(self._gateway.Embed, pb.GatewayServiceEmbedRequest(package=package, texts=texts, images=images))

    def packages(self) -> list[types_pb2.Package]:
        """The packages that can be drawn with, the default first."""
        return list(self._call(self._gateway.ListPackages, pb.ListPackagesRequest()).packages)

    def package(self, name: str = "") -> types_pb2.Package:
        """One package: grid, limits, defaults, licence."""
        return self._call(self._gateway.GetPackage, pb.GetPackageRequest(name=name)).package

    def stages(self) -> list[pb.Stage]:
        """Every stage that the gateway knows, its health and its load."""
        return list(self._call(self._gateway.ListStages, pb.ListStagesRequest()).stages)

    def _call(self, method, request):
        with translated():
            return method(request, timeout=self._timeout, metadata=self._metadata)

    def close(self) -> None:
        """Closes the channel; what is running is cancelled."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_) -> None:
        self.close()
