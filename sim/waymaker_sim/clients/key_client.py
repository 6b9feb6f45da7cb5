"""A key client: changes and reads the keys of one bucket, one call at a time, and judges what it gets against the book.

The bucket is made once, with a drawn history and bound, and stays for the whole run. All clients share few keys, so that their
conditions meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from waymaker_core.api.kv_requests import KvCreateBucket, KvFailure, KvGet, KvHistory, KvOp, KvWrite, KvWritten
from waymaker_core.api.requests import Messages
from waymaker_core.kv.bodies import read_body, value_body
from waymaker_core.kv.keys import key_subject
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.result_codes import Answer, Outcome, Refusal, Status
from waymaker_sim.clients.client_view import Ask, ClientView
from waymaker_sim.history.keys import ANY, NOTHING, Key, KeyBook, Snapshot
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId

BUCKET: Final = "b"
STREAM: Final = "kv:" + BUCKET
KEYS: Final = ["a", "b.c", "b.d"]
TTLS_MS: Final = (0, 0, 400, 50, 1_500)


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """The settings of the bucket. 0: no bound, and the default for `tombstone_ms`."""

    history: int
    max_messages: int
    max_bytes: int = 0
    tombstone_ms: int = 0

    def request(self) -> KvCreateBucket:
        """Return the request that makes it."""
        return KvCreateBucket(
            BUCKET,
            self.max_bytes,
            self.max_messages,
            history=self.history,
            tombstone_ms=self.tombstone_ms,
        )


def draw_bucket(track: Track, closely: Track | None) -> BucketPlan:
    """Draw the settings of the bucket; those that came later from a track of their own, in some worlds."""
    plan = BucketPlan(track.pick("history", (64, 64, 2, 1)), track.pick("bound", (0, 0, 2, 1)))
    if closely is None:
        return plan
    return replace(
        plan,
        max_bytes=closely.pick("byte bound", (0, 0, 0, 24, 9)),
        tombstone_ms=closely.pick("tombstone", (0, 1_500, 300)),
    )


def decoded(message: ReceivedMessage) -> tuple[str, int]:
    """Return the key of a bucket's message and its value; `NOTHING` for a tombstone."""
    subject, value = read_body(message.body)
    return subject.removeprefix(BUCKET + "."), NOTHING if value is None else int(value)


