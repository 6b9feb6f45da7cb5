"""A server that is killed keeps its promises. The long form of this is ``python -m tests.shell.kill_campaign``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.kill_campaign import campaign

ROUNDS = 6


@pytest.mark.slow
@pytest.mark.process
async def test_nothing_confirmed_is_lost_to_a_kill(tmp_path: Path) -> None:
    done = await campaign(tmp_path / "data", seed=20, rounds=ROUNDS)
    assert done.broken == []
    assert done.rounds == ROUNDS
    assert sum(len(messages) for messages in done.log.confirmed.values()) > ROUNDS
    assert done.log.ack_confirmed_at
    assert done.jobs.ack_confirmed_at
