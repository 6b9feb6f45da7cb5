"""Delivery liveness: what can be delivered is delivered in time, and what is expired is removed in time.

A due message is in the next fetch with room for it; a subscription with credit receives it before another client asks.
This is checked only where a group's own past decides it: not where another group of a work queue may have a claim, or
reads fail.
"""

from __future__ import annotations

from collections.abc import Iterator

from waymaker_core.model.config import Retention
from waymaker_core.stream.answers import MESSAGE_OVERHEAD_BYTES
from waymaker_sim.clients.client_view import Ask, ClientView
from waymaker_sim.history.history import Group, StreamIncarnation
from waymaker_sim.kernel.checks import listed, violated
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.machine.process import ReceivedMessage, StepId

MESSAGE_BYTES_MAX = 8 * 1024
"""Bytes of any message of these worlds in an answer, at most."""
WAKES_WITHIN_NS = 1 * SECOND
"""Time for which a subscription with credit may wait: many index reads."""
AGED_WITHIN_NS = 2 * SECOND
"""Time for which expired messages may still be there: many intervals of retention."""
PENDING_MIN = 1_000
"""Below such a bound of pending deliveries new messages wait for acknowledgements."""


def check_fetch(
    view: ClientView, ask: Ask, group: Group, got: list[ReceivedMessage], wanted: int, step_id: StepId
) -> None:
    """Require that an answer with room left contains everything that was due at the call, and that was not held for
    another reader. Call it once `got` is noted.
    """
    limit = view.access.config.limits.fetch_bytes_max
    taken = sum(len(message.body) + MESSAGE_OVERHEAD_BYTES for message in got)
    if len(got) > 1 and taken > limit:
        violated("limits hold", f"an answer of {taken} bytes, {limit} at most")
    if len(got) >= wanted or taken + MESSAGE_BYTES_MAX > limit or not _certain(view, group) or view.access.moves:
        return
    assert ask.consumer is not None and ask.token is not None
    name, since_ns = group.incarnation.name, ask.asked_ns
    for seq in _overdue(view, group, step_id.run, since_ns):
        if not view.held.held_by_another(name, ask.consumer.name, seq, ask.token, since_ns):
            violated("given when due", f"{name}/{group.config.name}: a fetch of {wanted} left {seq} lying")


def check_waiting(view: ClientView, ask: Ask) -> None:
    """Require that a subscription with credit received what was due long ago."""
    access, group = view.access, ask.group()
    by_ns = view.events.now_ns - WAKES_WITHIN_NS
    since_ns = view.waiting.get(ask, by_ns + 1)
    if group is None or max(since_ns, access.paused_until_ns) > by_ns or not _wakes(view, group):
        return
    overdue = next(_overdue(view, group, access.run_of(group.incarnation.name), by_ns), 0)
    if overdue:
        violated(
            "given when due", f"{group.incarnation.name}/{group.config.name}: {overdue} is kept from a subscription"
        )


def check_fetched(view: ClientView, group: Group, got: list[ReceivedMessage], step_id: StepId) -> None:
    """Require that a fetch got nothing that a subscription with credit should have received long before. Call it before
    `got` is noted."""
    access = view.access
    since_ns = min((each for ask, each in view.waiting.items() if ask.group() is group), default=-1)
    if since_ns < 0 or not _wakes(view, group):
        return
    for message in got:
        due_ns = group.due.at(message.seq, step_id.run)
        if due_ns is None and message.delivery == 1 and access.config.limits.pending_max >= PENDING_MIN:
            attempt = group.incarnation.live.get(message.seq)
            due_ns = max(attempt.confirmed_ns, group.created_ns) if attempt is not None else None
        if due_ns is None:
            continue
        if max(due_ns, since_ns, access.paused_until_ns) + WAKES_WITHIN_NS < step_id.time_ns:
            what = f"{group.incarnation.name}/{group.config.name} seq {message.seq}"
            violated("given when due", f"{what} went to a fetch, a subscription had waited since {since_ns}")


def check_dropped(view: ClientView, group: Group, before_ns: int, dropped: int) -> None:
    """Require that all messages whose nak of a last attempt was confirmed by then are dropped."""
    access, incarnation = view.access, group.incarnation
    if not view.drops_at_once or incarnation.damaged or incarnation.may_keep(group) or not group.last_naks:
        return
    access.now()
    owed = [
        seq
        for seq, step_id in group.last_naks.items()
        if step_id.run == access.run_of(incarnation.name)
        and step_id.time_ns < before_ns
        and seq in incarnation.live
        and not incarnation.may_be_removed(seq, access.wall_max_ms)
    ]
    what = f"{incarnation.name}/{group.config.name}: {listed(owed[:9])} were handed back for the last time"
    if len(owed) > dropped:
        violated("dead letter once", f"{what}, {dropped} are dropped")
    if owed:
        view.mark("last nak dropped")


def check_ages(view: ClientView, incarnation: StreamIncarnation, got: list[ReceivedMessage]) -> None:
    """Require that a page has no message that expired long ago. Call it once `got` is noted.

    A message stays behind an older one at its subject, and with block-aligned limits fewer than a block holds may stay.
    """
    access, config = view.access, incarnation.config
    ages = [each.max_age_ms for each in incarnation.configs]
    quiet_ns = view.events.now_ns - max(view.disturbed_ns, access.paused_until_ns, access.up_ns)
    undisturbed = quiet_ns > AGED_WITHIN_NS and not (view.slow_reads or view.read_errors or access.is_rotten())
    if not (min(ages) and undisturbed and got):
        return
    cutoff = access.now().wall_ms - max(ages) - AGED_WITHIN_NS // MS
    there = {message.seq: message.time_ms for message in got}
    greatest: dict[str, int] = {}
    expired: list[int] = []
    # An older one that is not there may have been removed a moment ago, by a limit, and have shielded the others until then.
    for seq in range(1, got[-1].seq + 1):
        if seq not in incarnation.at:
            return
        subject, time_ms = incarnation.at[seq].subject, there.get(seq, incarnation.times[seq])
        greatest[subject] = max(greatest.get(subject, 0), time_ms if time_ms >= 0 else cutoff + 1)
        if seq in there and greatest[subject] <= cutoff:
            expired.append(seq)
    most = 0 if all(each.strict_limits for each in incarnation.configs) else config.block_size - 1
    if len(expired) > most:
        some = listed(expired[:9])
        violated(
            "aged in time", f"{incarnation.name}: {some} of {len(expired)} are still there, {max(ages)} ms is the age"
        )
    view.mark("aged in time")


def _certain(view: ClientView, group: Group) -> bool:
    incarnation = group.incarnation
    alone = incarnation.config.retention is not Retention.WORK_QUEUE or len(incarnation.groups) == 1
    rotten = view.access.is_rotten()
    return alone and not (incarnation.damaged or incarnation.ended or group.ended or view.read_errors or rotten)


def _wakes(view: ClientView, group: Group) -> bool:
    return not view.slow_reads and _certain(view, group)


def _overdue(view: ClientView, group: Group, process_run: int, by_ns: int) -> Iterator[int]:
    """Yield the messages that were due by then and can be delivered."""
    incarnation, lost_ns = group.incarnation, max([group.lost_at_ns, *group.lost_ns])
    for seq, out in group.due.by(process_run, by_ns):
        if out.delivery >= group.config.max_deliver or seq in group.answered or lost_ns >= out.left_ns:
            continue
        if seq in incarnation.live and not incarnation.may_be_removed(seq, view.access.wall_max_ms):
            yield seq
