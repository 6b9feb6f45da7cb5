"""Saved cases: one run as a small text file that still means the same run when the meaning of seeds has changed.

A case is JSON, one operation a line: the removed rule, the violated check with its detail, and the tape by track, span
and label. Zeros are left out, and `-n` in a list means n zeros. `digest` is the digest of the run's steps and `code`
that of the sources it was made with: as long as the sources are the same, so is the digest.

`nodes` is the number of members of a cluster, or a range that the tape draws from. The format has a version; an unknown one
is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import waymaker_core
import waymaker_sim
from waymaker_sim.kernel.checks import CHECKS
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.tape import Saved, SavedSpan, SavedTrack, Tape
from waymaker_sim.mutants import MUTANTS
from waymaker_sim.search.makers import NoNumber, maker
from waymaker_sim.world.run import Report, run_tape

FORMAT = "waymaker simulation case"
VERSION = 1
OF_CLUSTERS = 2
"""The version of cases of clusters. Who knows none would run them with one process."""


class CaseRefused(Exception):
    """An error: a file that is no case, or one of an unknown version. The text says which and why."""


@dataclass(slots=True)
class Case:
    """A saved run and its result when it was saved."""

    tracks: Saved
    seed: int = 0
    """The seed that found it; the tape alone determines the run."""
    mutant: str = ""
    check: str = ""
    """The check that was violated, or empty."""
    detail: str = ""
    digest: str = ""
    code: str = ""
    about: str = ""
    """For people: the reason why the case is kept."""
    nodes: str = ""
    """The number of members, as `search.makers` reads it; empty for a world with one process."""

    def run(self, *, mutant: str | None = None, digest: Digest | None = None) -> Report:
        """Run it, without the rule that was missing when it was saved, or without another one."""
        wanted = self.mutant if mutant is None else mutant
        return run_tape(Tape(self.seed, self.tracks), digest or Digest(), wanted, make=maker(self.nodes))


def made(seed: int, tracks: Saved, mutant: str = "", about: str = "", nodes: str = "") -> Case:
    """Make the case of this tape; runs it once to learn what it shows."""
    case = Case(tracks, seed, mutant, code=code_digest(), about=about, nodes=nodes)
    report = case.run()
    case.check, case.detail, case.digest = report.check, report.detail, report.digest
    return case


@cache
def code_digest() -> str:
    """Return the digest of all sources that a run depends on."""
    found = blake2b(digest_size=8)
    for package in (waymaker_core, waymaker_sim):
        assert package.__file__ is not None
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            found.update(path.relative_to(root).as_posix().encode() + b"\0")
            found.update(path.read_bytes() + b"\0")
    return found.hexdigest()


# ---------------------------------------------------------------- text


def to_text(case: Case) -> str:
    """Return the file's content."""
    head = {"format": FORMAT, "version": OF_CLUSTERS if case.nodes else VERSION, **_head(case)}
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    tracks = ",\n".join(_track_lines(case.tracks))
    return "{\n" + "\n".join(lines) + '\n  "tracks": {' + (f"\n{tracks}\n  " if tracks else "") + "}\n}\n"


def _head(case: Case) -> dict[str, str | int]:
    names = ("about", "check", "detail", "mutant", "nodes", "seed", "digest", "code")
    return {name: value for name in names if (value := getattr(case, name)) or name in ("check", "seed")}


def _track_lines(tracks: Saved) -> Iterator[str]:
    for name in sorted(tracks):
        spans = tracks[name]
        lines = ",\n".join(f'      "{number}": {_span_text(spans[number])}' for number in sorted(spans))
        yield f"    {json.dumps(name)}: {{\n{lines}\n    }}"


def _span_text(span: SavedSpan) -> str:
    return json.dumps({label: list(_packed(span[label])) for label in sorted(span)})


def _packed(values: list[int]) -> Iterator[int]:
    zeros = 0
    for value in values:
        if value == 0:
            zeros += 1
            continue
        if zeros:
            yield -zeros if zeros > 1 else 0
        zeros = 0
        yield value


def from_text(text: str) -> Case:
    """Read the case in a file. Raises `CaseRefused`."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise CaseRefused(f"not a case: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CaseRefused(f"not a case: its format is not {FORMAT!r}")
    if content.get("version") not in (VERSION, OF_CLUSTERS):
        raise CaseRefused(
            f"version {content.get('version')!r} of the format is not known, only {VERSION} and {OF_CLUSTERS}"
        )
    case = Case(_tracks(content.get("tracks")))
    for name in ("about", "check", "detail", "mutant", "nodes", "digest", "code"):
        value = content.get(name, "")
        _require(isinstance(value, str), f"{name} is not a text")
        setattr(case, name, value)
    _require(isinstance(content.get("seed"), int), "seed is not a number")
    case.seed = content["seed"]
    _require(case.check in ("", *CHECKS), f"there is no check {case.check!r}")
    _require(case.mutant in ("", *MUTANTS), f"there is no mutant {case.mutant!r}")
    try:
        maker(case.nodes)
    except NoNumber as error:
        raise CaseRefused(str(error)) from error
    return case


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CaseRefused(otherwise)


def _tracks(content: Any) -> Saved:
    _require(isinstance(content, dict), "tracks are missing")
    return {name: _track(name, spans) for name, spans in content.items()}


def _track(name: str, spans: Any) -> SavedTrack:
    _require(isinstance(spans, dict), f"track {name!r} holds no spans")
    _require(all(number.isdecimal() for number in spans), f"spans of track {name!r} are not numbered")
    track: SavedTrack = {}
    for number, labels in spans.items():
        _require(isinstance(labels, dict), f"span {number} of track {name!r} holds no draws")
        for values in labels.values():
            listed = isinstance(values, list) and all(type(value) is int for value in values)
            _require(listed, f"draws of span {number} of track {name!r} are not integers")
        track[int(number)] = {label: list(_unpacked(values)) for label, values in labels.items()}
    return track


def _unpacked(values: list[int]) -> Iterator[int]:
    for value in values:
        if value < 0:
            yield from [0] * -value
        else:
            yield value
