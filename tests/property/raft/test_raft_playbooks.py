"""Scenarios of the consensus group, as playbooks: what happens is what the text says.

`python -m tests.property.raft.test_raft_playbooks` writes the outputs anew; read the difference before you believe it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.raft_playbook import RaftPlay

PLAYBOOKS = sorted((Path(__file__).parent / "playbooks").glob("*.txt"))


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_a_group_does_what_the_playbook_says(path: Path) -> None:
    text = path.read_text()
    assert RaftPlay().run(text) == text


def test_there_are_playbooks() -> None:
    assert len(PLAYBOOKS) >= 12


if __name__ == "__main__":
    for each in PLAYBOOKS:
        each.write_text(RaftPlay().run(each.read_text()))
