"""The moments of a run that matter to its violation: those of its subjects, what made them durable, and the faults
around them.

Selected are, of the violation's stream: its creation, changes and deletion. Of the named sequences: publishes,
deliveries to the named consumers, acknowledgements, and reads: the first and last of them in each process run, and the
first that missed one. Then the journal jobs that let the answers leave; from the first of these moments on every start
and stop and its losses; the last checkpoint before each start; and the last moments. A violation without such subjects
shows the last moments, a clean run the creations, changes and deletions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from waymaker_core.api.requests import (
    Ack,
    CreateConsumer,
    CreateStream,
    DeleteConsumer,
    DeleteStream,
    Fetch,
    Publish,
    ReadLatest,
    ReadRange,
    ScanSubject,
    Subscribe,
    UpdateStream,
    WatchStreams,
)
from waymaker_core.model.disk_ops import DiskOp, Rename
from waymaker_core.storage.paths import MANIFEST
from waymaker_sim.timeline.about import About
from waymaker_sim.timeline.record import Kind, Moment, Work
from waymaker_sim.timeline.timeline import Timeline

RECENT = 40
"""Number of last moments that are selected where a violation names no subject."""
OF_SUBJECT = 12
"""Number of last moments that are selected of a stream or consumer without a sequence."""
PATH_MAX = 5
"""Number of first and of last jobs on a named file that are selected."""
UPDATES_MAX = 6
"""Number of last changes of the stream's settings that are selected."""
AROUND_MAX = 60
"""Number of faults, starts and stops that are all selected; beyond that only those near the subjects."""

STREAM_CHANGES = (CreateStream, DeleteStream, UpdateStream)
CONSUMER_CHANGES = (CreateConsumer, DeleteConsumer)
CONSUMING = (Fetch, Subscribe, Ack)
CHANGING = (*STREAM_CHANGES, *CONSUMER_CHANGES, Publish, Ack)
LASTING = (Subscribe, WatchStreams)
OUTSIDE = {
    Kind.CUT,
    Kind.FAULT,
    Kind.LOSS,
    Kind.FAILURE,
    Kind.HALT,
    Kind.START,
    Kind.UP,
    Kind.REFUSED,
    Kind.LOG,
    Kind.ACT,
}
STOPS = {"kill", "power loss"}


def select(timeline: Timeline) -> list[Moment]:
    """Return the selected moments, in order."""
    moments = timeline.moments
    direct = _direct(timeline)
    chosen = {moment.index for moment in direct}
    if len(moments) > 1:
        chosen.update(moment.index for moment in _whole(moments[-2]))
    first = min(chosen, default=0)
    chosen.update(moment.index for moment in _durable(moments, [moments[index] for index in chosen]))
    around = [moment for moment in moments[first:] if moment.kind in OUTSIDE]
    selected = _bounded(around, {_incarnation(moments, index) for index in chosen}, moments)
    chosen.update(moment.index for moment in selected)
    chosen.update(moment.index for moment in _checkpoints(moments, first, selected))
    chosen.add(moments[-1].index)
    return [moments[index] for index in sorted(chosen)]


# ---------------------------------------------------------------- the subjects


def _direct(timeline: Timeline) -> list[Moment]:
    about, moments = timeline.about, timeline.moments
    touched = list(_touched(timeline)) if about.stream else []
    if about.paths:
        found = [moment for moment in moments if _on_paths(moment, about.paths)]
        found = [*found[:PATH_MAX], *found[-PATH_MAX:]]
        touched += [*found, *_resting_on(moments, found)]
    if not timeline.report.check and not about.stream:
        touched += [moment for moment in moments if _changes(moment)]
        touched = touched[-RECENT:] + [moment for moment in moments if moment.kind is Kind.START][:1]
    elif not touched:
        touched = [moment for moment in moments[:-1] if _telling(moment)][-RECENT:]
    return [part for moment in touched for part in _whole(moment)]


def _changes(moment: Moment) -> bool:
    exchange = moment.exchange
    return exchange is not None and isinstance(exchange.request, (*STREAM_CHANGES, *CONSUMER_CHANGES))


def _telling(moment: Moment) -> bool:
    return moment.kind is not Kind.CREDIT and not moment.lane.startswith("reads")


def _on_paths(moment: Moment, paths: frozenset[str]) -> bool:
    on_disk = moment.work is not None or moment.kind in (Kind.LOSS, Kind.FAULT)
    return on_disk and not moment.lane.startswith("reads") and any(path in moment.text for path in paths)


def _resting_on(moments: list[Moment], jobs: list[Moment]) -> list[Moment]:
    """Return the first answer that each of these jobs let leave."""
    waiting = {id(moment.work) for moment in jobs if moment.work is not None}
    found: list[Moment] = []
    for moment in moments:
        if moment.kind is Kind.ANSWER and moment.exchange is not None and id(moment.exchange.settled_by) in waiting:
            waiting.remove(id(moment.exchange.settled_by))
            found.append(moment)
    return found


