from easel.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SampleRequest(_message.Message):
    __slots__ = ("package", "text_tokens", "candidates", "parameters", "given", "chunk_size", "negative_tokens")
    class Candidate(_message.Message):
        __slots__ = ("id", "seed")
        ID_FIELD_NUMBER: _ClassVar[int]
        SEED_FIELD_NUMBER: _ClassVar[int]
        id: int
        seed: int
        def __init__(self, id: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    TEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    CHUNK_SIZE_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    package: _types_pb2.PackageRef
    text_tokens: _containers.RepeatedScalarFieldContainer[int]
    candidates: _containers.RepeatedCompositeFieldContainer[SampleRequest.Candidate]
    parameters: _types_pb2.SamplingParameters
    given: _types_pb2.GivenTokens
    chunk_size: int
    negative_tokens: _types_pb2.TextTokens
    def __init__(self, package: _Optional[_Union[_types_pb2.PackageRef, _Mapping]] = ..., text_tokens: _Optional[_Iterable[int]] = ..., candidates: _Optional[_Iterable[_Union[SampleRequest.Candidate, _Mapping]]] = ..., parameters: _Optional[_Union[_types_pb2.SamplingParameters, _Mapping]] = ..., given: _Optional[_Union[_types_pb2.GivenTokens, _Mapping]] = ..., chunk_size: _Optional[int] = ..., negative_tokens: _Optional[_Union[_types_pb2.TextTokens, _Mapping]] = ...) -> None: ...

class SampleResponse(_message.Message):
    __slots__ = ("queued", "admitted", "chunk", "finished")
    class Queued(_message.Message):
        __slots__ = ("position", "estimated_wait_seconds")
        POSITION_FIELD_NUMBER: _ClassVar[int]
        ESTIMATED_WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
        position: int
        estimated_wait_seconds: float
        def __init__(self, position: _Optional[int] = ..., estimated_wait_seconds: _Optional[float] = ...) -> None: ...
    class Admitted(_message.Message):
        __slots__ = ("slots", "slots_total", "queue_seconds", "prefill_tokens")
        SLOTS_FIELD_NUMBER: _ClassVar[int]
        SLOTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
        QUEUE_SECONDS_FIELD_NUMBER: _ClassVar[int]
        PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
        slots: int
        slots_total: int
        queue_seconds: float
        prefill_tokens: int
        def __init__(self, slots: _Optional[int] = ..., slots_total: _Optional[int] = ..., queue_seconds: _Optional[float] = ..., prefill_tokens: _Optional[int] = ...) -> None: ...
    class Finished(_message.Message):
        __slots__ = ("candidate", "steps", "prefill_seconds", "step_seconds", "mean_batch_rows", "log_likelihood", "unconditional_log_likelihood")
        CANDIDATE_FIELD_NUMBER: _ClassVar[int]
        STEPS_FIELD_NUMBER: _ClassVar[int]
        PREFILL_SECONDS_FIELD_NUMBER: _ClassVar[int]
        STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
        MEAN_BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
        LOG_LIKELIHOOD_FIELD_NUMBER: _ClassVar[int]
        UNCONDITIONAL_LOG_LIKELIHOOD_FIELD_NUMBER: _ClassVar[int]
        candidate: int
        steps: int
        prefill_seconds: float
        step_seconds: float
        mean_batch_rows: float
        log_likelihood: float
        unconditional_log_likelihood: float
        def __init__(self, candidate: _Optional[int] = ..., steps: _Optional[int] = ..., prefill_seconds: _Optional[float] = ..., step_seconds: _Optional[float] = ..., mean_batch_rows: _Optional[float] = ..., log_likelihood: _Optional[float] = ..., unconditional_log_likelihood: _Optional[float] = ...) -> None: ...
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    queued: SampleResponse.Queued
    admitted: SampleResponse.Admitted
    chunk: _types_pb2.TokenChunk
    finished: SampleResponse.Finished
    def __init__(self, queued: _Optional[_Union[SampleResponse.Queued, _Mapping]] = ..., admitted: _Optional[_Union[SampleResponse.Admitted, _Mapping]] = ..., chunk: _Optional[_Union[_types_pb2.TokenChunk, _Mapping]] = ..., finished: _Optional[_Union[SampleResponse.Finished, _Mapping]] = ...) -> None: ...
