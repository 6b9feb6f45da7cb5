"""Rules of founding, identity and doubt in the catalog's group: a directed case breaks a promise without each of them.

Random worlds seldom meet these orders; `test_identity.py` and `test_founding.py` have whole members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from typing import Final

import pytest

from tests.kit.voter_group import VoterGroup
from waymaker_core.cluster.founding import Condition, Founding
from waymaker_core.raft.messages import AppendRefused, AppendRequest, AppendResponse
from waymaker_sim.members.identity_rules import IDENTITY_RULES, ONE_GROUP
from waymaker_sim.raft.promises import Broken


def commit_with_3(group: VoterGroup, entries: int = 1) -> None:
    """Commit entries of term 1 that only nodes 1 and 3 have."""
    for _ in range(entries):
        group.propose(1)
    for _ in range(entries):
        group.settle(1, 3)
    assert len(group.committed) == 3 + entries


def vote_in_doubt() -> VoterGroup:
    """A tear takes an entry of node 3 that was committed with it, and it votes for a node that lacks it."""
    group = VoterGroup().begin()
    commit_with_3(group)
    group.tear(3)
    group.stop(1)
    group.restart(2)
    group.elect(2, 3)
    return group


def answer_as_named() -> VoterGroup:
    """Node 3 loses an entry with its directory, and votes for a node that lacks it."""
    group = VoterGroup().begin()
    commit_with_3(group)
    group.lose_directory(3)
    group.stop(1)
    group.restart(2)
    group.elect(2, 3)
    return group


def doubt_until_later_term() -> VoterGroup:
    """A tear takes two entries of node 3; the first comes back, and is of a term in which it may have forgotten others."""
    group = VoterGroup().begin()
    commit_with_3(group, entries=2)
    group.tear(3, writes=2)
    group.beat(1)
    group.settle(1, 3)
    group.restart(2)
    group.elect_by(1, 2)
    while group.voters[3].disk.last < 3:
        assert group.hear(3, AppendRequest, 1) or group.hear(1, AppendResponse | AppendRefused, 3)
    group.stop(1)
    group.restart(2, 3)
    group.elect(3, 2)
    return group


def vote_of_3_for_2(group: VoterGroup) -> None:
    """Let node 2 be elected for term 2 by node 3, while node 1 goes on to lead term 1."""
    group.restart(3)
    group.elect_by(2, 3)
    assert group.leaders == {1: 1, 2: 2}


def skip_terms() -> VoterGroup:
    """A tear takes a vote of node 3; the leader of the term before ends its doubt, and gets its vote in the same term."""
    group = VoterGroup().begin()
    vote_of_3_for_2(group)
    group.tear(3)
    group.beat(1)
    group.hear(3, AppendRequest, 1)
    group.restart(1, 3)
    group.elect(1, 3)
    return group


def vote_as_named() -> VoterGroup:
    """Node 3 loses a vote with its directory, gets the log of term 1 from a late append, and campaigns in the same term."""
    group = VoterGroup().begin()
    appends = [each for each in group.delivered if each.message.to == 3 and isinstance(each.message, AppendRequest)]
    vote_of_3_for_2(group)
    group.lose_directory(3)
    group.send_again(appends)
    assert group.voters[3].disk.last == 2
    group.restart(1)
    group.elect(3, 1)
    return group


CASES: Final[dict[str, Callable[[], VoterGroup]]] = {
    "answer_as_named": answer_as_named,
    "doubt_until_later_term": doubt_until_later_term,
    "skip_terms": skip_terms,
    "vote_as_named": vote_as_named,
    "vote_in_doubt": vote_in_doubt,
}
"""By rule of the votes: a case that breaks its promise without it."""
FOUNDING: Final = tuple(sorted(rule for rule, mutant in IDENTITY_RULES.items() if mutant.caught_by == ONE_GROUP))
NODES: Final = (1, 2, 3)
PAIRS: Final = tuple((by, of) for by in NODES for of in NODES if by != of)


def founders(conditions: dict[int, Condition], heard: tuple[bool, ...]) -> list[int]:
    """Return the members that found a group, where each hears those others that `heard` says, pair by pair."""
    members = {node: Founding(node, NODES, 10 + node, 1_000) for node in NODES}
    for (by, of), is_heard in zip(PAIRS, heard, strict=True):
        if is_heard:
            members[by].heard(0, of, members[of].announcement(conditions[of]))
    return [node for node in NODES if members[node].first_members(0, conditions[node]) is not None]


def situations() -> Iterator[tuple[dict[int, Condition], tuple[bool, ...]]]:
    """Yield every combination of conditions, and of who is heard."""
    for conditions in product(Condition, repeat=len(NODES)):
        for heard in product((False, True), repeat=len(PAIRS)):
            yield dict(zip(NODES, conditions, strict=True)), heard


def groups_too_many() -> int:
    """Return in how many situations there are two groups in the end."""
    begun = ((len(founders(*each)), Condition.GROUPED in each[0].values()) for each in situations())
    return sum(count > 1 or (count == 1 and is_there) for count, is_there in begun)


@pytest.mark.parametrize("rule", sorted(CASES))
def test_a_directed_case_breaks_a_promise_without_the_rule(rule: str) -> None:
    with IDENTITY_RULES[rule].planted(), pytest.raises(Broken) as error:
        CASES[rule]()
    assert error.value.promise in IDENTITY_RULES[rule].caught_by


@pytest.mark.parametrize("rule", sorted(CASES))
def test_the_case_breaks_no_promise_with_every_rule(rule: str) -> None:
    CASES[rule]().heal()


@pytest.mark.parametrize("rule", FOUNDING)
def test_two_groups_begin_without_the_rule(rule: str) -> None:
    with IDENTITY_RULES[rule].planted():
        assert groups_too_many() > 0


def test_one_group_begins_where_all_hear_each_other() -> None:
    assert groups_too_many() == 0
    begun = Counter(len(founders(conditions, (True,) * len(PAIRS))) for conditions, _ in situations())
    assert begun[1] > 0 and begun.keys() == {0, 1}
    empty = dict.fromkeys(NODES, Condition.EMPTY)
    for node in NODES:
        assert founders(empty | {node: Condition.SINGLE}, (True,) * len(PAIRS)) == [node]
    assert founders(empty, (True,) * len(PAIRS)) == [1]


def test_every_rule_has_a_case() -> None:
    assert CASES.keys() | set(FOUNDING) == IDENTITY_RULES.keys()
