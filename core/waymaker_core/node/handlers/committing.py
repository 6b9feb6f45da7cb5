"""Commit of what a handler decided: free space before, the group commit and the gate after. One way for every kind of message.

A handler calls `admit` first: what finds no space is refused or put off before anything is staged. It decides, and hands the
decision to `commit`, which lets the answer leave with the record, or with what it depends on.
"""

from __future__ import annotations

from waymaker_core.layers.layer import LayerDecision
from waymaker_core.model.records import LayerRecord, PublishRecord
from waymaker_core.model.result_codes import OK, Answer, resource_exhausted
from waymaker_core.model.types import Token
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import FACT_FRAME_BYTES, GroupCommit
from waymaker_core.node.handlers.free_space import require_room
from waymaker_core.node.stream_log import Rest
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.storage.journal.writer import PRODUCER_SPAN_BYTES, frame_bytes_max

LAYER_FRAME_BYTES = 16
"""Fields that a `LayerRecord` has once, beside those of a publish record."""


class Committing:
    """Commits what is decided about the messages of a stream."""

    def __init__(self, state: NodeState, group_commit: GroupCommit, gate: Gate) -> None:
        self._state = state
        self._group_commit = group_commit
        self._gate = gate

    def admit(
        self, replica: StreamReplica, messages: int, body_bytes: int, more_bytes: int = 0, *, ordinary: bool = True
    ) -> int:
        """Return the bytes these messages take in the journal at most; refuse or put them off if there is no space.

        `more_bytes`: what facts and deletions take besides. `ordinary`: the reserve of a full disk is not for it.
        """
        state, limits = self._state, self._state.limits
        if messages > limits.publish_batch_max or body_bytes > limits.publish_batch_bytes_max:
            raise resource_exhausted(
                f"a batch of {messages} messages and {body_bytes} bytes; at most {limits.publish_batch_max} messages "
                f"and {limits.publish_batch_bytes_max} bytes are taken at once"
            )
        if state.stats.inflight_bytes + body_bytes > limits.inflight_bytes_max:
            raise resource_exhausted("too much is being written already; publish again when some of it is confirmed")
        subject_bytes = min(body_bytes, messages * limits.subject_bytes_max)
        bound = frame_bytes_max(messages, subject_bytes, body_bytes) + more_bytes
        if replica.stream.config.ephemeral:
            if state.stats.ephemeral_bytes + body_bytes > limits.ephemeral_bytes_max:
                raise resource_exhausted(
                    f"ephemeral streams hold {limits.ephemeral_bytes_max} bytes together, and that is full"
                )
        elif self._group_commit.stalled and ordinary:
            raise resource_exhausted("the disk is full; nothing was stored")
        require_room(state, self._group_commit, replica.log, bound, ordinary=ordinary)
        return bound

    def commit(
        self,
        token: Token,
        replica: StreamReplica,
        record: PublishRecord | LayerRecord | None,
        parts: list[bytes],
        bound: int,
        answer: Answer,
        *,
        depends_on_uncommitted: bool,
    ) -> None:
        """Add a record to the next commit, and let the answer leave with it, or with what it depends on."""
        if record is not None:
            rest = self.add_decided(replica, record, parts, bound)
            self._gate.answer(token, answer, rest)
        elif depends_on_uncommitted:
            self._gate.answer(token, answer, replica.log.last)
        else:
            self._gate.answer_read(token, replica.log, answer)

    def commit_layer(self, token: Token, replica: StreamReplica, decision: LayerDecision, bound: int) -> None:
        """Commit the decision of a service, and let its answer leave."""
        self._state.stats.kv_expired += decision.expired
        self.commit(
            token, replica, decision.record, decision.parts, bound, Answer(OK, "", decision.value),
            depends_on_uncommitted=decision.depends_on_uncommitted,
        )  # fmt: skip

    def add_decided(
        self, replica: StreamReplica, record: PublishRecord | LayerRecord, parts: list[bytes], bound: int
    ) -> Rest:
        """Add a record to the next commit; return its position. `bound`: what `admit` returned for its messages."""
        return self._group_commit.add_record(
            replica, record, parts, bound + columns_bytes_max(record), sum(map(len, parts))
        )


def columns_bytes_max(record: PublishRecord | LayerRecord) -> int:
    """Return what a record takes at most beside its messages: deletions, spans of producers, facts."""
    if isinstance(record, PublishRecord):
        return 16 * len(record.drop_seqs) + PRODUCER_SPAN_BYTES * len(record.spans)
    facts = sum(FACT_FRAME_BYTES + len(fact) for _, fact in record.facts)
    pushed = 0 if record.messages is None else len(record.messages.drop_seqs)
    return LAYER_FRAME_BYTES + 16 * (len(record.drop_seqs) + pushed) + facts
