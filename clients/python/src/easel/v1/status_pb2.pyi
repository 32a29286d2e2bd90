from easel.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("service", "version", "ready", "detail", "queue_depth", "queue_capacity", "slots_in_use", "slots_total", "packages", "device", "resident_memory_bytes", "uptime_seconds")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    QUEUE_CAPACITY_FIELD_NUMBER: _ClassVar[int]
    SLOTS_IN_USE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    PACKAGES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    service: str
    version: str
    ready: bool
    detail: str
    queue_depth: int
    queue_capacity: int
    slots_in_use: int
    slots_total: int
    packages: _containers.RepeatedCompositeFieldContainer[_types_pb2.PackageRef]
    device: str
    resident_memory_bytes: int
    uptime_seconds: float
    def __init__(self, service: _Optional[str] = ..., version: _Optional[str] = ..., ready: _Optional[bool] = ..., detail: _Optional[str] = ..., queue_depth: _Optional[int] = ..., queue_capacity: _Optional[int] = ..., slots_in_use: _Optional[int] = ..., slots_total: _Optional[int] = ..., packages: _Optional[_Iterable[_Union[_types_pb2.PackageRef, _Mapping]]] = ..., device: _Optional[str] = ..., resident_memory_bytes: _Optional[int] = ..., uptime_seconds: _Optional[float] = ...) -> None: ...
