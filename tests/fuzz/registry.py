"""All fuzz targets by name, and the inputs that once made one fail."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

from tests.fuzz import (
    archive_targets,
    directory_targets,
    format_targets,
    kv_targets,
    layer_targets,
    object_targets,
    peer_targets,
    raft_targets,
    request_targets,
    sketch_targets,
    transfer_targets,
)
from tests.fuzz.target import REGRESSIONS, Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for module in (
        format_targets,
        layer_targets,
        directory_targets,
        archive_targets,
        request_targets,
        sketch_targets,
        object_targets,
        kv_targets,
        peer_targets,
        transfer_targets,
        raft_targets,
    )
    for target in module.TARGETS
}


def regression_paths() -> list[Path]:
    """Saved inputs, `TARGET-DIGEST.hex`."""
    return sorted(REGRESSIONS.glob("*.hex"))


def load(path: Path) -> tuple[Target, bytes]:
    """A saved input and its target. Lines that begin with # are remarks."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return TARGETS[path.name.rpartition("-")[0]], bytes.fromhex("".join(lines))


def save(target: Target, data: bytes, remark: str, folder: Path = REGRESSIONS) -> Path:
    """Keep an input as text; the same input is kept once."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target.name}-{sha256(data).hexdigest()[:12]}.hex"
    digits = data.hex()
    lines = [f"# {remark}"] if remark else []
    lines += [digits[at : at + 120] for at in range(0, len(digits), 120)]
    path.write_text("\n".join(lines) + "\n")
    return path
