"""The compose file really starts: a picture is drawn through it, Prometheus scrapes every service, the collector receives spans."""

import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import easel
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from conftest import ENVIRONMENT, HERE, ROOT, SERVICES, run

PATIENCE_SECONDS = 120


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(condition, what: str):
    """Returns the condition's first true value."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < patience, what
        time.sleep(0.2)
    return value


@pytest.fixture(scope="module")
def suite(images):
    """The compose file, up: addresses of the gateway and of Prometheus."""
    ports = {"EASEL_PORT": str(free_port()), "PROMETHEUS_PORT": str(free_port())}
    compose = ["podman-compose", "-p", "easeltest", "-f", str(ROOT / "deploy/compose.yaml"), "-f", str(HERE / "compose.test.yaml")]
    environment = {**ENVIRONMENT, **ports}
    try:
        started = subprocess.run([*compose, "up", "-d", "--no-build"], env=environment, text=True, capture_output=True, timeout=300)
        assert started.returncode == 0, started.stdout + started.stderr
        gateway = f"127.0.0.1:{ports['EASEL_PORT']}"
        with grpc.insecure_channel(gateway) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            until(lambda: serving(health), "the gateway is not ready")
        yield gateway, f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}"
    finally:
        subprocess.run([*compose, "down", "-t", "5"], env=environment, capture_output=True, timeout=120)


def serving(health) -> bool:
    try:
        return health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    except grpc.RpcError:
        return False


def test_a_picture_is_drawn(suite):
    with easel.Client(suite[0]) as client:
        drawing = client.draw("a red car on the beach", candidates=2, seed=7, timeout=120)
        assert all(stage.status.ready for stage in client.stages())
    assert len(drawing.pictures) == 2 and drawing.pictures[0].image.data.startswith(b"\x89PNG")


def query(prometheus: str, expression: str) -> list:
    url = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def test_prometheus_scrapes_every_service(suite):
    up = until(lambda: (r := query(suite[1], 'up{job="easel"} == 1')) and len(r) == len(SERVICES) and r, "not every service is scraped")
    assert {r["metric"]["stage_service"] for r in up} == set(SERVICES)
    assert until(lambda: query(suite[1], 'easel_slots{stage="sampler"} > 0'), "the sampler shows no slots")
    assert until(lambda: query(suite[1], "easel_pictures_total > 0"), "no pictures are counted")


def test_the_collector_receives_spans(suite):
    until(lambda: "Received traces" in run("podman", "logs", "easeltest_collector_1"), "the collector received no span")
