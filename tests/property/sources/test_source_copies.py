"""Copies by themselves: both ways of making them agree, payloads are carried over, and positions are read back or refused."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.model.config import SourceConfig, SubjectTransform
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import decode_body, encode_body
from waymaker_core.model.records import LayerRecord
from waymaker_core.sources import copies
from waymaker_core.sources.copies import CopyBounds, CopyRule, Cut, SourceMessages
from waymaker_core.sources.positions import Incarnation, Position, Positions, encode_positions
from waymaker_core.storage.config_codec import encode_plain
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

LIMITS = Limits()
SUBJECTS = st.sampled_from(["a", "a.b", "100%", "é.%d", "x.y"])
PAYLOADS = st.binary(max_size=20) | st.just(b'"\x16\n\x10waymaker-source-x')
HEADERS = st.lists(
    st.tuples(st.sampled_from(["h", "k%"]), st.text(st.characters(codec="utf-8"), max_size=3)), max_size=2
)
RULES = st.sampled_from([None, SubjectTransform(">", "t.%s.>"), SubjectTransform("*.*", "$2.$1")])


def cuts_of(bodies: list[bytes]) -> list[Cut]:
    """Lay bodies into two chunks, with other bytes before and behind each of them."""
    half = len(bodies) // 2
    cuts = []
    for some in (bodies[:half], bodies[half:]):
        starts = [sum(map(len, some[:at])) + 2 * at + 1 for at in range(len(some))]
        cuts.append(Cut(b"-" + b"--".join(some) + b"-", starts, list(map(len, some))))
    return cuts


@st.composite
def batches(draw: st.DrawFn) -> SourceMessages:
    count = draw(st.integers(1, 8))
    first = draw(st.sampled_from([1, 8, 97, 10**9]))
    made = [(draw(SUBJECTS), draw(HEADERS), draw(PAYLOADS)) for _ in range(count)]
    encoded = [encode_body(*each, LIMITS) for each in made]
    sizes = [size + len(subject.encode()) for (subject, _, _), (_, size) in zip(made, encoded, strict=True)]
    times = [draw(st.sampled_from([0, 7, 1_700_000_000_000])) for _ in range(count)]
    seqs = [first + step for step in range(count)]
    return SourceMessages(seqs, times, [each[0] for each in made], sizes, cuts_of([body for body, _ in encoded]))


@given(batches(), RULES, st.sampled_from([1 << 20, 10]), st.sampled_from([0, 12]), st.sampled_from([1 << 20, 300]))
def test_copies_made_together_are_those_made_one_by_one(
    batch: SourceMessages, rule: SubjectTransform | None, size_max: int, stored_max: int, room: int
) -> None:
    source = SourceConfig("from", subject_transform=rule)
    bounds = CopyBounds(size_max, stored_max, room)
    one, other = (
        CopyRule(source, LIMITS).take_messages(batch, bounds),
        CopyRule(source, LIMITS)._make_each(batch, bounds),
    )
    assert (one.subjects, one.sizes, one.lengths) == (other.subjects, other.sizes, other.lengths)
    assert (one.body, one.taken) == (other.body, other.taken)
    ends = list(accumulate(one.lengths, initial=0))
    assert ends[-1] == len(one.body)
    bodies = [one.body[start:end] for start, end in pairwise(ends)]
    assert [each.place for each in one.failures] == [each.place for each in other.failures]
    failed = [each.place for each in one.failures]
    originals = [place for place in range(one.taken) if place not in failed]
    for place, subject, body in zip(originals, one.subjects, bodies, strict=True):
        target, headers, payload = decode_body(body)
        _, old_headers, old_payload = decode_body(batch.bodies[place])
        assert (target, payload) == (subject, old_payload)
        assert [each for each in headers if not each[0].startswith(copies.PREFIX)] == old_headers
        marks = dict(headers)
        assert (marks[copies.STREAM], marks[copies.SUBJECT]) == ("from", batch.subjects[place])
        assert (marks[copies.SEQ], marks[copies.TIME]) == (str(batch.seqs[place]), str(batch.times_ms[place]))


def test_a_rule_remembers_a_bounded_number_of_subjects() -> None:
    rule = CopyRule(SourceConfig("from"), LIMITS)
    bounds = CopyBounds(1 << 20, 0, 1 << 20)
    for turn in range(30):
        subjects = [f"s.{turn}.{number}" for number in range(1_000)]
        bodies = [encode_body(subject, (), b"", LIMITS)[0] for subject in subjects]
        seqs = range(10_000 + 1_000 * turn, 11_000 + 1_000 * turn)
        rule.take_messages(
            SourceMessages(seqs, [5] * 1_000, subjects, list(map(len, subjects)), cuts_of(bodies)), bounds
        )
    assert len(rule._known) <= copies.SUBJECTS_REMEMBERED + 1_000


POSITION = Position(Incarnation(7, 1_700_000_000_000), 12)


def test_positions_come_with_their_record_and_go_with_the_leading() -> None:
    positions = Positions(2)
    record = LayerRecord(None, facts=[(positions.kind, encode_positions({1: POSITION}))])
    positions.stage(record, 1, POSITION)
    assert positions.projected(1) == POSITION and positions.committed(1) is None and positions.has_staged()
    positions.discard_uncommitted()
    assert positions.projected(1) is None and not positions.has_staged()
    positions.apply(record)
    assert positions.committed(1) == POSITION and positions.committed(0) is None
    again = Positions(2)
    again.restore(positions.snapshot())
    assert again.snapshot() == positions.snapshot()
    (fact,) = positions.import_facts(positions.snapshot())
    third = Positions(2)
    third.apply(LayerRecord(None, facts=[(third.kind, fact)]))
    assert third.committed(1) == POSITION


@pytest.mark.parametrize(
    "value",
    [
        None, 5, [5], [[0, 1, 2]], [[2, 1, 1, 1]], [[-1, 1, 1, 1]], [[0, 0, 1, 1]], [[0, 1, -1, 1]], [[0, 1, 1, -1]],
        [[0, 1, 1, 1 << 63]], [[0, 1, 1, 1], [0, 1, 1, 2]], [["0", 1, 1, 1]], {"0": 1},
    ],
)  # fmt: skip
def test_positions_that_cannot_be_are_refused(value: object) -> None:
    positions = Positions(2)
    with pytest.raises(CorruptRecord):
        positions.apply(LayerRecord(None, facts=[(positions.kind, encode_plain(value))]))
    with pytest.raises(CorruptRecord):
        positions.restore([1, value])
    with pytest.raises((CorruptRecord, UnknownVersion)):
        positions.restore(value)


def test_positions_of_a_newer_program_are_refused_by_version() -> None:
    with pytest.raises(UnknownVersion):
        Positions(1).restore([2, []])
