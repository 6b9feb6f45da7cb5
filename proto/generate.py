"""Writes the Python code of every ``.proto`` file beside ``waymaker_proto/__init__.py``.

Responsible for one thing: the generated modules are a function of the ``.proto`` files and of the exact
generator versions that ``pyproject.toml`` names. ``python proto/generate.py`` writes them in place; another
directory as the only argument receives them instead, which is how a test learns that the committed ones are
current. Messages, services and the type stubs of both are generated; nothing is edited afterwards.

Files are handed to protoc by their path below ``proto/``, so the name a descriptor is registered under is
``waymaker_proto/<file>.proto`` and the modules import each other as ``waymaker_proto.<file>_pb2``, whatever
the working directory.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PACKAGE = "waymaker_proto"
GENERATED_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def sources() -> list[str]:
    """The ``.proto`` files, relative to ``proto/``, in a stable order."""
    return [f"{PACKAGE}/{path.name}" for path in sorted((ROOT / PACKAGE).glob("*.proto"))]


def generate(target: Path) -> list[Path]:
    """Generates into ``target``/waymaker_proto and returns the files written; raises where protoc refuses."""
    import grpc_tools
    from grpc_tools import protoc

    scripts = Path(sysconfig.get_path("scripts"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    (target / PACKAGE).mkdir(parents=True, exist_ok=True)
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={ROOT}",
            f"--proto_path={well_known}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--mypy_out=quiet:{target}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--mypy_grpc_out=quiet:{target}",
            *sources(),
        ]
    )
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}")
    return generated_files(target)


def generated_files(root: Path) -> list[Path]:
    """Every generated file below ``root``/waymaker_proto, in a stable order."""
    return sorted(path for path in (root / PACKAGE).iterdir() if path.name.endswith(GENERATED_SUFFIXES))


def main(arguments: list[str]) -> None:
    target = Path(arguments[0]) if arguments else ROOT
    current = generate(target)
    for path in current:
        stem = path.name.split("_pb2")[0]
        if not (ROOT / PACKAGE / f"{stem}.proto").exists():
            path.unlink()  # the leavings of a .proto file that is gone
    sys.stdout.write(f"generated from {len(sources())} .proto files into {target / PACKAGE}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
