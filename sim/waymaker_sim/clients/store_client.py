"""The client of stores: puts, removes and reads entries of a hash, pushes and pops values of a queue, adds to a sketch.

Several calls are in flight at a time, also about one entry. What a dict, a deque and a sketch in one process would hold is
known as far as answers tell: an outcome that is not known leaves more than one possibility, and a later confirmed change
ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from waymaker_core.api.collection_requests import (
    CountEntries,
    CountValues,
    GetEntries,
    PeekValues,
    PopValues,
    PushValues,
    PutEntries,
    ReadEntries,
    RemoveEntries,
)
from waymaker_core.api.requests import CreateStream, EntryMessages, GetStreamInfo, Request, StreamInfo
from waymaker_core.api.sketch_requests import AddToSketch, GetSketchSnapshot
from waymaker_core.collections.subjects import VALUES, field_subject, fields_head
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import decode_body, payload_field, subject_field
from waymaker_core.model.result_codes import Answer, Outcome, Refusal
from waymaker_core.sketches.parameters import parameters_of
from waymaker_core.sketches.restoring import restore
from waymaker_core.sketches.t_digest import TDigest
from waymaker_sim.clients.client_view import Ask, ClientView
from waymaker_sim.kernel.checks import listed, require, violated
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.observations import Asker, Seen, SeenStream
from waymaker_sim.machine.process import ReceivedMessage, StepId
from waymaker_sim.machine.swarm import Plan

HASH: Final = "hash:h"
QUEUE: Final = "queue:q"
SKETCH: Final = "sketch:k"
STORES: Final = (HASH, QUEUE, SKETCH)
KEYS: Final = ("a", "a.b", "")
FIELDS: Final = ("c", "b.c", "", "*")
KINDS: Final = (
    b"top_k.3.100000000.100000000",
    b"hyperloglog.4",
    b"bloom.20.100000000",
    b"count_min.100000000.100000000",
)
IN_FLIGHT_MAX: Final = 6
TWINS_MAX: Final = 16
"""Sketches that are possible at a time; past it nothing is added before a look narrows them."""


@dataclass(slots=True, eq=False)
class Entry:
    """An entry, and what it may hold: None for nothing. `open`: calls in flight that change it.

    `puts`: the revisions and values of the confirmed puts since none was in flight. `clouded`: another kind of change, or
    one of unknown outcome, happened among them.
    """

    subject: str
    possible: list[bytes | None] = field(default_factory=lambda: [None])
    open: int = 0
    puts: dict[int, bytes] = field(default_factory=dict)
    removed: int = 0
    clouded: bool = False


class StoreClient:
    """Every call to the stores goes through here, so that what was confirmed to one caller is known to all."""

    def __init__(self, view: ClientView, track: Track, plan: Plan) -> None:
        self.view = view
        self.track = track
        self.plan = plan
        self._made: list[str] = []
        self._making = False
        self._in_flight = 0
        self._numbers = 0
        limits = Limits()
        self._entries = {
            (key, name): Entry(field_subject(key, name, limits)) for key in KEYS for name in FIELDS
        }  # fmt: skip
        self._pushed: dict[bytes, bool] = {}
        """By value: True if its push was confirmed."""
        self._given: dict[bytes, int] = {}
        """Values that were handed out, with their sequences."""
        self._lost_takes = 0
        """Values that takes of unknown outcome may have removed."""
        self._kind = track.pick("kind of sketch", KINDS)
        self._twins: list[bytes] = [parameters_of(self._kind).make().snapshot()]
        self._adding = False
        self._unsettled = False
        view.others += STORES

    # ------------------------------------------------------------ turns

    def act(self) -> None:
        """Make one call."""
        self.track.begin()
        missing = next((name for name in STORES if name not in self._made), "")
        if missing:
            self._make(missing)
            return
        if self._in_flight >= IN_FLIGHT_MAX:
            return
        kind = self.track.weighted(
            "store",
            ((1, "rest"), (4, "put"), (2, "remove"), (3, "get"), (1, "all"), (4, "push"), (4, "pop"), (1, "peek"), (3, "add"),
             (1, "look")),
        )  # fmt: skip
        if kind != "rest":
            getattr(self, f"_{kind}")()

    def _make(self, name: str) -> None:
        if self._making:
            return
        settings = self._kind if name == SKETCH else b""
        config = StreamConfig(name, service_settings=settings)

        def made(ask: Ask, answer: Answer | Refusal, got: object, step_id: StepId) -> None:
            self._making = False
            if isinstance(answer, Answer) and answer.code in (outcomes.OK, outcomes.ALREADY_EXISTS):
                self._made.append(name)

        self._making = self.view.ask(CreateStream(config), made, self._not_made) is not None

    def _not_made(self) -> None:
        self._making = False

    def _ask(
        self, request: Request, answered: Callable[[Answer, list[ReceivedMessage] | None], None],
        failed: Callable[[bool], None] = lambda may_have_happened: None,
    ) -> bool:  # fmt: skip
        """Make a call; `failed` is told if it may have happened all the same. Return False if it could not be made."""
        done: list[bool] = []

        def over() -> bool:
            """Return True the first time: a cancelled call may be answered too."""
            if done:
                return False
            done.append(True)
            self._in_flight -= 1
            return True

        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            if not over():
                return
            if isinstance(answer, Refusal):
                failed(answer.outcome is not Outcome.NOT_APPLIED)
            else:
                answered(answer, got)

        def lost() -> None:
            if over():
                failed(True)

        self._in_flight += 1
        ask = self.view.ask(request, replied, lost)
        if ask is None:
            self._in_flight -= 1
            return False
        if self.track.chance("cancel", self.plan.cancel):
            ask.cancel()
        return True

    def _number(self) -> bytes:
        self._numbers += 1
        return b"%d" % self._numbers + b"x" * self.track.pick("padding", (0, 0, 50, 700))

    # ------------------------------------------------------------ entries

    def _pick(self) -> Entry:
        return self._entries[self.track.pick("key", KEYS), self.track.pick("field", FIELDS)]

    def _put(self) -> None:
        entry, value = self._pick(), self._number()
        body = subject_field(entry.subject) + payload_field(value)
        entry.open += 1
        entry.possible.append(value)

        def stored(answer: Answer, got: object) -> None:
            assert isinstance(answer.value, list)
            entry.puts[answer.value[0]] = value
            self._changed(entry)

        request = PutEntries(HASH, [entry.subject], [len(value)], [body])
        if not self._ask(request, stored, partial(self._not_changed, entry, value)):
            self._not_changed(entry, value, False)

    def _remove(self) -> None:
        entry = self._pick()
        entry.open += 1
        added = None not in entry.possible
        if added:
            entry.possible.append(None)

        def removed(answer: Answer, got: object) -> None:
            if answer.value and entry.possible == [None] and entry.open == 1:
                violated("store entries", f"an entry was removed at {entry.subject!r}, where there is none")
            entry.removed += 1
            self._changed(entry)

        def failed(may_have_happened: bool) -> None:
            self._not_changed(entry, None, may_have_happened or not added)

        if not self._ask(RemoveEntries(HASH, [entry.subject]), removed, failed):
            failed(False)

    def _not_changed(self, entry: Entry, value: bytes | None, may_have_happened: bool) -> None:
        if may_have_happened:
            entry.clouded = True
        elif not entry.removed or value is not None:
            entry.possible.remove(value)
        self._changed(entry)

    def _changed(self, entry: Entry) -> None:
        """Forget possibilities once nothing is in flight: what was decided last stays."""
        entry.open -= 1
        if entry.open:
            return
        if not entry.clouded and not entry.removed and entry.puts:
            entry.possible = [entry.puts[max(entry.puts)]]
        elif not entry.clouded and entry.removed and not entry.puts:
            entry.possible = [None]
        entry.puts, entry.removed, entry.clouded = {}, 0, False

    def _get(self) -> None:
        entry = self._pick()
        before = list(entry.possible)

        def read(answer: Answer, got: list[ReceivedMessage] | None) -> None:
            self._compare(entry, before, [decode_body(message.body)[2] for message in got or []])

        self._ask(GetEntries(HASH, [entry.subject]), read)

    def _compare(self, entry: Entry, before: list[bytes | None], values: list[bytes]) -> None:
        value = values[0] if values else None
        if value not in before and value not in entry.possible:
            violated(
                "store entries", f"{entry.subject!r} holds {_short(value)}, not {listed(map(_short, entry.possible))}"
            )
        self.view.mark("entry read" if values else "no entry read")

    def _all(self) -> None:
        key = self.track.pick("key", KEYS)
        mine = {entry.subject: entry for (each, _), entry in self._entries.items() if each == key}
        before = {subject: list(entry.possible) for subject, entry in mine.items()}

        def read(answer: Answer, got: list[ReceivedMessage] | None) -> None:
            assert isinstance(answer.value, EntryMessages)
            found = dict(decode_body(message.body)[::2] for message in got or [])
            for subject, value in found.items():
                if subject not in mine:
                    violated("store entries", f"{subject!r} in a list of another hash")
                self._compare(mine[subject], before[subject], [value])
            for subject, entry in mine.items():
                if not answer.value.next_after and subject not in found:
                    self._compare(entry, before[subject], [])

        self._ask(ReadEntries(HASH, fields_head(key, Limits()), "", 4), read)

    # ------------------------------------------------------------ queue

    def _push(self) -> None:
        values = [self._number() for _ in range(self.track.between("values", 1, 4))]
        self._pushed |= dict.fromkeys(values, False)
        bodies = [subject_field(VALUES) + payload_field(value) for value in values]

        def pushed(answer: Answer, got: object) -> None:
            self._pushed |= dict.fromkeys(values, True)

        def failed(may_have_happened: bool) -> None:
            if not may_have_happened:
                for value in values:
                    del self._pushed[value]

        if not self._ask(PushValues(QUEUE, list(map(len, values)), bodies), pushed, failed):
            failed(False)

    def _pop(self) -> None:
        limit = self.track.pick("limit", (1, 1, 3))

        def taken(answer: Answer, got: list[ReceivedMessage] | None) -> None:
            self._take(got or [])
            self.view.mark("values taken" if got else "no value taken")

        def failed(may_have_happened: bool) -> None:
            self._lost_takes += limit if may_have_happened else 0

        self._ask(PopValues(QUEUE, limit), taken, failed)

    def _take(self, got: list[ReceivedMessage]) -> None:
        last = 0
        for message in got:
            value = decode_body(message.body)[2]
            require(value in self._pushed, "taken once", f"{_short(value)} was never pushed")
            require(value not in self._given, "taken once", f"{_short(value)} was handed out twice")
            require(message.seq > last, "taken once", f"sequence {message.seq} behind {last} in one take")
            last = self._given[value] = message.seq

    def _peek(self) -> None:
        def read(answer: Answer, got: list[ReceivedMessage] | None) -> None:
            values = [decode_body(message.body)[2] for message in got or []]
            wrong = [_short(value) for value in values if value not in self._pushed]
            require(not wrong, "taken once", f"values that were never pushed: {listed(wrong)}")

        self._ask(PeekValues(QUEUE, 0, 3), read)

    # ------------------------------------------------------------ sketch

    def _add(self) -> None:
        if self._adding or len(self._twins) > TWINS_MAX:
            return
        values = [b"%d" % self.track.draw("value", 30) for _ in range(self.track.between("values", 1, 8))]
        after = [_added(twin, values) for twin in self._twins]

        def added(answer: Answer, got: object) -> None:
            self._adding = self._unsettled = False
            self._twins = list(dict.fromkeys(after))

        def failed(may_have_happened: bool) -> None:
            self._adding = False
            if may_have_happened:
                self._unsettled = True
                self._twins = list(dict.fromkeys([*self._twins, *after]))

        self._adding = self._ask(AddToSketch(SKETCH, values), added, failed)

    def _look(self) -> None:
        if self._adding:
            return
        settled = not self._unsettled

        def read(answer: Answer, got: object) -> None:
            if self._adding or settled == self._unsettled:
                return  # changed meanwhile
            assert isinstance(answer.value, bytes)
            self._match(answer.value, settled or len(self._twins) > TWINS_MAX)

        self._ask(GetSketchSnapshot(SKETCH), read)

    def _match(self, snapshot: bytes, settled: bool) -> None:
        require(snapshot in self._twins, "sketch equal", f"none of {len(self._twins)} sketches that may be is this one")
        self.view.mark("sketch compared")
        if settled:
            self._twins = [snapshot]

    # ------------------------------------------------------------ at rest

    def check(self, seen: Seen, asker: Asker) -> None:
        """Require that the stores hold what was confirmed, and that a drained queue has given every value at most once."""
        for name in STORES:
            if name in seen and not isinstance(seen[name], SeenStream):
                return  # in quarantine
        if HASH in seen:
            self._check_entries(asker)
        if QUEUE in seen:
            self._check_queue(asker)
        if SKETCH in seen:
            answer, _ = asker.ask(GetSketchSnapshot(SKETCH))
            if isinstance(answer, Answer) and isinstance(answer.value, bytes):
                self._match(answer.value, True)

    def _check_entries(self, asker: Asker) -> None:
        total = 0
        for key in KEYS:
            count = 0
            for name in FIELDS:
                entry = self._entries[key, name]
                answer, got = asker.ask(GetEntries(HASH, [entry.subject]))
                if isinstance(answer, Refusal):
                    return  # a read that failed
                self._compare(entry, entry.possible, [decode_body(message.body)[2] for message in got or []])
                count += len(got or [])
            answer, _ = asker.ask(CountEntries(HASH, fields_head(key, Limits())))
            assert isinstance(answer, Answer)
            require(
                answer.value == count, "store entries", f"{answer.value} entries are counted, and {count} are there"
            )
            total += count
        answer, _ = asker.ask(GetStreamInfo(HASH))
        assert isinstance(answer, Answer) and isinstance(answer.value, StreamInfo)
        held = answer.value.stats.msg_count
        require(held == total, "store entries", f"{held} messages are stored for {total} entries")

    def _check_queue(self, asker: Asker) -> None:
        answer, _ = asker.ask(CountValues(QUEUE))
        assert isinstance(answer, Answer) and isinstance(answer.value, int)
        before, last, length = len(self._given), max(self._given.values(), default=0), answer.value
        while True:
            answer, got = asker.ask(PopValues(QUEUE, 3))
            if isinstance(answer, Refusal):
                return  # a read that failed took values with it
            if not got:
                break
            require(got[0].seq > last, "taken once", f"sequence {got[0].seq} after {last} was handed out")
            last = got[-1].seq
            self._take(got)
        drained = len(self._given) - before
        require(drained == length, "taken once", f"{length} values are counted, and {drained} are there")
        missing = [value for value, confirmed in self._pushed.items() if confirmed and value not in self._given]
        require(
            len(missing) <= self._lost_takes, "taken once",
            f"{listed(map(_short, missing))} were pushed and never handed out; {self._lost_takes} may be lost in answers",
        )  # fmt: skip
        self.view.mark("queue drained")


def _added(twin: bytes, values: list[bytes]) -> bytes:
    sketch = restore(twin)
    assert not isinstance(sketch, TDigest)
    sketch.add(values)
    return sketch.snapshot()


def _short(value: bytes | None) -> str:
    return "nothing" if value is None else value.rstrip(b"x").decode()
