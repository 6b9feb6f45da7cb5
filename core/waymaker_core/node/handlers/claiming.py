"""Calls of other members of a cluster about who leads a stream: to claim it, and to open a claim."""

from __future__ import annotations

from waymaker_core.api.cluster_requests import ClaimStream, ClaimStreams, OpenAuthorities, OpenAuthority
from waymaker_core.api.inputs import Call
from waymaker_core.model.records import AuthorityOpened, StreamsClaimed
from waymaker_core.model.result_codes import NO_SUCH_STREAM, OK, WRONG_REVISION, Answer, CodeError, invalid
from waymaker_core.model.types import StreamId
from waymaker_core.node.claims import ClaimRow, Claims
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import GroupCommit, record_frame_bytes_max
from waymaker_core.node.handlers.free_space import require_room
from waymaker_core.node.stream_replica import StreamReplica
from waymaker_core.storage.config_codec import check_replicas
from waymaker_core.storage.errors import CorruptRecord


class Claiming:
    """Handlers of the calls about claims."""

    def __init__(self, state: NodeState, group_commit: GroupCommit, gate: Gate, claims: Claims) -> None:
        self._state = state
        self._group_commit = group_commit
        self._gate = gate
        self._claims = claims

    def claim_stream(self, call: Call, _found: StreamReplica | None) -> None:
        """Decide a `ClaimStream`."""
        request = call.request
        assert isinstance(request, ClaimStream)
        try:
            replicas = check_replicas(request.primary, list(request.replicas))
        except CorruptRecord as problem:
            raise invalid(str(problem)) from problem
        stream_id = self._require_newest(request.stream_id, request.expected_epoch)
        record = StreamsClaimed([stream_id], [request.primary], [replicas])
        self._require_room(record)
        rest = self._claims.claim_many(record)
        self._gate.answer(call.token, Answer(OK, "", rest[1]), rest)

    def open_authority(self, call: Call, _found: StreamReplica | None) -> None:
        """Decide an `OpenAuthority`."""
        request = call.request
        assert isinstance(request, OpenAuthority)
        if request.epoch == 0:
            raise invalid("epoch 0 is no claim")
        stream_id = self._require_newest(request.stream_id, request.epoch)
        if self._state.catalog.authority.is_opened(stream_id, request.epoch):
            self._gate.answer(call.token, Answer(OK), self._state.catalog_log.last)
            return
        record = AuthorityOpened([stream_id], [request.epoch])
        self._require_room(record)
        self._gate.answer(call.token, Answer(OK), self._claims.open_many(record))

    def claim_streams(self, call: Call, _found: StreamReplica | None) -> None:
        """Decide `ClaimStreams`."""
        request = call.request
        assert isinstance(request, ClaimStreams)
        rows: dict[StreamId, ClaimRow] = {}
        for each in request.claims:
            try:
                stream_id = self._require_newest(each.stream_id, each.expected_epoch)
                rows[stream_id] = stream_id, each.primary, check_replicas(each.primary, list(each.replicas))
            except (CodeError, CorruptRecord):
                continue
        ordered = [rows[stream_id] for stream_id in sorted(rows)]
        decided = self._claims.claim_as_room_allows(ordered)
        epochs = {stream_id: epoch for (stream_id, _, _), epoch in zip(ordered, decided, strict=False)}
        value = [epochs.get(StreamId(each.stream_id), 0) for each in request.claims]
        self._gate.answer(call.token, Answer(OK, "", value), self._state.catalog_log.last)

    def open_authorities(self, call: Call, _found: StreamReplica | None) -> None:
        """Decide `OpenAuthorities`."""
        request = call.request
        assert isinstance(request, OpenAuthorities)
        authority = self._state.catalog.authority
        rows: dict[StreamId, int] = {}
        for each in request.openings:
            try:
                stream_id = self._require_newest(each.stream_id, each.epoch)
            except CodeError:
                continue
            if each.epoch and not authority.is_opened(stream_id, each.epoch):
                rows[stream_id] = each.epoch
        decided = self._claims.open_as_room_allows(sorted(rows.items()))
        self._gate.answer(call.token, Answer(OK, "", decided), self._state.catalog_log.last)

    def _require_newest(self, stream_id: int, epoch: int) -> StreamId:
        """Return the id of a stream whose newest claim, decided ones included, is that of an epoch."""
        catalog, key = self._state.catalog, StreamId(stream_id)
        entry = catalog.entries.get(key)
        if not self._state.config.member:
            raise invalid("this node is no member of a cluster")
        if entry is None or catalog.is_deletion_staged(entry):
            raise CodeError(NO_SUCH_STREAM, f"no stream has the id {stream_id}")
        newest = catalog.authority.projected_claim(key).epoch
        if newest != epoch:
            raise CodeError(
                WRONG_REVISION, f"the newest claim of stream {stream_id} is that of epoch {newest}, not {epoch}"
            )
        return key

    def _require_room(self, record: StreamsClaimed | AuthorityOpened) -> None:
        require_room(self._state, self._group_commit, self._state.catalog_log, record_frame_bytes_max(record))
