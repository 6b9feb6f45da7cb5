"""The committed feed of a stream: the one door through which another stream's copies are read.

A request names a stream, one of its incarnations and a sequence; the answer is committed messages from there on, with their
bodies. Who asks never sees the replica, nor anything that is not applied. So the answer can come from any node that has a
replica; today it is always this one. Where logs are replicated the read waits for a confirmation, as a client's does.

Nothing polls: `watch` calls back once, when something about a stream has changed. A watch is soft state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from waymaker_core.api.effects import Lane
from waymaker_core.api.requests import Run
from waymaker_core.model.disk_ops import Chunk, DiskFailure, OpResult, ReadChunk
from waymaker_core.model.result_codes import Refusal
from waymaker_core.model.subjects import Pattern
from waymaker_core.model.types import StreamId, Token
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate, nothing
from waymaker_core.node.index_cache import Indexes
from waymaker_core.node.quarantine import Quarantine
from waymaker_core.node.stream_replica import Leading, StreamReplica
from waymaker_core.sources.copies import Cut, SourceMessages
from waymaker_core.sources.positions import Incarnation
from waymaker_core.stream.feed import Stretch, read_stretch

NO_CALLER = Token(0)
"""The token of a question that no client waits for: it is never withdrawn."""
READS_AT_ONCE = 4
"""Batches that are read at a time; others wait for their turn, and hold nothing meanwhile."""
CHUNKS_SHARE = 4
"""The chunks of one batch hold at most so many times the bytes of a record, unless a single one is longer."""


@dataclass(slots=True, eq=False)
class FeedRequest:
    """The next messages of a stream's incarnation that match, from a sequence on. None: only how far the stream reaches."""

    account: str
    stream: str
    incarnation: Incarnation | None
    from_seq: int = 0
    pattern: Pattern | None = None


@dataclass(slots=True, eq=False)
class FeedHead:
    """The reach of a stream: what is answered where another incarnation than the one asked for has its name."""

    incarnation: Incarnation
    first_seq: int
    last_seq: int


@dataclass(slots=True, eq=False)
class FeedBatch:
    """Messages of a stream. Everything below `next_seq` was looked at; `first_seq` and `last_seq` are the stream's.

    `torn`: from the sequence asked for on, messages were pruned before they were read.
    """

    incarnation: Incarnation
    first_seq: int
    last_seq: int
    next_seq: int
    torn: bool
    messages: SourceMessages


@dataclass(slots=True, eq=False)
class FeedTrouble:
    """The reason why a stream cannot be read now; `missing`: none has the name."""

    text: str
    missing: bool = False


FeedAnswer = FeedHead | FeedBatch | FeedTrouble
OnAnswer = Callable[[FeedAnswer], None]
Watch = tuple[int, Callable[[], object]]
"""The id of the incarnation whose changes are of no interest (0: all are), and what is called."""


