"""Parts of a member that are skipped have nothing to do: a member that looks at all of them in each step does the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import pytest

from waymaker_core.cluster.effects import ToPeer
from waymaker_core.cluster.member import Member
from waymaker_core.model.types import Now
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.members.moves_world import MovesWorld
from waymaker_sim.members.world import MembersWorld

Step = Callable[[Member, Now, Sequence[Any]], list[Any]]
step_of_member: Step = Member.step


def _looking_at_all(member: Member, now: Now, inputs: Sequence[Any]) -> list[Any]:
    """Let a member look at each part, and step its node, whatever they have to do."""
    member._parts_dirty, member._node_at = True, 0
    return step_of_member(member, now, inputs)


def _looking_where_due(member: Member, now: Now, inputs: Sequence[Any]) -> list[Any]:
    """Let a member look at its parts where they are due alone."""
    member._parts_dirty = False
    return step_of_member(member, now, inputs)


def _does(monkeypatch: pytest.MonkeyPatch, run: Callable[[], None], step: Step) -> tuple[int, bytes]:
    """Return how many steps members took in a world, and a digest of what they did in each."""
    digest, steps = blake2b(), 0

    def noted(member: Member, now: Now, inputs: Sequence[Any]) -> list[Any]:
        nonlocal steps
        effects = step(member, now, inputs)
        steps += 1
        kinds = [each.data if isinstance(each, ToPeer) else type(each).__name__ for each in effects]
        digest.update(repr((member.node.config.node_id, now, member.next_deadline(), kinds)).encode())
        return effects

    with monkeypatch.context() as patched:
        patched.setattr(Member, "step", noted)
        run()
    return steps, digest.digest()


WORLDS: dict[str, Callable[[], None]] = {
    "faults": lambda: MembersWorld(5).run(6 * SECOND),
    "moves": lambda: MovesWorld(2, healthy=True).run(6 * SECOND),
}


@pytest.mark.parametrize("name", WORLDS)
def test_what_is_skipped_has_nothing_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, done = _does(monkeypatch, WORLDS[name], step_of_member)
    assert steps > 500
    assert _does(monkeypatch, WORLDS[name], _looking_at_all) == (steps, done)


def test_a_part_that_waits_for_no_deadline_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison bites: a member that looks at its parts where they are due alone does not do the same."""
    run = WORLDS["moves"]
    assert _does(monkeypatch, run, _looking_where_due) != _does(monkeypatch, run, step_of_member)
