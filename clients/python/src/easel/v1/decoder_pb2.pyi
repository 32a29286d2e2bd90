from easel.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DecodeRequest(_message.Message):
    __slots__ = ("header", "chunk")
    class Header(_message.Message):
        __slots__ = ("package", "candidates", "previews")
        PACKAGE_FIELD_NUMBER: _ClassVar[int]
        CANDIDATES_FIELD_NUMBER: _ClassVar[int]
        PREVIEWS_FIELD_NUMBER: _ClassVar[int]
        package: _types_pb2.PackageRef
        candidates: _containers.RepeatedScalarFieldContainer[int]
        previews: PreviewPolicy
        def __init__(self, package: _Optional[_Union[_types_pb2.PackageRef, _Mapping]] = ..., candidates: _Optional[_Iterable[int]] = ..., previews: _Optional[_Union[PreviewPolicy, _Mapping]] = ...) -> None: ...
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: DecodeRequest.Header
    chunk: _types_pb2.TokenChunk
    def __init__(self, header: _Optional[_Union[DecodeRequest.Header, _Mapping]] = ..., chunk: _Optional[_Union[_types_pb2.TokenChunk, _Mapping]] = ...) -> None: ...

class PreviewPolicy(_message.Message):
    __slots__ = ("every_tokens",)
    EVERY_TOKENS_FIELD_NUMBER: _ClassVar[int]
    every_tokens: int
    def __init__(self, every_tokens: _Optional[int] = ...) -> None: ...

class DecodeResponse(_message.Message):
    __slots__ = ("preview", "finished")
    class Preview(_message.Message):
        __slots__ = ("candidate", "tokens_done", "picture")
        CANDIDATE_FIELD_NUMBER: _ClassVar[int]
        TOKENS_DONE_FIELD_NUMBER: _ClassVar[int]
        PICTURE_FIELD_NUMBER: _ClassVar[int]
        candidate: int
        tokens_done: int
        picture: _types_pb2.Picture
        def __init__(self, candidate: _Optional[int] = ..., tokens_done: _Optional[int] = ..., picture: _Optional[_Union[_types_pb2.Picture, _Mapping]] = ...) -> None: ...
    class Finished(_message.Message):
        __slots__ = ("candidate", "picture")
        CANDIDATE_FIELD_NUMBER: _ClassVar[int]
        PICTURE_FIELD_NUMBER: _ClassVar[int]
        candidate: int
        picture: _types_pb2.Picture
        def __init__(self, candidate: _Optional[int] = ..., picture: _Optional[_Union[_types_pb2.Picture, _Mapping]] = ...) -> None: ...
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    preview: DecodeResponse.Preview
    finished: DecodeResponse.Finished
    def __init__(self, preview: _Optional[_Union[DecodeResponse.Preview, _Mapping]] = ..., finished: _Optional[_Union[DecodeResponse.Finished, _Mapping]] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("package", "picture")
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    package: _types_pb2.PackageRef
    picture: _types_pb2.Picture
    def __init__(self, package: _Optional[_Union[_types_pb2.PackageRef, _Mapping]] = ..., picture: _Optional[_Union[_types_pb2.Picture, _Mapping]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("grid", "tokens", "seen")
    GRID_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    grid: _types_pb2.Grid
    tokens: _containers.RepeatedScalarFieldContainer[int]
    seen: _types_pb2.Picture
    def __init__(self, grid: _Optional[_Union[_types_pb2.Grid, _Mapping]] = ..., tokens: _Optional[_Iterable[int]] = ..., seen: _Optional[_Union[_types_pb2.Picture, _Mapping]] = ...) -> None: ...
