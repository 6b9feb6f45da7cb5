"""A server of the command's own: a process on a free port of this machine, whose data is in a temporary directory.

It never outlives the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from waymaker.cli import exits
from waymaker.cli.child_server import command_of
from waymaker.cli.failure import CommandError

STOP_S: Final = 30.0


@contextlib.contextmanager
def own_server(folder: Path) -> Iterator[str]:
    """Run a server with its data in a new directory in this one; yield its address. The directory is removed afterwards."""
    try:
        directory = tempfile.TemporaryDirectory(prefix=".waymaker-bench-", dir=folder)
    except OSError as error:
        raise CommandError(
            f"no data directory can be made in {folder}: {error.strerror}", exits.USAGE, "--folder names another one"
        ) from error
    with directory as place:
        process = _start(Path(place))
        try:
            yield _address(process, Path(place))
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(place: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WAYMAKER_")}
    with (place / "log").open("wb") as log:
        return subprocess.Popen(
            [
                *command_of("serve", "--json", "--log-level", "warning"),
                *("--data-dir", str(place / "data"), "--listen", "127.0.0.1:0", "--link-listen", "127.0.0.1:0"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the command, which still needs the server then
        )


def _address(process: subprocess.Popen[bytes], place: Path) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        said = (place / "log").read_text(errors="replace").strip()
        raise CommandError(f"the server did not start: {said[-2_000:]}", exits.FAILED, code="cannot_start")
    return str(json.loads(line)["address"])
