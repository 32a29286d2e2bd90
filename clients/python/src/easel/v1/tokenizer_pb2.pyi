from easel.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Vocabulary(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VOCABULARY_UNSPECIFIED: _ClassVar[Vocabulary]
    VOCABULARY_SAMPLER: _ClassVar[Vocabulary]
    VOCABULARY_RANKER: _ClassVar[Vocabulary]
VOCABULARY_UNSPECIFIED: Vocabulary
VOCABULARY_SAMPLER: Vocabulary
VOCABULARY_RANKER: Vocabulary

class TokenizeRequest(_message.Message):
    __slots__ = ("package", "prompt", "vocabulary")
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    package: _types_pb2.PackageRef
    prompt: str
    vocabulary: Vocabulary
    def __init__(self, package: _Optional[_Union[_types_pb2.PackageRef, _Mapping]] = ..., prompt: _Optional[str] = ..., vocabulary: _Optional[_Union[Vocabulary, str]] = ...) -> None: ...

class TokenizeResponse(_message.Message):
    __slots__ = ("tokens", "truncated", "package", "unknown_words", "nearest_words")
    class Token(_message.Message):
        __slots__ = ("id", "piece", "start", "end", "unknown")
        ID_FIELD_NUMBER: _ClassVar[int]
        PIECE_FIELD_NUMBER: _ClassVar[int]
        START_FIELD_NUMBER: _ClassVar[int]
        END_FIELD_NUMBER: _ClassVar[int]
        UNKNOWN_FIELD_NUMBER: _ClassVar[int]
        id: int
        piece: str
        start: int
        end: int
        unknown: bool
        def __init__(self, id: _Optional[int] = ..., piece: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., unknown: _Optional[bool] = ...) -> None: ...
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_WORDS_FIELD_NUMBER: _ClassVar[int]
    NEAREST_WORDS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[TokenizeResponse.Token]
    truncated: bool
    package: _types_pb2.PackageRef
    unknown_words: _containers.RepeatedScalarFieldContainer[str]
    nearest_words: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, tokens: _Optional[_Iterable[_Union[TokenizeResponse.Token, _Mapping]]] = ..., truncated: _Optional[bool] = ..., package: _Optional[_Union[_types_pb2.PackageRef, _Mapping]] = ..., unknown_words: _Optional[_Iterable[str]] = ..., nearest_words: _Optional[_Iterable[str]] = ...) -> None: ...

class DetokenizeRequest(_message.Message):
    __slots__ = ("package", "ids", "vocabulary")
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    package: _types_pb2.PackageRef
    ids: _containers.RepeatedScalarFieldContainer[int]
    vocabulary: Vocabulary
    def __init__(self, package: _Optional[_Union[_types_pb2.PackageRef, _Mapping]] = ..., ids: _Optional[_Iterable[int]] = ..., vocabulary: _Optional[_Union[Vocabulary, str]] = ...) -> None: ...

class DetokenizeResponse(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class DescribePackagesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribePackagesResponse(_message.Message):
    __slots__ = ("packages",)
    PACKAGES_FIELD_NUMBER: _ClassVar[int]
    packages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Package]
    def __init__(self, packages: _Optional[_Iterable[_Union[_types_pb2.Package, _Mapping]]] = ...) -> None: ...
