"""A short nemesis of real members: killed, paused, cut off, while clients publish and read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell import cluster_nemesis

SECONDS = 20.0


@pytest.mark.process
@pytest.mark.slow
def test_what_was_confirmed_outlives_kills_pauses_and_cut_links(tmp_path: Path) -> None:
    nemesis = cluster_nemesis.run(tmp_path, SECONDS, seed=1)
    assert sum(nemesis.faults.values()) >= 3
    assert all(each.confirmed for each in nemesis.publishers)
    assert nemesis.reads