def _touched(timeline: Timeline) -> Iterator[Moment]:
    """Yield the stream's moments that concern the named consumers and sequences."""
    about = timeline.about
    since, found = _beginning(timeline), False
    looks: dict[int, list[Moment]] = {}
    recent: list[Moment] = []
    updates: list[Moment] = []
    missed: list[Moment] = []
    for moment in timeline.moments:
        exchange = moment.exchange
        if exchange is None or exchange.stream != about.stream or moment.kind is Kind.CREDIT:
            continue
        request = exchange.request
        if isinstance(request, STREAM_CHANGES):
            if not isinstance(request, UpdateStream):
                yield moment
            elif not about.seqs or found:
                updates.append(moment)
        elif isinstance(request, CONSUMER_CHANGES):
            if exchange.consumer in about.consumers:
                yield moment
        elif about.consumers and isinstance(request, CONSUMING) and exchange.consumer not in about.consumers:
            continue
        elif not about.seqs:
            recent.append(moment)
        elif moment.index >= since and moment.seqs & about.seqs:
            found = True
            if isinstance(request, (*CONSUMING, Publish)):
                yield moment
            else:
                looks.setdefault(exchange.process_run, []).append(moment)
        elif found and _missed_by(moment, about):
            missed.append(moment)
    yield from updates[-UPDATES_MAX:]
    yield from missed[:1]
    for seen in looks.values():
        yield seen[0]
        yield seen[-1]
    wanted = [m for m in recent if not about.consumers or isinstance(m.exchange and m.exchange.request, CONSUMING)]
    yield from wanted[-OF_SUBJECT:]


def _missed_by(moment: Moment, about: About) -> bool:
    """Return True if a read covered one of the sequences without finding it."""
    request = moment.exchange.request if moment.exchange is not None else None
    if moment.kind is not Kind.ANSWER or not moment.text.startswith("ok"):
        return False
    last = max(moment.seqs, default=0)
    missing = [(seq, subject) for seq, subject in about.subjects if seq not in moment.seqs]
    match request:
        case ReadRange():
            return any(request.from_seq <= seq and (not last or seq < last) for seq, _ in missing)
        case ScanSubject():
            there = [seq for seq, subject in missing if subject == request.subject]
            return any(request.from_seq <= seq and (not last or seq < last) for seq in there)
        case ReadLatest():
            return any(subject == request.subject and last < seq for seq, subject in missing)
        case _:
            return False


def _beginning(timeline: Timeline) -> int:
    """Return the time when the last incarnation of the stream was called for: sequences before that are another's."""
    since = 0
    for moment in timeline.moments:
        exchange = moment.exchange
        if exchange is None or moment.kind is not Kind.ANSWER or exchange.stream != timeline.about.stream:
            continue
        if isinstance(exchange.request, CreateStream) and moment.text == "ok":
            since = exchange.moments[0].index
    return since


def _whole(moment: Moment) -> list[Moment]:
    """Return a moment with the call that it belongs to and, except for subscriptions, with the answer."""
    exchange = moment.exchange
    if exchange is None:
        return [moment]
    if isinstance(exchange.request, LASTING):
        return [exchange.moments[0], moment]
    return exchange.moments


# ---------------------------------------------------------------- what goes with them


def _durable(moments: list[Moment], selected: Iterable[Moment]) -> list[Moment]:
    """Return the journal jobs that answers to changes depend on."""
    journal = [moment for moment in moments if moment.work is not None and moment.lane.startswith("journal")]
    works = {id(work) for moment in selected if (work := _settler(moment, journal)) is not None}
    return [moment for moment in journal if id(moment.work) in works]


def _settler(moment: Moment, journal: list[Moment]) -> Work | None:
    """Return the job that an answer waited for; for a stored change that was answered before, the job that came too
    late."""
    exchange = moment.exchange
    if exchange is None or not isinstance(exchange.request, CHANGING):
        return None
    if exchange.settled_by is not None:
        return exchange.settled_by
    if moment.kind is not Kind.ANSWER or isinstance(exchange.request, Ack) or not moment.text.startswith("ok"):
        return None
    return next((m.work for m in journal if m.work is not None and m.work.submitted_ns >= exchange.received_ns), None)


def _incarnation(moments: list[Moment], index: int) -> int:
    """Return the process run of a moment: the place of the start before it."""
    while index > 0 and moments[index].kind is not Kind.START:
        index -= 1
    return index


def _bounded(around: list[Moment], incarnations: set[int], moments: list[Moment]) -> list[Moment]:
    """Return faults, starts and stops; where they are many, only severe ones, of the process runs that matter, or
    the last."""
    if len(around) > AROUND_MAX:
        around = [moment for moment in around if _heavy(moment)]
    if len(around) > AROUND_MAX:
        near: list[Moment] = []
        incarnation, kept = _incarnation(moments, around[0].index), True
        for moment in around:
            if moment.kind is Kind.START:
                incarnation = moment.index
                kept = incarnation in incarnations
            if kept or moment.kind is Kind.ACT:
                near.append(moment)
        around = near
    return around[-AROUND_MAX:]


def _heavy(moment: Moment) -> bool:
    if moment.kind is Kind.FAULT:
        return moment.fault in STOPS or moment.fault == "bit rot"
    return moment.kind not in (Kind.LOG, Kind.FAILURE)


def _installs(op: DiskOp) -> bool:
    return isinstance(op, Rename) and op.target == MANIFEST


def _checkpoints(moments: list[Moment], first: int, selected: list[Moment]) -> list[Moment]:
    """Return the last change of the manifest before each selected start."""
    starts = {moment.index for moment in selected if moment.kind is Kind.START}
    found: list[Moment] = []
    last: Moment | None = None
    for moment in moments[first:]:
        if moment.kind is Kind.JOB and moment.work is not None and any(_installs(op) for op in moment.work.ops):
            last = moment
        elif moment.index in starts and last is not None:
            found.append(last)
            last = None
    return found
