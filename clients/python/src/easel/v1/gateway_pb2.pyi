from easel.v1 import status_pb2 as _status_pb2
from easel.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_FORMAT_UNSPECIFIED: _ClassVar[ImageFormat]
    IMAGE_FORMAT_PNG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_JPEG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_WEBP: _ClassVar[ImageFormat]
    IMAGE_FORMAT_RAW: _ClassVar[ImageFormat]

class RankBy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RANK_BY_UNSPECIFIED: _ClassVar[RankBy]
    RANK_BY_CLIP: _ClassVar[RankBy]
    RANK_BY_LIKELIHOOD: _ClassVar[RankBy]
    RANK_BY_CAPTION_GAIN: _ClassVar[RankBy]
    RANK_BY_BOTH: _ClassVar[RankBy]
IMAGE_FORMAT_UNSPECIFIED: ImageFormat
IMAGE_FORMAT_PNG: ImageFormat
IMAGE_FORMAT_JPEG: ImageFormat
IMAGE_FORMAT_WEBP: ImageFormat
IMAGE_FORMAT_RAW: ImageFormat
RANK_BY_UNSPECIFIED: RankBy
RANK_BY_CLIP: RankBy
RANK_BY_LIKELIHOOD: RankBy
RANK_BY_CAPTION_GAIN: RankBy
RANK_BY_BOTH: RankBy

class GenerateRequest(_message.Message):
    __slots__ = ("package", "prompt", "text_tokens", "candidates", "keep", "seed", "parameters", "image", "format", "quality", "previews", "rank_by", "negative_prompt")
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    RANK_BY_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    package: str
    prompt: str
    text_tokens: _containers.RepeatedScalarFieldContainer[int]
    candidates: int
    keep: int
    seed: int
    parameters: _types_pb2.SamplingParameters
    image: ImagePrompt
    format: ImageFormat
    quality: int
    previews: int
    rank_by: RankBy
    negative_prompt: str
    def __init__(self, package: _Optional[str] = ..., prompt: _Optional[str] = ..., text_tokens: _Optional[_Iterable[int]] = ..., candidates: _Optional[int] = ..., keep: _Optional[int] = ..., seed: _Optional[int] = ..., parameters: _Optional[_Union[_types_pb2.SamplingParameters, _Mapping]] = ..., image: _Optional[_Union[ImagePrompt, _Mapping]] = ..., format: _Optional[_Union[ImageFormat, str]] = ..., quality: _Optional[int] = ..., previews: _Optional[int] = ..., rank_by: _Optional[_Union[RankBy, str]] = ..., negative_prompt: _Optional[str] = ...) -> None: ...

class ImagePrompt(_message.Message):
    __slots__ = ("image", "keep_rows", "redraw_from")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    KEEP_ROWS_FIELD_NUMBER: _ClassVar[int]
    REDRAW_FROM_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    keep_rows: int
    redraw_from: Cell
    def __init__(self, image: _Optional[bytes] = ..., keep_rows: _Optional[int] = ..., redraw_from: _Optional[_Union[Cell, _Mapping]] = ...) -> None: ...

