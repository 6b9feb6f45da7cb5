"""Changes of keys: judged in order, each against what those before it leave, and committed as one record.

A change that meets an overdue value first puts its tombstone in its place, in the same record: a value whose time to live
has ended is never compared with, nor kept.
"""

from __future__ import annotations

from array import array
from typing import Final

from waymaker_core.api.kv_requests import KvFailure, KvOp, KvWrite, KvWritten
from waymaker_core.kv.bodies import DELETED, EXPIRED, tombstone_body
from waymaker_core.kv.facts import KvFact, encode_fact
from waymaker_core.kv.keys import are_keys, key_fault, subject_head
from waymaker_core.kv.layer import KeyState, KvLayer, Ttl
from waymaker_core.layers.decide import Draft, decide_draft
from waymaker_core.layers.layer import KV, LayerDecision
from waymaker_core.model.limits import U64_MAX
from waymaker_core.model.result_codes import INVALID_KEY, WRONG_REVISION, Status, invalid
from waymaker_core.model.types import Now
from waymaker_core.stream import projection

TTL_MAX_MS: Final = 1 << 53
"""The longest time to live: beyond it 0 (for ever) is meant."""


def decide_write(layer: KvLayer, request: KvWrite, now: Now) -> LayerDecision:
    """Judge the changes of a request and stage them. Raises `NeedBlocks`, and `RefusedError` for columns that disagree."""
    _check_columns(request)
    return _Write(layer, request, now).decide()


def _check_columns(request: KvWrite) -> None:
    count = len(request.ops)
    columns = (request.keys, request.expected, request.ttls_ms, request.sizes, request.lengths)
    if not count or any(len(column) != count for column in columns):
        raise invalid("the columns of a change of keys disagree")
    if sum(request.lengths) != len(request.body) or min(request.lengths) < 0 or min(request.sizes) < 0:
        raise invalid("the values of a change of keys are not as long as they should be")
    if min(request.expected) < 0 or max(request.expected) > U64_MAX:
        raise invalid("a revision is out of range")


