"""Makes the stubs in easel/v1 from the contract in proto/. Needs grpcio-tools.

usage: regenerate.py [FOLDER]
"""

import pathlib
import sys

from grpc_tools import protoc

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "proto"


def regenerate(folder: pathlib.Path) -> None:
    """Writes easel/v1/*_pb2.py, their types and the gRPC stubs below `folder`."""
    files = sorted(str(p.relative_to(SOURCE)) for p in SOURCE.glob("easel/v1/*.proto"))
    if protoc.main(["protoc", f"-I{SOURCE}", f"--python_out={folder}", f"--pyi_out={folder}", f"--grpc_python_out={folder}", *files]) != 0:
        raise SystemExit("protoc failed")


if __name__ == "__main__":
    regenerate(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent / "src")