class Cell(_message.Message):
    __slots__ = ("row", "column")
    ROW_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    row: int
    column: int
    def __init__(self, row: _Optional[int] = ..., column: _Optional[int] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("queued", "started", "progress", "preview", "picture", "ranking", "finished")
    class Queued(_message.Message):
        __slots__ = ("position", "estimated_wait_seconds")
        POSITION_FIELD_NUMBER: _ClassVar[int]
        ESTIMATED_WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
        position: int
        estimated_wait_seconds: float
        def __init__(self, position: _Optional[int] = ..., estimated_wait_seconds: _Optional[float] = ...) -> None: ...
    class Started(_message.Message):
        __slots__ = ("package", "seeds", "parameters", "text_tokens", "pieces", "truncated", "grid", "unknown_words", "given_tokens", "image_width", "image_height", "nearest_words", "negative_truncated")
        PACKAGE_FIELD_NUMBER: _ClassVar[int]
        SEEDS_FIELD_NUMBER: _ClassVar[int]
        PARAMETERS_FIELD_NUMBER: _ClassVar[int]
        TEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
        PIECES_FIELD_NUMBER: _ClassVar[int]
        TRUNCATED_FIELD_NUMBER: _ClassVar[int]
        GRID_FIELD_NUMBER: _ClassVar[int]
        UNKNOWN_WORDS_FIELD_NUMBER: _ClassVar[int]
        GIVEN_TOKENS_FIELD_NUMBER: _ClassVar[int]
        IMAGE_WIDTH_FIELD_NUMBER: _ClassVar[int]
        IMAGE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
        NEAREST_WORDS_FIELD_NUMBER: _ClassVar[int]
        NEGATIVE_TRUNCATED_FIELD_NUMBER: _ClassVar[int]
        package: _types_pb2.PackageRef
        seeds: _containers.RepeatedScalarFieldContainer[int]
        parameters: _types_pb2.SamplingParameters
        text_tokens: _containers.RepeatedScalarFieldContainer[int]
        pieces: _containers.RepeatedScalarFieldContainer[str]
        truncated: bool
        grid: _types_pb2.Grid
        unknown_words: _containers.RepeatedScalarFieldContainer[str]
        given_tokens: int
        image_width: int
        image_height: int
        nearest_words: _containers.RepeatedScalarFieldContainer[str]
        negative_truncated: bool
        def __init__(self, package: _Optional[_Union[_types_pb2.PackageRef, _Mapping]] = ..., seeds: _Optional[_Iterable[int]] = ..., parameters: _Optional[_Union[_types_pb2.SamplingParameters, _Mapping]] = ..., text_tokens: _Optional[_Iterable[int]] = ..., pieces: _Optional[_Iterable[str]] = ..., truncated: _Optional[bool] = ..., grid: _Optional[_Union[_types_pb2.Grid, _Mapping]] = ..., unknown_words: _Optional[_Iterable[str]] = ..., given_tokens: _Optional[int] = ..., image_width: _Optional[int] = ..., image_height: _Optional[int] = ..., nearest_words: _Optional[_Iterable[str]] = ..., negative_truncated: _Optional[bool] = ...) -> None: ...
    class Progress(_message.Message):
        __slots__ = ("candidate", "tokens_done", "tokens_total", "tokens_per_second")
        CANDIDATE_FIELD_NUMBER: _ClassVar[int]
        TOKENS_DONE_FIELD_NUMBER: _ClassVar[int]
        TOKENS_TOTAL_FIELD_NUMBER: _ClassVar[int]
        TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
        candidate: int
        tokens_done: int
        tokens_total: int
        tokens_per_second: float
        def __init__(self, candidate: _Optional[int] = ..., tokens_done: _Optional[int] = ..., tokens_total: _Optional[int] = ..., tokens_per_second: _Optional[float] = ...) -> None: ...
    class Preview(_message.Message):
        __slots__ = ("candidate", "tokens_done", "image")
        CANDIDATE_FIELD_NUMBER: _ClassVar[int]
        TOKENS_DONE_FIELD_NUMBER: _ClassVar[int]
        IMAGE_FIELD_NUMBER: _ClassVar[int]
        candidate: int
        tokens_done: int
        image: EncodedImage
        def __init__(self, candidate: _Optional[int] = ..., tokens_done: _Optional[int] = ..., image: _Optional[_Union[EncodedImage, _Mapping]] = ...) -> None: ...
    class GeneratedPicture(_message.Message):
        __slots__ = ("candidate", "seed", "image", "clip_score", "image_tokens", "log_likelihood", "unconditional_log_likelihood")
        CANDIDATE_FIELD_NUMBER: _ClassVar[int]
        SEED_FIELD_NUMBER: _ClassVar[int]
        IMAGE_FIELD_NUMBER: _ClassVar[int]
        CLIP_SCORE_FIELD_NUMBER: _ClassVar[int]
        IMAGE_TOKENS_FIELD_NUMBER: _ClassVar[int]
        LOG_LIKELIHOOD_FIELD_NUMBER: _ClassVar[int]
        UNCONDITIONAL_LOG_LIKELIHOOD_FIELD_NUMBER: _ClassVar[int]
        candidate: int
        seed: int
        image: EncodedImage
        clip_score: float
        image_tokens: _containers.RepeatedScalarFieldContainer[int]
        log_likelihood: float
        unconditional_log_likelihood: float
        def __init__(self, candidate: _Optional[int] = ..., seed: _Optional[int] = ..., image: _Optional[_Union[EncodedImage, _Mapping]] = ..., clip_score: _Optional[float] = ..., image_tokens: _Optional[_Iterable[int]] = ..., log_likelihood: _Optional[float] = ..., unconditional_log_likelihood: _Optional[float] = ...) -> None: ...
    class Ranking(_message.Message):
        __slots__ = ("entries", "rank_by")
        class Entry(_message.Message):
            __slots__ = ("candidate", "seed", "clip_score", "log_likelihood", "unconditional_log_likelihood", "score")
            CANDIDATE_FIELD_NUMBER: _ClassVar[int]
            SEED_FIELD_NUMBER: _ClassVar[int]
            CLIP_SCORE_FIELD_NUMBER: _ClassVar[int]
            LOG_LIKELIHOOD_FIELD_NUMBER: _ClassVar[int]
            UNCONDITIONAL_LOG_LIKELIHOOD_FIELD_NUMBER: _ClassVar[int]
            SCORE_FIELD_NUMBER: _ClassVar[int]
            candidate: int
            seed: int
            clip_score: float
            log_likelihood: float
            unconditional_log_likelihood: float
            score: float
            def __init__(self, candidate: _Optional[int] = ..., seed: _Optional[int] = ..., clip_score: _Optional[float] = ..., log_likelihood: _Optional[float] = ..., unconditional_log_likelihood: _Optional[float] = ..., score: _Optional[float] = ...) -> None: ...
        ENTRIES_FIELD_NUMBER: _ClassVar[int]
        RANK_BY_FIELD_NUMBER: _ClassVar[int]
        entries: _containers.RepeatedCompositeFieldContainer[GenerateResponse.Ranking.Entry]
        rank_by: RankBy
        def __init__(self, entries: _Optional[_Iterable[_Union[GenerateResponse.Ranking.Entry, _Mapping]]] = ..., rank_by: _Optional[_Union[RankBy, str]] = ...) -> None: ...
    class Finished(_message.Message):
        __slots__ = ("seeds", "stages", "total_seconds", "tokens_drawn", "tokens_per_second")
        SEEDS_FIELD_NUMBER: _ClassVar[int]
        STAGES_FIELD_NUMBER: _ClassVar[int]
        TOTAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
        TOKENS_DRAWN_FIELD_NUMBER: _ClassVar[int]
        TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
        seeds: _containers.RepeatedScalarFieldContainer[int]
        stages: _containers.RepeatedCompositeFieldContainer[StageTime]
        total_seconds: float
        tokens_drawn: int
        tokens_per_second: float
        def __init__(self, seeds: _Optional[_Iterable[int]] = ..., stages: _Optional[_Iterable[_Union[StageTime, _Mapping]]] = ..., total_seconds: _Optional[float] = ..., tokens_drawn: _Optional[int] = ..., tokens_per_second: _Optional[float] = ...) -> None: ...
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    queued: GenerateResponse.Queued
    started: GenerateResponse.Started
    progress: GenerateResponse.Progress
    preview: GenerateResponse.Preview
    picture: GenerateResponse.GeneratedPicture
    ranking: GenerateResponse.Ranking
    finished: GenerateResponse.Finished
    def __init__(self, queued: _Optional[_Union[GenerateResponse.Queued, _Mapping]] = ..., started: _Optional[_Union[GenerateResponse.Started, _Mapping]] = ..., progress: _Optional[_Union[GenerateResponse.Progress, _Mapping]] = ..., preview: _Optional[_Union[GenerateResponse.Preview, _Mapping]] = ..., picture: _Optional[_Union[GenerateResponse.GeneratedPicture, _Mapping]] = ..., ranking: _Optional[_Union[GenerateResponse.Ranking, _Mapping]] = ..., finished: _Optional[_Union[GenerateResponse.Finished, _Mapping]] = ...) -> None: ...

class StageTime(_message.Message):
    __slots__ = ("stage", "first_seconds", "last_seconds", "busy_seconds")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LAST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BUSY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    first_seconds: float
    last_seconds: float
    busy_seconds: float
    def __init__(self, stage: _Optional[str] = ..., first_seconds: _Optional[float] = ..., last_seconds: _Optional[float] = ..., busy_seconds: _Optional[float] = ...) -> None: ...

class EncodedImage(_message.Message):
    __slots__ = ("format", "width", "height", "data")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    format: ImageFormat
    width: int
    height: int
    data: bytes
    def __init__(self, format: _Optional[_Union[ImageFormat, str]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ListPackagesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPackagesResponse(_message.Message):
    __slots__ = ("packages",)
    PACKAGES_FIELD_NUMBER: _ClassVar[int]
    packages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Package]
    def __init__(self, packages: _Optional[_Iterable[_Union[_types_pb2.Package, _Mapping]]] = ...) -> None: ...

class GetPackageRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetPackageResponse(_message.Message):
    __slots__ = ("package",)
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    package: _types_pb2.Package
    def __init__(self, package: _Optional[_Union[_types_pb2.Package, _Mapping]] = ...) -> None: ...

class GatewayServiceClassifyRequest(_message.Message):
    __slots__ = ("package", "image", "labels")
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    package: str
    image: bytes
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, package: _Optional[str] = ..., image: _Optional[bytes] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class GatewayServiceClassifyResponse(_message.Message):
    __slots__ = ("entries",)
    class Entry(_message.Message):
        __slots__ = ("label", "probability", "clip_score", "unknown_words", "nearest_words")
        LABEL_FIELD_NUMBER: _ClassVar[int]
        PROBABILITY_FIELD_NUMBER: _ClassVar[int]
        CLIP_SCORE_FIELD_NUMBER: _ClassVar[int]
        UNKNOWN_WORDS_FIELD_NUMBER: _ClassVar[int]
        NEAREST_WORDS_FIELD_NUMBER: _ClassVar[int]
        label: str
        probability: float
        clip_score: float
        unknown_words: _containers.RepeatedScalarFieldContainer[str]
        nearest_words: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ..., clip_score: _Optional[float] = ..., unknown_words: _Optional[_Iterable[str]] = ..., nearest_words: _Optional[_Iterable[str]] = ...) -> None: ...
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[GatewayServiceClassifyResponse.Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[GatewayServiceClassifyResponse.Entry, _Mapping]]] = ...) -> None: ...

