"""Dead letters that an archive has to hold since it lacks their originals."""

from __future__ import annotations

import pytest

from waymaker.server.grpc.export import is_dead_letter_of_missing

READS = [(10, 105), (25, 120)]
"""Two pages: up to 10, after which the stream ended at 105, and up to 25, after which it ended at 120; the head ends at 100."""


@pytest.mark.parametrize(
    ("seq", "headers", "wanted"),
    [
        (104, [("x-waymaker-dlq-seq", "10")], True),
        (105, [("x-waymaker-dlq-seq", "3")], True),
        (106, [("x-waymaker-dlq-seq", "10")], False),
        (106, [("x-waymaker-dlq-seq", "11")], True),
        (121, [("x-waymaker-dlq-seq", "25")], False),
        (999, [("x-waymaker-dlq-seq", "26")], True),
        (999, [("x-waymaker-dlq-seq", "100")], True),
        (999, [("x-waymaker-dlq-seq", "101")], False),
        (104, [("x-waymaker-dlq-seq", "102"), ("x-waymaker-dlq-origin-seq", "7")], True),
        (110, [("x-waymaker-dlq-origin-seq", "20"), ("x-waymaker-dlq-seq", "9")], False),
        (104, [("x-waymaker-dlq-seq", "none")], False),
        (104, [("k", "10")], False),
        (104, [], False),
    ],
)
def test_a_dead_letter_is_wanted_unless_its_original_was_read(
    seq: int, headers: list[tuple[str, str]], wanted: bool
) -> None:
    assert is_dead_letter_of_missing(seq, headers, 100, READS) is wanted


def test_without_a_page_every_original_is_missing() -> None:
    assert is_dead_letter_of_missing(104, [("x-waymaker-dlq-seq", "1")], 100, [])
