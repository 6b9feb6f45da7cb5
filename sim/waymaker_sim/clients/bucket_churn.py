"""A client that deletes its bucket and makes it again under the same name: nothing of an earlier bucket is in a later one.

It makes one call at a time, and no other client uses its bucket. So it knows what is there, but for calls whose outcome got
lost: these may still take effect until a later change of the same log is confirmed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from waymaker_core.api.kv_requests import (
    KvCreateBucket,
    KvDeleteBucket,
    KvGet,
    KvKeys,
    KvOp,
    KvRequest,
    KvWrite,
    KvWritten,
)
from waymaker_core.api.requests import Messages, Page
from waymaker_core.kv.bodies import read_body, value_body
from waymaker_core.kv.keys import key_subject
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.result_codes import Answer, Outcome, Refusal
from waymaker_sim.clients.client_view import Ask, ClientView
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.events import MS
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId

CHURNED: Final = "c"
CHURNED_STREAM: Final = "kv:" + CHURNED
KEYS: Final = ("x", "y.z")
SHORT_MS: Final = 200


@dataclass(slots=True)
class Incarnation:
    """One bucket from its creation on, as far as it is known.

    `possible`: the values that a key may have, `None` for none; several where that is unknown.
    """

    possible: dict[str, list[bytes | None]] = field(default_factory=lambda: {key: [None] for key in KEYS})
    ends_ns: dict[str, int] = field(default_factory=dict)
    """Time from which on a key may have no value any more."""
    changes: int = 0
    """Changes that were asked for, each of which makes two revisions at most."""


class BucketChurn:
    """Makes, fills, reads and deletes the bucket. `exists` is None where that is unknown."""

    def __init__(self, view: ClientView, track: Track, sane_clocks: bool) -> None:
        self.view = view
        self.track = track
        self.sane_clocks = sane_clocks
        self.busy = False
        self.exists: bool | None = False
        self.incarnation: Incarnation | None = None
        """None where it is unknown which bucket is there."""
        self._incarnations = self._values = 0
        view.others.append(CHURNED_STREAM)

    def act(self) -> None:
        """Make one call."""
        self.track.begin()
        if self.busy:
            return
        kind = self.track.weighted("churn", ((6, "get"), (6, "put"), (2, "keys"), (2, "delete"), (2, "make")))
        if kind == "make" or (kind == "put" and self.exists is False):
            self._make()
        elif kind == "delete":
            self._delete()
        elif kind == "keys":
            self._ask(KvKeys(CHURNED), self._listed)
        else:
            key = self.track.pick("key", KEYS)
            if kind == "put":
                self._put(key)
            else:
                self._ask(KvGet(CHURNED, [key]), lambda answer, got: self._read(key, answer, got))

    def _ask(
        self,
        request: KvRequest,
        on_answer: Callable[[Answer, list[ReceivedMessage]], None],
        on_failed: Callable[[bool], None] = lambda may_have_happened: None,
    ) -> None:
        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            self.busy = False
            if isinstance(answer, Refusal):
                on_failed(answer.outcome is not Outcome.NOT_APPLIED)
            else:
                on_answer(answer, got or [])

        def lost() -> None:
            self.busy = False
            on_failed(True)

        self.busy = True
        if self.view.ask(request, replied, lost) is None:
            self.busy = False
            on_failed(False)

    # ------------------------------------------------------------ the bucket

    def _make(self) -> None:
        def made(answer: Answer, got: list[ReceivedMessage]) -> None:
            if answer.code == outcomes.OK:
                require(self.exists is not True, "keys", "a bucket was made twice")
                self.exists, self.incarnation = True, Incarnation()
                self._incarnations += 1
                self.view.mark("bucket made again" if self._incarnations > 1 else "bucket made")
            else:
                require(self.exists is not False, "keys", f"a bucket that was deleted is there: {answer!r}")

        self._ask(KvCreateBucket(CHURNED, history=8), made, self._unknown)

    def _delete(self) -> None:
        def deleted(answer: Answer, got: list[ReceivedMessage]) -> None:
            self._found(answer)
            if answer.code == outcomes.OK:
                self.exists, self.incarnation = False, None

        self._ask(KvDeleteBucket(CHURNED), deleted, self._unknown)

    def _unknown(self, may_have_happened: bool) -> None:
        if may_have_happened:
            self.exists = self.incarnation = None

    def _found(self, answer: Answer) -> bool:
        """Judge an answer by the bucket's existence; return True if it was found."""
        found = answer.code != outcomes.NO_SUCH_BUCKET
        require(self.exists in (None, found), "keys", f"the bucket's existence is {self.exists}: {answer!r}")
        return found

    # ------------------------------------------------------------ keys

    def _put(self, key: str) -> None:
        self._values += 1
        value = b"%d" % self._values
        ttl_ms = self.track.pick("ttl", (0, 0, SHORT_MS))
        body = value_body(key_subject(CHURNED, key), value)
        request = KvWrite(CHURNED, [KvOp.PUT], [key], [0], [ttl_ms], [len(value)], [len(body)], body)
        incarnation, asked_ns = self.incarnation, self.view.events.now_ns
        if incarnation is not None:
            incarnation.changes += 1

        def stored(answer: Answer, got: list[ReceivedMessage]) -> None:
            if not self._found(answer) or incarnation is None:
                return
            written = answer.value
            assert isinstance(written, KvWritten)
            require(not written.failures, "keys", f"{key}: {written.failures}")
            most = 2 * incarnation.changes + len(KEYS)
            require(
                written.revisions[0] <= most, "keys",
                f"change {incarnation.changes} of a bucket made revision {written.revisions[0]}, as an earlier bucket would",
            )  # fmt: skip
            incarnation.possible[key] = [value]
            incarnation.ends_ns.pop(key, None)
            if ttl_ms:
                incarnation.ends_ns[key] = asked_ns + ttl_ms * MS if self.sane_clocks else 0

        def failed(may_have_happened: bool) -> None:
            if incarnation is not None and may_have_happened:
                incarnation.possible[key].append(value)
                if ttl_ms:
                    incarnation.ends_ns[key] = 0

        self._ask(request, stored, failed)

    def _read(self, key: str, answer: Answer, got: list[ReceivedMessage]) -> None:
        if not self._found(answer) or self.incarnation is None:
            return
        assert isinstance(answer.value, Messages)
        value = read_body(got[0].body)[1] if got else None
        allowed = self._allowed(key)
        require(value in allowed, "keys", f"{key} of bucket {self._incarnations} is {value!r}, not one of {allowed}")
        self.view.mark("key of a churned bucket read")

    def _listed(self, answer: Answer, got: list[ReceivedMessage]) -> None:
        if not self._found(answer) or self.incarnation is None:
            return
        assert isinstance(answer.value, Page)
        names = [entry.key for entry in answer.value.entries]
        known = [key for key in KEYS if self.incarnation.possible[key] != [None]]
        require(set(names) <= set(known), "keys", f"bucket {self._incarnations} lists {names}; only {known} were put")

    def _allowed(self, key: str) -> list[bytes | None]:
        assert self.incarnation is not None
        allowed = list(self.incarnation.possible[key])
        ends_ns = self.incarnation.ends_ns.get(key)
        if ends_ns is not None and self.view.events.now_ns >= ends_ns - MS:
            allowed.append(None)
        return allowed
