"""The committed stubs are what the contract generates."""

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_stubs_are_fresh(tmp_path):
    spec = importlib.util.spec_from_file_location("regenerate", ROOT / "regenerate.py")
    regenerate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(regenerate)
    regenerate.regenerate(tmp_path)
    made = sorted((tmp_path / "easel" / "v1").iterdir())
    assert made
    for file in made:
        assert file.read_text() == (ROOT / "src/easel/v1" / file.name).read_text(), f"{file.name} is stale: run regenerate.py"
