"""A leader's part: send its log within windows, learn where each follower is, commit, and notice that it leads no more.

An append names the entry before its first one; a follower that differs there refuses, with a hint by which the leader skips a
whole term of disagreement (Raft paper, 5.3). A heartbeat is an append without entries. It names the last entry that was sent,
so that its refusal tells of a loss. A window bounds what was sent to a follower and is not durable there.
"""

from __future__ import annotations

from waymaker_core.raft.log import UNKNOWN
from waymaker_core.raft.messages import (
    AppendRefused,
    AppendRequest,
    AppendResponse,
    SnapshotRequest,
    TimeoutNow,
)
from waymaker_core.raft.state import NEVER, Flow, Leading, MemberState, Progress


def track_members(state: MemberState, leading: Leading, last: int) -> None:
    """Follow the set in force: forget who left, begin with who came."""
    members = state.log.members
    progress = leading.progress
    for node in [node for node in progress if not members.has(node)]:
        del progress[node]
    for node in (*members.voters, *members.learners):
        if node != state.id and node not in progress:
            progress[node] = Progress(last)


# ---------------------------------------------------------------- sending


def send_all(state: MemberState, leading: Leading, always: bool = False) -> None:
    """Send to each follower what there is for it; with `always`, at least a heartbeat."""
    for node, progress in leading.progress.items():
        send_append(state, leading, node, progress, always)


def send_append(state: MemberState, leading: Leading, node: int, progress: Progress, always: bool = False) -> None:
    """Send a follower entries within its window, or the commit. Nothing where there is neither, unless `always`."""
    log = state.log
    flow = progress.flow
    if flow == Flow.SNAPSHOT:
        if always:
            # Every log agrees before its first entry, so that this asks for nothing but an answer.
            state.send(AppendRequest(state.id, node, state.term, 0, 0, (), 0, leading.round))
        return
    if flow == Flow.PROBE and progress.paused and not always:
        return
    while True:
        prev = progress.next - 1
        prev_term = log.term_at(prev)
        if prev_term == UNKNOWN:
            _send_snapshot(state, leading, node, progress)
            return
        entries = log.batch(progress.next, *_room(state, progress)) if prev < log.last else ()
        if not entries and not always and state.commit <= progress.commit_sent:
            return
        state.send(AppendRequest(state.id, node, state.term, prev, prev_term, entries, state.commit, leading.round))
        progress.commit_sent = state.commit
        always = False
        if progress.flow == Flow.PROBE:
            progress.paused = True
            return
        progress.next += len(entries)
        if not entries:
            return


def _room(state: MemberState, progress: Progress) -> tuple[int, int]:
    """Return how many entries and bytes the next append may hold; no entries where the window is full."""
    settings = state.settings
    if progress.flow == Flow.PROBE:
        return settings.append_entries_max, settings.append_bytes_max
    entries = settings.window_entries_max - (progress.next - 1 - progress.match)
    room = settings.window_bytes_max - state.log.bytes_between(progress.match + 1, progress.next - 1)
    if entries <= 0 or room <= 0:
        return 0, 0
    return min(entries, settings.append_entries_max), min(room, settings.append_bytes_max)


def _send_snapshot(state: MemberState, leading: Leading, node: int, progress: Progress) -> None:
    """Send the last snapshot, for the entries that the follower needs were released."""
    snapshot = state.log.snapshot
    progress.flow = Flow.SNAPSHOT
    progress.snapshot = snapshot.index
    progress.next = snapshot.index + 1
    progress.snapshot_deadline = state.now + state.settings.snapshot_ms
    state.send(SnapshotRequest(state.id, node, state.term, snapshot, leading.round))


def snapshot_lost(leading: Leading, node: int) -> None:
    """Look again what a follower needs, with the next heartbeat."""
    progress = leading.progress.get(node)
    if progress is not None and progress.flow == Flow.SNAPSHOT:
        progress.probe()


# ---------------------------------------------------------------- answers


def on_append_response(state: MemberState, leading: Leading, response: AppendResponse) -> None:
    """Learn how far a follower agrees, and how far it is durable."""
    progress = leading.progress.get(response.sender)
    if progress is None:
        return
    if not response.durable <= response.verified <= state.log.last:
        state.contradictions += 1
        return
    _answered(leading, progress, response.round)
    if response.durable > progress.match:
        progress.match = response.durable
        advance_commit(state, leading)
    if progress.flow == Flow.SNAPSHOT:
        if progress.match >= progress.snapshot:
            progress.flow = Flow.STREAM
            progress.snapshot_deadline = NEVER
    elif progress.flow == Flow.PROBE and response.verified >= progress.next - 1:
        progress.flow = Flow.STREAM
        progress.paused = False
    if progress.flow == Flow.STREAM:
        progress.next = max(progress.next, response.verified + 1)