class Feed:
    """The feeds of all streams of this node, and those who wait for more."""

    def __init__(self, state: NodeState, gate: Gate, indexes: Indexes, quarantine: Quarantine) -> None:
        self._state = state
        self._gate = gate
        self._indexes = indexes
        self._quarantine = quarantine
        self._watches: dict[tuple[str, str], dict[tuple[StreamId, int], Watch]] = {}
        """By the (account, name) that is watched: watches by stream and source of who copies."""
        self._reading = 0
        self._queue: deque[Callable[[], None]] = deque()
        """Reads that wait for their turn."""
        self._starting = False

    # ------------------------------------------------------------------ watching

    def watch(
        self, account: str, name: str, who: tuple[StreamId, int], wake: Callable[[], object], unless: int = 0
    ) -> None:
        """Call back once, when a stream of this name has changed; `unless` it is still this incarnation."""
        self._watches.setdefault((account, name), {})[who] = (unless, wake)

    def wake(self, replica: StreamReplica) -> None:
        """Call back those who watch a stream that was created, changed or deleted."""
        key = replica.entry.key()
        watches = self._watches.pop(key, None)
        if watches is None:
            return
        kept = {who: watch for who, watch in watches.items() if watch[0] == replica.id}
        if kept:
            self._watches[key] = kept
        for who, (_, wake) in watches.items():
            if who not in kept:
                wake()

    def drop_watches(self, replica: StreamReplica) -> None:
        """Forget the watches of a deleted stream."""
        for index, source in enumerate(replica.entry.config.sources):
            key = (replica.entry.account, source.source_stream)
            watches = self._watches.get(key)
            if watches is not None:
                watches.pop((replica.id, index), None)
                if not watches:
                    del self._watches[key]

    # ------------------------------------------------------------------ reading

    def pull(self, request: FeedRequest, answer: OnAnswer) -> None:
        """Answer a request once, in this step or a later one; see `FeedAnswer`."""
        entry = self._state.catalog.find(request.account, request.stream)
        replica = None if entry is None else self._state.replicas.get(entry.stream_id)
        if entry is None or replica is None or replica.importing:
            answer(FeedTrouble(f"source {request.stream!r} does not exist yet; it is waited for", missing=True))
            return
        if not self._has_replica(entry.stream_id):
            answer(FeedTrouble(f"source {request.stream!r} has no replica on this member, which leads the copy"))
            return
        read = partial(self._read_in_turn, partial(self._read, request, replica.leading, partial(self._done, answer)))
        if self._gate.replicated and replica.leads:
            self._gate.when_confirmed(replica.log, NO_CALLER, read, nothing, partial(_abandoned, answer))
        else:
            read()

    def _has_replica(self, stream_id: StreamId) -> bool:
        """Return False for a stream whose records go to other members of a cluster: nothing of it arrives here."""
        conf = self._state.catalog.authority.confs.get(stream_id)
        return not self._state.config.member or conf is None or self._state.config.node_id in conf.newest.replicas

    def _read_in_turn(self, read: Callable[[], None]) -> None:
        self._queue.append(read)
        self._start_queued()

    def _start_queued(self) -> None:
        """Start the reads whose turn it is; one that ends at once starts no other, lest they nest."""
        if self._starting:
            return
        self._starting = True
        while self._queue and self._reading < READS_AT_ONCE:
            self._reading += 1
            self._queue.popleft()()
        self._starting = False

    def _done(self, answer: OnAnswer, found: FeedAnswer) -> None:
        self._reading -= 1
        answer(found)
        self._start_queued()

    def _read(self, request: FeedRequest, leading: Leading, answer: OnAnswer) -> None:
        select = partial(self._select, request, leading, answer)
        self._indexes.when_resident(leading.replica, select, partial(self._lost, leading.replica, answer))

    def _select(self, request: FeedRequest, leading: Leading, answer: OnAnswer) -> None:
        replica, limits = leading.replica, self._state.limits
        # A follower of a cluster is read as well: what it has applied is committed.
        is_gone = self._state.replicas.get(replica.id) is not replica if self._gate.replicated else leading.over
        if is_gone or replica.damage is not None:
            answer(_unserved(replica))
            return
        stream = replica.stream
        incarnation = Incarnation(replica.id, replica.entry.created_ms)
        if request.incarnation != incarnation:
            answer(FeedHead(incarnation, stream.first_seq, stream.last_seq))
            return
        stretch = read_stretch(
            stream, request.from_seq, request.pattern, limits.record_messages_max, limits.record_bytes_max,
            CHUNKS_SHARE * limits.record_bytes_max,
        )  # fmt: skip
        if not stretch.runs:
            answer(_batch(incarnation, stretch, []))
            return
        chunks = _chunks(stretch.runs)
        self._state.start(
            Lane.READ,
            [ReadChunk(chunk) for chunk in chunks],
            partial(_answer_with, incarnation, stretch, chunks, answer),
            partial(self._lost, replica, answer),
        )

    def _lost(self, replica: StreamReplica, answer: OnAnswer, failure: DiskFailure) -> None:
        if self._state.replicas.get(replica.id) is replica and replica.damage is None:
            self._quarantine.found(replica, failure)
        answer(_unserved(replica, failure))


def _unserved(replica: StreamReplica, failure: DiskFailure | None = None) -> FeedTrouble:
    if replica.damage is not None:
        return FeedTrouble(f"source: {replica.damage.refusal(replica.name).message}")
    if failure is not None:
        return FeedTrouble(f"source {replica.name!r} could not be read: {failure}")
    return FeedTrouble(f"source {replica.name!r}: no node leads it at the moment")


def _abandoned(answer: OnAnswer, refusal: Refusal) -> None:
    answer(FeedTrouble(f"source: {refusal.message}"))


def _answer_with(
    incarnation: Incarnation, stretch: Stretch, chunks: list[Chunk], answer: OnAnswer, results: list[OpResult]
) -> None:
    data: dict[tuple[str, int], bytes] = {}
    for chunk, result in zip(chunks, results, strict=True):
        assert isinstance(result, bytes)
        data[(chunk.path, chunk.offset)] = result
    cuts: list[Cut] = []
    for run in stretch.runs:
        starts = list(accumulate(run.lengths, initial=run.start))[:-1] if run.starts is None else run.starts
        cuts.append(Cut(data[(run.chunk.path, run.chunk.offset)], starts, run.lengths))
    answer(_batch(incarnation, stretch, cuts))


def _batch(incarnation: Incarnation, stretch: Stretch, cuts: list[Cut]) -> FeedBatch:
    seqs: list[int] = []
    times_ms: list[int] = []
    for run in stretch.runs:
        seqs.extend(run.sequences())
        times_ms.extend(run.times_ms)
    messages = SourceMessages(seqs, times_ms, stretch.subjects, stretch.sizes, cuts)
    return FeedBatch(incarnation, stretch.first_seq, stretch.last_seq, stretch.next_seq, stretch.torn, messages)


def _chunks(runs: list[Run]) -> list[Chunk]:
    """Return the chunks of some runs, each once, in order of first use."""
    found: dict[tuple[str, int], Chunk] = {}
    for run in runs:
        found.setdefault((run.chunk.path, run.chunk.offset), run.chunk)
    return list(found.values())
