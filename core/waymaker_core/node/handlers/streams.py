"""Calls about streams as a whole: create, delete, update, list, export and import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import (
    CreateStream,
    DeleteStream,
    ExportStream,
    GetStreamInfo,
    ImportBegin,
    ImportEnd,
    ListStreams,
    StreamInfo,
    UpdateStream,
)
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.records import (
    CatalogRecord,
    SettingsRecord,
    StreamDeleted,
    StreamOpened,
    StreamRecord,
    StreamUpdated,
)
from waymaker_core.model.result_codes import OK, Answer, RefusedError, invalid
from waymaker_core.node.claims import Claims
from waymaker_core.node.context import NodeState
from waymaker_core.node.gate import Gate
from waymaker_core.node.group_commit import GroupCommit, record_frame_bytes_max
from waymaker_core.node.handlers.authority import authority_of
from waymaker_core.node.handlers.checks import page_limit, require_whole
from waymaker_core.node.handlers.free_space import require_room, require_room_in_log
from waymaker_core.node.handlers.service_settings import check_name_kept, check_service
from waymaker_core.node.handlers.sources import statuses
from waymaker_core.node.stream_log import Rest
from waymaker_core.node.stream_registry import StreamRegistry
from waymaker_core.node.stream_replica import NOT_LEADING, StreamReplica
from waymaker_core.sources.settings import check_sources
from waymaker_core.storage.archive import Head
from waymaker_core.storage.recovery.replay import NONSENSE
from waymaker_core.stream import admission, updated, validate
from waymaker_core.stream.retention import decisions as retention


class Streams:
    """Handlers of the calls about streams."""

    def __init__(
        self, state: NodeState, group_commit: GroupCommit, gate: Gate, registry: StreamRegistry, claims: Claims
    ) -> None:
        self._state = state
        self._group_commit = group_commit
        self._gate = gate
        self._registry = registry
        self._claims = claims

    def _decide(self, account: str, record: CatalogRecord) -> Rest:
        """Stage a record of the catalog, and add it to the next commit; return its position."""
        self._state.catalog.stage(record, account)
        return self._group_commit.add_to_catalog(account, record)

    # ------------------------------------------------------------------ lifecycle

    def create(self, call: Call, _found: StreamReplica | None) -> None:
        """Decide a `CreateStream`."""
        assert isinstance(call.request, CreateStream)
        self.create_from(call, call.request.config)

    def create_from(self, call: Call, given: StreamConfig) -> None:
        """Decide the creation of a stream with these settings."""
        state = self._state
        config = validate(given, state.limits)
        check_sources(config, state.limits)
        check_service(config, state)
        account = call.principal.account
        self._require_room_in_catalog(record_frame_bytes_max(SettingsRecord(config)) + self._claims.first_bytes_max)
        record = state.catalog.decide_create(account, config, state.now.wall_ms)
        rest = self._decide(account, record)
        self._gate.answer(call.token, Answer(OK), rest, *self._claims.claim_new(record, account))

    def delete(self, call: Call, found: StreamReplica | None) -> None:
        """Decide a `DeleteStream`, also of a stream in quarantine."""
        assert isinstance(call.request, DeleteStream)
        self.delete_found(call, found, call.request.name)

    def delete_found(self, call: Call, found: StreamReplica | None, name: str) -> None:
        """Decide the deletion of the stream that was found by a name."""
        replica = self._registry.require_deletable(found, name)
        record = StreamDeleted(replica.id)
        self._require_room_in_catalog(record_frame_bytes_max(record))
        self._gate.answer(call.token, Answer(OK), self._decide(call.principal.account, record))

    def update(self, call: Call, found: StreamReplica | None) -> None:
        """Decide `requests.UpdateStream`: what the settings prune, and the settings, in the stream's log."""
        request, state = call.request, self._state
        assert isinstance(request, UpdateStream)
        replica = self._registry.require_changeable(found, request.name)
        config = updated(replica.stream.settings, request, state.limits)
        self._require_room(replica, 2 * record_frame_bytes_max(SettingsRecord(config)))
        decision = retention.decide_update(replica.stream, config, state.now.wall_ms, request.dry_run)
        answer = Answer(OK, "", (config, decision.pruned))
        if request.dry_run:
            self._gate.answer(call.token, answer, replica.log.last)
            return
        noted = self._note_for_next(call, replica, StreamUpdated(replica.id, config))
        self._add(replica, decision.records)
        self._gate.answer(call.token, answer, *noted, replica.log.last)

    def _require_room(self, replica: StreamReplica, bound: int) -> None:
        """Refuse or put off records of a stream, and what the catalog notes besides: see `_note_for_next`."""
        require_room(self._state, self._group_commit, replica.log, bound)
        if replica.stream.config.ephemeral:
            self._require_catalog()
            self._require_room_in_catalog(bound)

    def _require_catalog(self) -> None:
        """Refuse what needs a record of the catalog where another member of the cluster leads that."""
        if not self._state.catalog_leads:
            raise RefusedError(NOT_LEADING)

    def _require_room_in_catalog(self, bound: int) -> None:
        require_room(self._state, self._group_commit, self._state.catalog_log, bound)

    def _add(self, replica: StreamReplica, records: Sequence[StreamRecord]) -> None:
        for record in records:
            self._group_commit.add_record(replica, record, [], record_frame_bytes_max(record), 0)

    def _note_for_next(self, call: Call, replica: StreamReplica, record: CatalogRecord) -> tuple[Rest, ...]:
        """Let the catalog note what the next incarnation of an ephemeral stream begins with; return its position.

        A restart ends such a stream's own log. The note comes first, so that nothing is seen that a crash takes back.
        """
        if not replica.stream.config.ephemeral:
            return ()
        return (self._decide(call.principal.account, record),)

    # ------------------------------------------------------------------ infos

    def info(self, call: Call, found: StreamReplica | None) -> None:
        """Answer a `GetStreamInfo`."""
        request = call.request
        assert isinstance(request, GetStreamInfo)
        replica = self._registry.require_served(found, request.name)
        stream = replica.stream
        info = StreamInfo(
            stream.config, stream.stats(), replica.id, replica.entry.created_ms, stream.notice, statuses(replica),
            authority_of(self._state, replica),
        )  # fmt: skip
        self._gate.reply(call.token, Answer(OK, "", info))

    def list_names(self, call: Call, _found: StreamReplica | None) -> None:
        """Answer a `ListStreams`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, ListStreams)
        limit = page_limit(request.limit, limits.page_entries_max)
        page = self._state.catalog.page(call.principal.account, request.after, limit, limits.page_bytes_max)
        require_whole(request.limit, page.next_after)
        self._gate.reply(call.token, Answer(OK, "", page))

    # ------------------------------------------------------------------ archives

    def export(self, call: Call, found: StreamReplica | None) -> None:
        """Answer an `ExportStream`."""
        request = call.request
        assert isinstance(request, ExportStream)
        replica = self._registry.require_served(found, request.name)
        stream = replica.stream
        consumers = replica.consumers.snapshot(self._state.now)
        head = Head(
            stream.config, stream.created_ms, stream.first_seq, stream.last_seq, stream.count, stream.bytes, consumers,
            list(replica.layers.snapshot()),
        )  # fmt: skip
        self._gate.reply(call.token, Answer(OK, "", head))

    def import_begin(self, call: Call, _found: StreamReplica | None) -> None:
        """Decide an `ImportBegin`."""
        request, state = call.request, self._state
        assert isinstance(request, ImportBegin)
        if not isinstance(request.head, Head):
            raise invalid("an import begins with the head of an archive")
        config = validate(replace(request.head.config, name=request.name), state.limits)
        check_sources(config, state.limits)
        check_service(config, state)
        check_name_kept(request.name, request.head.config.name)
        account = call.principal.account
        self._require_room_in_catalog(record_frame_bytes_max(SettingsRecord(config)) + self._claims.first_bytes_max)
        record = state.catalog.decide_create(account, config, state.now.wall_ms, importing=True)
        self._registry.import_heads[record.stream_id] = request.head
        rest = self._decide(account, record)
        claimed = self._claims.claim_new(record, account)
        self._gate.answer(call.token, Answer(OK, "", record.stream_id), rest, *claimed)

    def import_end(self, call: Call, found: StreamReplica | None) -> None:
        """Decide an `ImportEnd`: consumers and the stream itself appear in one commit, or the stream is deleted."""
        request, state = call.request, self._state
        assert isinstance(request, ImportEnd)
        replica = self._registry.require_importing(found, request.stream_id)
        account = call.principal.account
        if not request.commit:
            self._require_catalog()
            require_room_in_log(state, state.catalog_log)
            self._gate.answer(call.token, Answer(OK), self._decide(account, StreamDeleted(replica.id)))
            return
        head = self._registry.import_heads[replica.id]
        try:
            records = replica.consumers.import_records(head.consumers) if head.consumers else []
        except ValueError as error:
            raise invalid(f"the archive's consumers cannot be restored: {error}") from error
        try:
            records += replica.layers.import_records(head.layers)
        except NONSENSE as nonsense:
            raise invalid(f"the archive's layers cannot be restored: {nonsense}") from nonsense
        bound = 2 * record_frame_bytes_max(StreamOpened(0, 0)) + sum(map(record_frame_bytes_max, records))
        self._require_room(replica, bound)
        ended = admission.decide_import_end(replica.stream, head.last_seq)
        noted = self._note_for_next(call, replica, StreamOpened(replica.id, ended.last_seq))
        self._add(replica, [*records, ended])
        self._gate.answer(call.token, Answer(OK), *noted, replica.log.last)
