"""Known seeds: for each mutant a seed that notices, kept in a file that the gate writes.

A change of the core or of the worlds changes the meaning of seeds. The gate tries the seed that the file names, then
the seeds that notice other mutants, for they belong to eventful worlds, and only then the range that it was given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from waymaker_sim.search import gate


def load_seeds(path: Path) -> dict[str, int]:
    """Read a file of known seeds, by mutant. A missing file has none; ValueError if it is no such file."""
    if not path.exists():
        return {}
    known = json.loads(path.read_text())
    if not isinstance(known, dict) or not all(type(seed) is int for seed in known.values()):
        raise ValueError(f"{path}: not an object of seeds by mutant")
    return {str(name): seed for name, seed in known.items()}


def save_seeds(path: Path, results: Iterable[gate.GateResult], names: Iterable[str]) -> None:
    """Write the seeds that noticed mutants; those of other mutants stay, and names without a mutant are removed."""
    known = load_seeds(path) | {result.mutant: result.seed for result in results if not result.escaped()}
    kept = {name: known[name] for name in sorted(names) if name in known}
    path.write_text(json.dumps(kept, indent=2) + "\n")


def find_seed_from(name: str, known: dict[str, int], seeds: range, runs_max: int) -> gate.GateResult:
    """Search as `gate.find_seed` does, beginning with the mutant's own known seed and then those of the others."""
    own = known.get(name)
    tried = dict.fromkeys(chain([] if own is None else [own], known.values(), seeds))
    return gate.find_seed(name, tried, runs_max, own)
