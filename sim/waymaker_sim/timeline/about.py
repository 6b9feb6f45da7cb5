"""The subjects of a violation: stream, consumers, sequences, files. Found in its text, and completed from the history.

Violations are written for people and name things in one way throughout: `s0/c1 seq 5`, `attempt 7`, `incarnation 2`, a
file's path. A name that is not found narrows nothing: the timeline then has the last moments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from waymaker_sim.clients.client_view import ClientView, StreamName

PATHS = re.compile(r"(?:journal|blocks|tails|checkpoints|memory)/[\w./-]*\w|MANIFEST(?:\.new)?")
NAMED = re.compile(r"\bseq (\d+)(?: and (\d+))?|\bboth of (\d+)|\balready at (\d+)|\((\d+), \d+\)")
"""Numbers that are called sequences, or precede a delivery count."""
ATTEMPT = re.compile(r"\battempt (\d+)")
NOT_SEQUENCES = re.compile(
    r"\blife \d+|\bstep \d+|\buntil \d+|\bdelivery \d+|\battempt \d+|\bid \d+|\d+\. time|\d+ (?:ms|bytes|messages)\b"
    r"|\d+\.\d+|\w+=\S+"
)
"""Numbers that mean something else."""
BODIES = re.compile(r"b'(?:[^'\\]|\\.)*'|b\"(?:[^\"\\]|\\.)*\"")
"""Bodies of messages, which may contain any text."""
SEQUENCES_MAX = 12


@dataclass(frozen=True, slots=True)
class About:
    """The subjects of a violation."""

    stream: str = ""
    consumers: frozenset[str] = frozenset()
    seqs: frozenset[int] = frozenset()
    paths: frozenset[str] = frozenset()
    subjects: frozenset[tuple[int, str]] = frozenset()
    """Sequences with the subjects of their messages, as far as they are known."""

    def __str__(self) -> str:
        texts = [self.stream] if self.stream else []
        if self.consumers:
            texts.append("consumer " + ", ".join(sorted(self.consumers)))
        if self.seqs:
            texts.append("sequence " + ", ".join(str(seq) for seq in sorted(self.seqs)))
        texts += sorted(self.paths)
        return ", ".join(texts)


def find_subjects(detail: str, view: ClientView) -> About:
    """Find the subjects that a violation's text names."""
    about = _find(detail, view)
    incarnation = view.streams[about.stream].incarnation if about.stream else None
    known = incarnation.at if incarnation is not None else {}
    return replace(about, subjects=frozenset((seq, known[seq].subject) for seq in about.seqs if seq in known))


def _find(detail: str, view: ClientView) -> About:
    detail = BODIES.sub(" ", detail)
    paths = frozenset(PATHS.findall(detail))
    for number in (int(found) for found in ATTEMPT.findall(detail)):
        attempt = next((a for a in view.history.attempts.values() if a.number == number), None)
        if attempt is not None:
            seqs = frozenset([attempt.seq]) if attempt.seq else frozenset()
            return About(attempt.stream, frozenset(), seqs | _sequences(detail, view.streams[attempt.stream]), paths)
    names = "|".join(re.escape(name) for name in sorted(view.streams, key=len, reverse=True))
    found = re.search(rf"(?<![\w.])(?:{names})(?!\w)", detail) if names else None
    if found is None:
        return About(paths=paths)
    stream = view.streams[found.group()]
    return About(stream.name, _consumers(detail, stream), _sequences(detail, stream), paths)


def _consumers(detail: str, stream: StreamName) -> frozenset[str]:
    """Find the consumers that are named, and with each all members of its group."""
    named = {name for name in {*stream.consumers, *stream.deleted} if re.search(rf"\b{re.escape(name)}\b", detail)}
    groups = [
        group for group in (stream.incarnation.groups if stream.incarnation else []) if group.config.name in named
    ]
    for name, consumer in stream.consumers.items():
        if consumer.group is not None and any(consumer.group is group for group in groups):
            named.add(name)
    return frozenset(named)


def _sequences(detail: str, stream: StreamName) -> frozenset[int]:
    """Find the numbers that are called sequences; without any, those that are sequences of the stream."""
    named = {int(number) for numbers in NAMED.findall(detail) for number in numbers if number}
    if named or stream.incarnation is None:
        return frozenset(named)
    plain = NOT_SEQUENCES.sub(" ", PATHS.sub(" ", detail))
    known = stream.incarnation.at
    numbers = [int(number) for number in re.findall(r"(?<![\w.])\d+(?![\w])", plain)]
    return frozenset([number for number in numbers if number in known][:SEQUENCES_MAX])
