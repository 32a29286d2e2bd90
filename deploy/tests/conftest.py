"""Images for the compose file, made without a registry: a root file system of Debian packages, and the binaries that were built here."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
SERVICES = ["tokenizer", "sampler", "decoder", "ranker", "gateway"]
ROTEL = "rotel==0.0.1a15"
ENVIRONMENT = {**os.environ, "CONTAINERS_CONF": str(HERE / "containers.conf")}


def run(*command, **options) -> str:
    """Runs a command to its end and returns what it printed; fails with all of its output."""
    result = subprocess.run([str(c) for c in command], env=ENVIRONMENT, text=True, capture_output=True, timeout=600, **options)
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """easel-<service>, easel-test-collector and easel-test-base in podman's own store."""
    folder = tmp_path_factory.mktemp("context")
    if subprocess.run(["podman", "image", "exists", "localhost/easel-test-base"], env=ENVIRONMENT).returncode != 0:
        archive = folder / "base.tar"
        run("mmdebstrap", "--variant=minbase", "--include=ca-certificates,prometheus,libpython3.11", "bookworm", archive)
        run("podman", "import", archive, "localhost/easel-test-base")
        archive.unlink()
    context(folder)
    for service in SERVICES:
        # The defaults are named too: buildah 1.28 does not see them when it looks for the stages that are needed.
        arguments = {"BASE": "localhost/easel-test-base", "BINARIES": "prebuilt", "VARIANT": "cpu", "SERVICE": service}
        flags = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        run("podman", "build", *flags, "-f", ROOT / "deploy/Containerfile", "-t", f"localhost/easel-{service}:latest", folder)
    collector = folder / "collector"
    run("python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", collector, ROTEL)
    (collector / "Containerfile").write_text(
        "FROM localhost/easel-test-base\nCOPY rotel/rotel-agent /usr/local/bin/rotel-agent\n"
    )
    run("podman", "build", "-t", "localhost/easel-test-collector", collector)


def context(folder: pathlib.Path) -> None:
    """Lays out what the recipe copies with BINARIES=prebuilt: the debug binaries, stripped, and ONNX Runtime."""
    release = folder / "target" / "release"
    release.mkdir(parents=True)
    for service in SERVICES:
        run("strip", "-o", release / f"easel-{service}", ROOT / "target" / "debug" / f"easel-{service}")
    shutil.copytree(ROOT / ".tools" / "onnxruntime", folder / ".tools" / "onnxruntime")