class GatewayServiceEmbedRequest(_message.Message):
    __slots__ = ("package", "texts", "images")
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    package: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    images: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, package: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., images: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GatewayServiceEmbedResponse(_message.Message):
    __slots__ = ("texts", "images")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedCompositeFieldContainer[_types_pb2.Embedding]
    images: _containers.RepeatedCompositeFieldContainer[_types_pb2.Embedding]
    def __init__(self, texts: _Optional[_Iterable[_Union[_types_pb2.Embedding, _Mapping]]] = ..., images: _Optional[_Iterable[_Union[_types_pb2.Embedding, _Mapping]]] = ...) -> None: ...

class ListStagesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListStagesResponse(_message.Message):
    __slots__ = ("stages",)
    STAGES_FIELD_NUMBER: _ClassVar[int]
    stages: _containers.RepeatedCompositeFieldContainer[Stage]
    def __init__(self, stages: _Optional[_Iterable[_Union[Stage, _Mapping]]] = ...) -> None: ...

class Stage(_message.Message):
    __slots__ = ("name", "address", "reachable", "error", "status")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    name: str
    address: str
    reachable: bool
    error: str
    status: _status_pb2.GetStatusResponse
    def __init__(self, name: _Optional[str] = ..., address: _Optional[str] = ..., reachable: _Optional[bool] = ..., error: _Optional[str] = ..., status: _Optional[_Union[_status_pb2.GetStatusResponse, _Mapping]] = ...) -> None: ...
