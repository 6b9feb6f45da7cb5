"""Reads without an entry in the log: a leader asks a majority whether it still leads, and names the index to read at.

Reads that come while a round is under way join the next one: only an answer to a question that was sent after the read counts.
A leader knows what is committed only from an entry of its own term on, so that reads wait for that (Raft thesis, 6.4).
Leases would save the round and rest on clocks; there are none.
"""

from __future__ import annotations

from waymaker_core.raft import replication
from waymaker_core.raft.effects import Readable, Reason
from waymaker_core.raft.state import Leading, MemberState


def ask(state: MemberState, leading: Leading, token: int) -> None:
    """Let a read join the next round."""
    if len(leading.waiting) + len(leading.asked) >= state.settings.reads_max:
        state.refuse(token, Reason.BUSY)
    else:
        leading.waiting.append(token)


def begin_round(state: MemberState, leading: Leading) -> bool:
    """Begin a round for all reads that wait, unless one is under way. Return True if one began."""
    if leading.asked or not leading.waiting or not knows_committed(state, leading):
        return False
    leading.asked, leading.waiting = leading.waiting, []
    leading.asked_index = state.commit
    leading.round = next_round(leading)
    return True


def next_round(leading: Leading) -> int:
    """Return the number of a new round: answers to earlier ones count for nothing."""
    return leading.round + 1


def knows_committed(state: MemberState, leading: Leading) -> bool:
    """Return True once an entry of the own term is committed: until then more may be committed than this leader knows."""
    return state.commit >= leading.term_start


def confirm(state: MemberState, leading: Leading) -> None:
    """End the round when a majority has answered it."""
    if leading.asked and is_confirmed(state, leading):
        state.effects.append(Readable(tuple(leading.asked), leading.asked_index))
        leading.asked = []


def is_confirmed(state: MemberState, leading: Leading) -> bool:
    """Return True if a majority of the voters has answered the round under way."""
    members = state.log.members
    progress = leading.progress
    answered = sum(node == state.id or progress[node].round >= leading.round for node in members.voters)
    return answered >= members.majority


def advance(state: MemberState, leading: Leading) -> None:
    """End the round that is answered, and begin the next one."""
    confirm(state, leading)
    while begin_round(state, leading):
        replication.send_all(state, leading, always=True)
        confirm(state, leading)
