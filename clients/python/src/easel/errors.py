"""What a failed call says, with the google.rpc details that Easel attaches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


class Error(Exception):
    """A call failed.

    Attributes:
        code: the gRPC status code.
        fields: what was wrong with the request, by field path ("parameters.temperature").
        retry_after: seconds after which the call may succeed; None when the server did not say.
    """

    def __init__(self, code: grpc.StatusCode, message: str, fields: dict[str, str], retry_after: float | None):
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.fields = fields
        self.retry_after = retry_after

    @classmethod
    def of(cls, error: grpc.RpcError) -> Error:
        """The error behind grpcio's."""
        fields: dict[str, str] = {}
        retry_after = None
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad = error_details_pb2.BadRequest.FromString(detail.value)
                fields.update((v.field, v.description) for v in bad.field_violations)
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
                retry_after = delay.seconds + delay.nanos / 1e9
        return cls(error.code(), error.details() or "", fields, retry_after)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns grpcio's errors into Error."""
    try:
        yield
    except grpc.RpcError as error:
        raise Error.of(error) from error
