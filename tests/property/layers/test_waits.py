"""The ends of waits that began at server times: by the monotonic clock, whatever the wall clock did."""

from __future__ import annotations

from waymaker_core.layers.waits import Waits
from waymaker_core.model.types import Now

MS = 1_000_000
YEAR_MS = 365 * 24 * 3_600_000


def test_a_wait_that_began_in_the_past_ends_when_its_length_has_passed() -> None:
    assert Waits().end_of(1_000, 500, Now(7 * MS, 1_200)) == (7 + 300) * MS
    assert Waits().end_of(1_000, 500, Now(7 * MS, 9_000)) == 7 * MS, "it is over"


def test_waits_from_the_future_end_together_once_one_length_has_passed_since_they_were_noticed() -> None:
    waits = Waits()
    assert waits.end_of(YEAR_MS, 500, Now(10 * MS, 1_000)) == 510 * MS
    assert waits.end_of(YEAR_MS, 500, Now(300 * MS, 1_290)) == 510 * MS, "it does not begin again"
    assert waits.end_of(YEAR_MS + 200, 500, Now(510 * MS, 1_500)) == 510 * MS, "the next one does not wait anew"
    assert waits.end_of(1_400, 500, Now(520 * MS, 1_510)) == (520 + 390) * MS
    assert waits.end_of(YEAR_MS, 500, Now(600 * MS, 1_590)) == 1_100 * MS, "another wrong clock is noticed anew"
