"""A suite of all five services on the embedded model, shared by the tests."""

import pathlib
import signal
import socket
import subprocess

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = pathlib.Path(__file__).resolve().parents[3]
SUITE = ROOT / "target" / "debug" / "easel-standalone"
PACKAGE = ROOT / "models" / "scenes" / "package"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_ready(target: str) -> None:
    """Returns once the gateway says that it serves."""
    with grpc.insecure_channel(target) as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
        for answer in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return


@pytest.fixture(scope="session")
def gateway():
    """The address of a running gateway."""
    target = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen([SUITE, "--listen", target, "--package", PACKAGE], cwd=ROOT)
    try:
        wait_ready(target)
        yield target
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
