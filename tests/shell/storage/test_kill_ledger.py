"""The judge of the kill campaign judges rightly: each broken promise is named, and a kept one is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kit.kill_ledger import History


def filled() -> History:
    ledger = History()
    for seq, payload in [(1, b"a"), (2, b"b")]:
        ledger.publish_attempted("s", payload)
        ledger.publish_confirmed("s", seq, payload)
    ledger.publish_attempted("s", b"under way")
    return ledger


def test_what_was_under_way_may_be_there_or_not() -> None:
    ledger = filled()
    ledger.found("s", [(1, b"a"), (2, b"b")])
    ledger.found("s", [(1, b"a"), (2, b"b"), (3, b"under way")])
    assert ledger.broken == []


def test_a_delivery_may_be_repeated_until_its_acknowledgement_is_confirmed() -> None:
    ledger = filled()
    asked_at = ledger.tick()
    ledger.acked(1)
    ledger.received(1, b"a", asked_at)
    assert ledger.broken == []


def missing(ledger: History) -> None:
    ledger.found("s", [(1, b"a")])


def altered(ledger: History) -> None:
    ledger.found("s", [(1, b"a"), (2, b"x")])


def invented(ledger: History) -> None:
    ledger.found("s", [(1, b"a"), (2, b"b"), (3, b"nobody's")])


def doubled(ledger: History) -> None:
    ledger.found("s", [(1, b"a"), (2, b"b"), (3, b"under way"), (4, b"under way")])


def out_of_order(ledger: History) -> None:
    ledger.found("s", [(2, b"b"), (1, b"a")])


def reused(ledger: History) -> None:
    ledger.publish_confirmed("s", 2, b"under way")


def delivered_again(ledger: History) -> None:
    ledger.acked(1)
    ledger.received(1, b"a", ledger.tick())


def kept_in_a_work_queue(ledger: History) -> None:
    ledger.acked(1)
    ledger.gone_for_good([1])


def never_delivered(ledger: History) -> None:
    ledger.received(1, b"a", ledger.tick())
    ledger.all_delivered()


@pytest.mark.parametrize(
    "breach",
    [missing, altered, invented, doubled, out_of_order, reused, delivered_again, kept_in_a_work_queue, never_delivered],
    ids=lambda breach: breach.__name__,
)
def test_a_broken_promise_is_named(breach: Callable[[History], None]) -> None:
    ledger = filled()
    breach(ledger)
    assert ledger.broken != []