def _answered(leading: Leading, progress: Progress, round_: int) -> None:
    progress.active = True
    if progress.round < round_ <= leading.round:
        progress.round = round_


def on_append_refused(state: MemberState, leading: Leading, refused: AppendRefused) -> None:
    """Go back to the last place where the logs may agree. Answers to what is known better by now count as a sign of life."""
    progress = leading.progress.get(refused.sender)
    if progress is None:
        return
    _answered(leading, progress, refused.round)
    prev = refused.prev_index
    if progress.flow == Flow.SNAPSHOT or prev <= progress.match:
        return
    if progress.flow == Flow.PROBE and prev != progress.next - 1:
        return
    agreed = state.log.last_not_newer(min(refused.hint_index, prev - 1), refused.hint_term)
    progress.flow = Flow.PROBE
    progress.next = max(agreed, progress.match) + 1
    progress.paused = False


# ---------------------------------------------------------------- commit


def own_durable(state: MemberState) -> int:
    """Return how far the leader's own log counts: its own sync counts like a follower's."""
    return state.log.durable


def reached_by_majority(state: MemberState, leading: Leading) -> int:
    """Return the greatest index that is durable on a majority of the voters in force."""
    members = state.log.members
    progress = leading.progress
    reached = [own_durable(state) if node == state.id else progress[node].match for node in members.voters]
    reached.sort(reverse=True)
    return reached[members.majority - 1]


def may_commit(state: MemberState, index: int) -> bool:
    """Return True if a majority suffices for an entry: it is of the leader's own term (Raft paper, 5.4.2, figure 8)."""
    return state.log.term_at(index) == state.term


def advance_commit(state: MemberState, leading: Leading) -> None:
    """Commit what a majority of the voters has made durable."""
    index = reached_by_majority(state, leading)
    if index > state.commit and may_commit(state, index):
        state.commit = index


def resign_if_removed(state: MemberState, leading: Leading) -> None:
    """Step down when the set without this member is committed (Raft thesis, 4.2.2); the best voter need not wait."""
    if not state.is_voter and state.log.members_index <= state.commit:
        hand_over(state, leading)


def best_follower(state: MemberState, leading: Leading) -> int:
    """Return the voter that has most of the log, before all others one that was heard lately; 0 if there is none."""
    best, rank = 0, (False, -1)
    for node in state.log.members.voters:
        progress = leading.progress.get(node)
        if progress is not None and (progress.active, progress.match) > rank:
            best, rank = node, (progress.active, progress.match)
    return best


def hand_over(state: MemberState, leading: Leading) -> None:
    """Tell the best voter to campaign, and lead no more."""
    send_all(state, leading, always=True)
    node = best_follower(state, leading)
    if node:
        state.send(TimeoutNow(state.id, node, state.term))
    state.step_down(state.term, 0)


# ---------------------------------------------------------------- time


def tick(state: MemberState, leading: Leading) -> None:
    """Do what is due: look for a majority, give up snapshots and transfers, send heartbeats."""
    now, settings = state.now, state.settings
    if now >= leading.quorum_deadline:
        leading.quorum_deadline = now + settings.election_ms
        if not heard_by_majority(state, leading):
            state.step_down(state.term, 0)
            return
    if now >= leading.transfer_deadline:
        leading.transfer_to, leading.transfer_deadline = 0, NEVER
    for progress in leading.progress.values():
        if now >= progress.snapshot_deadline:
            progress.probe()
    if now >= leading.heartbeat_deadline:
        leading.heartbeat_deadline = now + settings.heartbeat_ms
        send_all(state, leading, always=True)


def heard_by_majority(state: MemberState, leading: Leading) -> bool:
    """Return True if a majority answered since the last look; begin the next period (Raft thesis, 6.2)."""
    members = state.log.members
    progress = leading.progress
    heard = sum(node == state.id or progress[node].active for node in members.voters)
    for each in progress.values():
        each.active = False
    return heard >= members.majority


def next_deadline(leading: Leading) -> int:
    """Return when `tick` has something to do."""
    deadline = min(leading.heartbeat_deadline, leading.quorum_deadline, leading.transfer_deadline)
    for progress in leading.progress.values():
        deadline = min(deadline, progress.snapshot_deadline)
    return deadline
