from easel.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RankRequest(_message.Message):
    __slots__ = ("header", "candidate")
    class Header(_message.Message):
        __slots__ = ("package", "caption")
        PACKAGE_FIELD_NUMBER: _ClassVar[int]
        CAPTION_FIELD_NUMBER: _ClassVar[int]
        package: _types_pb2.PackageRef
        caption: _types_pb2.TextTokens
        def __init__(self, package: _Optional[_Union[_types_pb2.PackageRef, _Mapping]] = ..., caption: _Optional[_Union[_types_pb2.TextTokens, _Mapping]] = ...) -> None: ...
    class Candidate(_message.Message):
        __slots__ = ("id", "picture")
        ID_FIELD_NUMBER: _ClassVar[int]
        PICTURE_FIELD_NUMBER: _ClassVar[int]
        id: int
        picture: _types_pb2.Picture
        def __init__(self, id: _Optional[int] = ..., picture: _Optional[_Union[_types_pb2.Picture, _Mapping]] = ...) -> None: ...
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    header: RankRequest.Header
    candidate: RankRequest.Candidate
    def __init__(self, header: _Optional[_Union[RankRequest.Header, _Mapping]] = ..., candidate: _Optional[_Union[RankRequest.Candidate, _Mapping]] = ...) -> None: ...

class RankResponse(_message.Message):
    __slots__ = ("candidate", "clip_score")
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    CLIP_SCORE_FIELD_NUMBER: _ClassVar[int]
    candidate: int
    clip_score: float
    def __init__(self, candidate: _Optional[int] = ..., clip_score: _Optional[float] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("package", "texts", "pictures")
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    package: _types_pb2.PackageRef
    texts: _containers.RepeatedCompositeFieldContainer[_types_pb2.TextTokens]
    pictures: _containers.RepeatedCompositeFieldContainer[_types_pb2.Picture]
    def __init__(self, package: _Optional[_Union[_types_pb2.PackageRef, _Mapping]] = ..., texts: _Optional[_Iterable[_Union[_types_pb2.TextTokens, _Mapping]]] = ..., pictures: _Optional[_Iterable[_Union[_types_pb2.Picture, _Mapping]]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("texts", "pictures")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedCompositeFieldContainer[_types_pb2.Embedding]
    pictures: _containers.RepeatedCompositeFieldContainer[_types_pb2.Embedding]
    def __init__(self, texts: _Optional[_Iterable[_Union[_types_pb2.Embedding, _Mapping]]] = ..., pictures: _Optional[_Iterable[_Union[_types_pb2.Embedding, _Mapping]]] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("package", "picture", "labels")
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    package: _types_pb2.PackageRef
    picture: _types_pb2.Picture
    labels: _containers.RepeatedCompositeFieldContainer[_types_pb2.TextTokens]
    def __init__(self, package: _Optional[_Union[_types_pb2.PackageRef, _Mapping]] = ..., picture: _Optional[_Union[_types_pb2.Picture, _Mapping]] = ..., labels: _Optional[_Iterable[_Union[_types_pb2.TextTokens, _Mapping]]] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("probabilities", "clip_scores")
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    CLIP_SCORES_FIELD_NUMBER: _ClassVar[int]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    clip_scores: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, probabilities: _Optional[_Iterable[float]] = ..., clip_scores: _Optional[_Iterable[float]] = ...) -> None: ...