class _Write:
    """A request that is being decided: the states of its keys so far, and the record as it grows."""

    def __init__(self, layer: KvLayer, request: KvWrite, now: Now) -> None:
        self.layer = layer
        self.stream = layer.stream
        self.request = request
        self.now = now
        self.first = self.stream.overlay.last_seq + 1
        self.states: dict[str, KeyState] = {}
        self.draft = Draft()
        self.drops: dict[int, None] = {}
        self.reasons: list[str] = []
        """Of each message: the reason of a tombstone; empty for a value."""
        self.failures: dict[int, KvFailure] = {}
        settings, stream = layer.settings, self.stream
        self.bounded = bool(settings.max_bytes or settings.max_messages)
        self.count, self.bytes = stream.overlay.count, stream.overlay.bytes
        bound = stream.settings.max_msg_bytes or stream.limits.message_bytes_max
        self.value_max = min(bound, stream.limits.message_bytes_max)

    def decide(self) -> LayerDecision:
        request = self.request
        if self.bounded:
            self.stream.need_all()
        elif self._are_plain_puts():
            return self._put_plainly()
        revisions: list[int] = []
        head = subject_head(request.bucket)
        at = 0
        for index, (op, key) in enumerate(zip(request.ops, request.keys, strict=True)):
            body = request.body[at : at + request.lengths[index]]
            at += request.lengths[index]
            failure = self._fault(index, op, key)
            revision = 0
            if failure is None:
                subject = head + key
                state = self._state(subject)
                failure = self._judge(index, op, state)
                if failure is None and op in _WRITES:
                    failure = self._full(subject, request.sizes[index])
                if failure is None:
                    revision = self._change(op, subject, state, body, index)
            if failure is not None:
                self.failures[index] = failure
                revision = failure.revision
            revisions.append(revision)
        return self._staged(KvWritten(revisions, self.failures))

    # ------------------------------------------------------------ many values at once

    def _are_plain_puts(self) -> bool:
        """Return True if the request puts values whose keys have no time to live, before or after, and none can fail."""
        request = self.request
        if request.ops.count(KvOp.PUT) != len(request.ops) or any(request.ttls_ms) or self.layer.settings.max_age_ms:
            return False
        if max(request.sizes) > self.value_max or not are_keys(request.bucket, request.keys, self.stream.limits):
            return False
        head = subject_head(request.bucket)
        self.draft.subjects = [head + key for key in request.keys]
        if self.layer.has_ttl_among(self.draft.subjects):
            self.draft.subjects = []
            return False
        return True

    def _put_plainly(self) -> LayerDecision:
        """Stage the columns as they came: what one by one would come to."""
        draft, request = self.draft, self.request
        draft.sizes, draft.bodies, draft.lengths = request.sizes, [request.body], array("I", request.lengths)
        revisions = list(range(self.first, self.first + len(request.keys)))
        record = decide_draft(self.stream, draft, self.now.wall_ms)
        states = {subject: KeyState(seq, False, None) for subject, seq in zip(draft.subjects, revisions, strict=True)}
        self.layer.stage(record, states)
        return LayerDecision(record, draft.bodies, KvWritten(revisions, {}))

    # ------------------------------------------------------------ judging

    def _fault(self, index: int, op: KvOp, key: str) -> KvFailure | None:
        """Return the reason why a change is malformed, or too large, whatever its key holds."""
        fault = key_fault(self.request.bucket, key, self.stream.limits)
        if fault:
            # A deletion has no code for it.
            return KvFailure(INVALID_KEY, fault, 0, Status.INVALID_ARGUMENT if op is KvOp.DELETE else None)
        if not 0 <= self.request.ttls_ms[index] <= TTL_MAX_MS:
            return KvFailure("", f"ttl_ms is out of range; at most {TTL_MAX_MS}", 0, Status.INVALID_ARGUMENT)
        size = self.request.sizes[index]
        if op in _WRITES and size > self.value_max:
            text = f"a value of {size:,} bytes; this bucket takes at most {self.value_max:,}"
            return KvFailure("", text, 0, Status.RESOURCE_EXHAUSTED)
        return None

    def _state(self, subject: str) -> KeyState:
        """Return the state that a change meets; an overdue value gets its tombstone first."""
        state = self.states.get(subject)
        if state is None:
            state = self.layer.projected(subject)
            if self.layer.is_overdue(state, self.now):
                state = self._bury(subject, EXPIRED)
        return state

    def _judge(self, index: int, op: KvOp, state: KeyState) -> KvFailure | None:
        if op is KvOp.UPDATE and self.request.expected[index]:
            wanted = self.request.expected[index]
            if state.seq != wanted:
                return KvFailure(WRONG_REVISION, f"the key's revision is {state.seq}, not {wanted}", state.seq)
        elif op in (KvOp.UPDATE, KvOp.CREATE) and state.is_live:
            return KvFailure(WRONG_REVISION, f"the key has a value already, of revision {state.seq}", state.seq)
        elif op is KvOp.TOUCH and not state.is_live:
            return KvFailure(WRONG_REVISION, "the key has no live value", state.seq)
        return None

    def _full(self, subject: str, size: int) -> KvFailure | None:
        """Refuse a value for which the bucket has no room: nothing is evicted for it but what its key's history drops."""
        if not self.bounded:
            return None
        settings = self.layer.settings
        pushed = self._pushed(subject)
        count = self.count + 1 - len(pushed)
        byte_count = self.bytes + size + len(subject.encode()) - sum(pushed)
        if settings.max_messages and count > settings.max_messages:
            text = f"the bucket holds {self.count:,} messages; its max_messages is {settings.max_messages:,}"
        elif settings.max_bytes and byte_count > settings.max_bytes:
            text = f"the bucket holds {self.bytes:,} bytes; its max_bytes is {settings.max_bytes:,}"
        else:
            self.count, self.bytes = count, byte_count
            return None
        return KvFailure("", f"{text}; delete keys to make room", 0, Status.RESOURCE_EXHAUSTED)

    def _pushed(self, subject: str) -> list[int]:
        """Return the sizes of the revisions that one more at a subject pushes out."""
        cap = self.stream.settings.max_msgs_per_subject
        if not cap:
            return []
        own = [size for other, size in zip(self.draft.subjects, self.draft.sizes, strict=True) if other == subject]
        seqs = [seq for seq in self.stream.projected_seqs_at(subject) if seq not in self.drops]
        # Revisions of this request are not stored yet; each beyond the cap has pushed one out before.
        gone = len(seqs) + len(own) - cap
        if gone < 0:
            return []
        if gone < len(seqs):
            return [projection.size_of(self.stream, seqs[gone])]
        return [own[gone - len(seqs)] + len(subject.encode())]

    def _pushed_before(self, subject: str) -> list[int]:
        """Return the stored revisions that values of this request push out at a subject: they count no more."""
        cap = self.stream.settings.max_msgs_per_subject
        seqs = [seq for seq in self.stream.projected_seqs_at(subject) if seq not in self.drops]
        return seqs[: max(0, len(seqs) + self.draft.subjects.count(subject) - cap)] if cap else []

    # ------------------------------------------------------------ changing

    def _change(self, op: KvOp, subject: str, state: KeyState, body: bytes, index: int) -> int:
        """Make a change that was judged; return the key's revision after it."""
        if op is KvOp.DELETE:
            if not state.is_live:
                self.states[subject] = state
                return state.seq
            return self._bury(subject, DELETED).seq
        seq = state.seq if op is KvOp.TOUCH else self._next()
        if op is not KvOp.TOUCH:
            self._append(subject, self.request.sizes[index], body, "")
        self.states[subject] = KeyState(seq, False, self._ttl(seq, self.request.ttls_ms[index]))
        return seq

    def _next(self) -> int:
        return self.first + len(self.draft.subjects)

    def _ttl(self, seq: int, ttl_ms: int) -> Ttl | None:
        bounded_ms = max_age_ms = self.layer.settings.max_age_ms
        if ttl_ms:
            bounded_ms = min(ttl_ms, max_age_ms) if max_age_ms else ttl_ms
        if not bounded_ms:
            return None
        return Ttl(seq, self.now.wall_ms + bounded_ms, bounded_ms, self.now.mono_ns + bounded_ms * 1_000_000)

    def _bury(self, subject: str, reason: str) -> KeyState:
        """Put a tombstone in a key's place; in a bucket with bounds its older revisions go with it."""
        pushed = self._pushed_before(subject) if self.bounded else []
        for seq in self.layer.hidden(subject):
            if seq in self.drops:
                continue
            self.drops[seq] = None
            if seq not in pushed:
                self._uncount([projection.size_of(self.stream, seq)])
        if self.bounded:
            # A value of this very request is hidden too; where the history has no room for both, the tombstone drops it.
            self._uncount(self._pushed(subject))
        state = self.states[subject] = KeyState(self._next(), True, None)
        self._append(subject, 0, tombstone_body(subject, reason), reason)
        self.count += 1
        self.bytes += len(subject.encode())
        return state

    def _uncount(self, sizes: list[int]) -> None:
        """Count messages of these sizes no more."""
        self.count -= len(sizes)
        self.bytes -= sum(sizes)

    def _append(self, subject: str, size: int, body: bytes, reason: str) -> None:
        self.draft.subjects.append(subject)
        self.draft.sizes.append(size)
        self.draft.bodies.append(body)
        self.reasons.append(reason)

    def _staged(self, written: KvWritten) -> LayerDecision:
        fact = self._fact()
        if not self.draft.subjects and not fact:
            unsettled = self.layer.has_staged() or not self.stream.is_settled()
            return LayerDecision(None, [], written, unsettled)
        self.draft.drops = list(self.drops)
        self.draft.facts = [(KV, encode_fact(fact))] if fact else []
        record = decide_draft(self.stream, self.draft, self.now.wall_ms)
        self.layer.stage(record, self.states)
        return LayerDecision(
            record, self.draft.bodies, written, expired=self.reasons.count(EXPIRED), deleted=self.reasons.count(DELETED)
        )

    def _fact(self) -> KvFact:
        fact = KvFact([entry for entry, reason in enumerate(self.reasons) if reason])
        for subject, state in self.states.items():
            ttl, entry = state.ttl, state.seq - self.first
            if entry >= 0:
                if ttl is not None:
                    fact.expiries.append((entry, ttl.deadline_ms, ttl.ttl_ms))
            elif ttl is not (before := self.layer.projected(subject)).ttl and state.is_live:
                assert before.seq == state.seq, "a touch keeps the value"
                numbers = (0, 0) if ttl is None else (ttl.deadline_ms, ttl.ttl_ms)
                fact.touched.append((subject, state.seq, *numbers))
        return fact


_WRITES: Final = (KvOp.PUT, KvOp.CREATE, KvOp.UPDATE)