class KeyClient:
    """Works on one key at a time; `busy` while a call is in flight."""

    def __init__(
        self, view: ClientView, track: Track, plan: BucketPlan, book: KeyBook, ttls_ms: tuple[int, ...] = TTLS_MS
    ) -> None:
        self.view = view
        self.track = track
        self.plan = plan
        self.book = book
        self.ttls_ms = ttls_ms
        self.busy = False
        self.quiet = False
        """True at rest: it only reads."""

    def act(self) -> None:
        """Make one call."""
        self.track.begin()
        if self.busy:
            return
        key = self.book.keys[self.track.pick("key", KEYS)]
        kind = self.track.weighted(
            "change",
            (
                (6, "get"),
                (4, "put"),
                (3, "update"),
                (2, "create"),
                (2, "delete"),
                (1, "touch"),
                (1, "history"),
                (1, "bucket"),
            ),
        )
        if kind == "get" or self.quiet:
            self.get(key)
        elif kind == "history":
            self._history(key)
        elif kind == "bucket":
            self._ask(self.plan.request(), self._made)
        else:
            self.write(key, KvOp[kind.upper()])

    def _ask(
        self,
        request: KvCreateBucket | KvWrite | KvGet | KvHistory,
        on_answer: Callable[[Answer, list[ReceivedMessage] | None, int], None],
        on_failed: Callable[[Outcome | None], None] = lambda outcome: None,
    ) -> None:
        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            self.busy = False
            if isinstance(answer, Refusal):
                on_failed(answer.outcome)
            else:
                on_answer(answer, got, self.view.events.now_ns)

        def lost() -> None:
            self.busy = False
            on_failed(Outcome.UNKNOWN)

        self.busy = True
        if self.view.ask(request, replied, lost) is None:
            self.busy = False
            on_failed(Outcome.NOT_APPLIED)

    def _made(self, answer: Answer, got: list[ReceivedMessage] | None, now_ns: int) -> None:
        require(answer.code in (outcomes.OK, outcomes.ALREADY_EXISTS), "keys", f"the bucket: {answer!r}")

    # ------------------------------------------------------------ changes

    def write(self, key: Key, op: KvOp) -> None:
        """Change a key, or touch it, with a drawn time to live."""
        book, track, now_ns = self.book, self.track, self.view.events.now_ns
        ttl_ms = 0 if op is KvOp.DELETE else track.pick("ttl", self.ttls_ms)
        expected_revision, expected = 0, ANY
        if op is KvOp.UPDATE:
            expected_revision, expected = self._expectation(key)
        elif op is KvOp.CREATE:
            expected = NOTHING
        value = NOTHING if op in (KvOp.DELETE, KvOp.TOUCH) else book.new_value(key, ttl_ms, now_ns)
        if op is KvOp.TOUCH:
            key.expires = key.expires or ttl_ms > 0
        body = value_body(key_subject(BUCKET, key.name), str(value).encode()) if value else b""
        request = KvWrite(
            BUCKET,
            [op],
            [key.name],
            [expected_revision],
            [ttl_ms],
            [len(str(value)) if value else 0],
            [len(body)],
            body,
        )
        at = book.snapshot(key, now_ns, changes=True)

        def answered(answer: Answer, got: list[ReceivedMessage] | None, now_ns: int) -> None:
            if answer.code == outcomes.NO_SUCH_BUCKET:
                require(not key.newest, "keys", f"{key.name} has revision {key.newest}, and its bucket is missing")
                book.not_changed(key, at)
                return
            written = answer.value
            assert isinstance(written, KvWritten)
            if 0 in written.failures:
                self._failed(key, at, op, expected, written.failures[0], now_ns)
            elif op is KvOp.TOUCH:
                self._touched(key, at, written.revisions[0], ttl_ms, now_ns)
            else:
                self._changed(key, at, op, value, expected, written.revisions[0], ttl_ms, now_ns)

        def failed(outcome: Outcome | None) -> None:
            if outcome is Outcome.NOT_APPLIED:
                book.not_changed(key, at)
                return
            book.unknown(key)
            if op is KvOp.TOUCH:
                for write in book.writes.values():
                    write.touched = write.touched or write.key is key
            else:
                book.wrote(key, at, value, expected)

        self._ask(request, answered, failed)

    def _expectation(self, key: Key) -> tuple[int, int]:
        """Return a revision that an update may ask for, and the value that it means."""
        known = [(revision, value) for revision, value in sorted(key.values.items()) if value != NOTHING][-3:]
        place = self.track.draw("expected", 4)
        return known[-place] if 0 < place <= len(known) else (0, NOTHING)

    def _changed(
        self, key: Key, at: Snapshot, op: KvOp, value: int, expected: int, revision: int, ttl_ms: int, now_ns: int
    ) -> None:
        if op is KvOp.DELETE and not revision:
            self.book.wrote(key, at, NOTHING, ANY, now_ns)
            self.book.not_changed(key, at)
            return
        if op is not KvOp.DELETE:
            require(
                revision > at.newest,
                "keys",
                f"a change of {key.name} made revision {revision} after {at.newest} was seen",
            )
            self.book.confirmed.append((at.asked_ns, revision))
        self.book.wrote(key, at, value, expected, now_ns)
        self.book.changed(key, at, revision, value, ttl_ms, now_ns)

    def _touched(self, key: Key, at: Snapshot, revision: int, ttl_ms: int, now_ns: int) -> None:
        self.view.mark("key touched")
        value = key.values.get(revision)
        require(value != NOTHING, "keys", f"{key.name} was touched, and its revision {revision} is a tombstone")
        if value is not None:
            self.book.writes[value].touched = True
            self.book.changed(key, at, revision, value, ttl_ms, now_ns)
        else:
            self.book.unknown(key)
            for write in self.book.writes.values():
                write.touched = write.touched or write.key is key

    def _failed(self, key: Key, at: Snapshot, op: KvOp, expected: int, failure: KvFailure, now_ns: int) -> None:
        if failure.status is Status.RESOURCE_EXHAUSTED:
            require(self.plan.max_messages + self.plan.max_bytes > 0, "keys", f"{key.name}: {failure.message}")
            self.view.mark("bucket full")
            self._nothing_changed(key, at)
            return
        require(failure.code == outcomes.WRONG_REVISION, "answer allowed", f"{op}: {failure!r}")
        if op is not KvOp.TOUCH:
            self.book.refused(key, at, expected, failure.revision, now_ns)
        if failure.revision and failure.revision not in key.values:
            key.newest = max(key.newest, failure.revision)
        self._nothing_changed(key, at)

    def _nothing_changed(self, key: Key, at: Snapshot) -> None:
        """Note a refusal; an overdue value got its tombstone with it."""
        if at.exact is not None and at.exact.ttl_ms:
            self.book.unknown(key)
        else:
            self.book.not_changed(key, at)

    # ------------------------------------------------------------ reads

    def get(self, key: Key) -> None:
        """Read a key, and judge what is found."""
        at = self.book.snapshot(key, self.view.events.now_ns, changes=False)

        def answered(answer: Answer, got: list[ReceivedMessage] | None, now_ns: int) -> None:
            if answer.code == outcomes.NO_SUCH_BUCKET:
                require(not key.newest, "keys", f"{key.name} has revision {key.newest}, and its bucket is missing")
                return
            assert isinstance(answer.value, Messages) and got is not None and answer.value.of_keys is not None
            revision, value = (got[0].seq, decoded(got[0])[1]) if got else (0, NOTHING)
            if revision and not value:
                violated("keys", f"the tombstone of {key.name} is read as a value")
            self.book.read(key, at, revision, value, now_ns, self.view.access.up_ns)

        self._ask(KvGet(BUCKET, [key.name]), answered)

    def _history(self, key: Key) -> None:
        def answered(answer: Answer, got: list[ReceivedMessage] | None, now_ns: int) -> None:
            for message in got or []:
                name, value = decoded(message)
                require(name == key.name, "keys", f"a message of {name} is in the history of {key.name}")
                key.saw(message.seq, value)

        self._ask(KvHistory(BUCKET, key.name), answered)
