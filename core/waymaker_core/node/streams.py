"""Calls about streams as a whole: created, deleted, changed, listed, told about, taken out and put back as archives."""

from __future__ import annotations

from dataclasses import replace

from waymaker_core.inputs import Call
from waymaker_core.node.calls import AskLater
from waymaker_core.node.commits import Commits, Gathered, record_bound
from waymaker_core.node.lives import Lives
from waymaker_core.node.state import NodeState
from waymaker_core.outcomes import OK, Answer, exhausted, invalid
from waymaker_core.records import CatalogueRecord, ConsumerCreated, StreamDeleted, StreamOpened, StreamUpdated
from waymaker_core.requests import (
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
from waymaker_core.store.archive import Head
from waymaker_core.stream import updated, validate


def page_limit(limit: int, entries_max: int) -> int:
    """How many entries a list may hold: what was asked for, or all that fit."""
    if not 0 <= limit <= entries_max:
        raise invalid(f"a page of {limit} entries; at most {entries_max} are given at once")
    return limit or entries_max


def require_whole(limit: int, next_after: str) -> None:
    """Refuse a list that was asked for whole and is too long; it is never cut in silence."""
    if not limit and next_after:
        raise exhausted("the list is too long for one answer; ask for pages (wmkr-limit, and wmkr-after for the next)")


class Streams:
    """Handlers of the calls about streams."""

    def __init__(self, state: NodeState, commits: Commits, lives: Lives) -> None:
        self._state = state
        self._commits = commits
        self._lives = lives

    def _decide(self, account: str, record: CatalogueRecord) -> Gathered:
        """Stage a record of the catalogue and send it on to be committed."""
        self._state.catalogue.stage(record, account)
        return self._commits.add_to_catalogue(account, record)

    def _require_room(self, bound: int) -> None:
        """Refuse or put off what even the journal's reserve has no room for."""
        if not self._commits.room_for(bound, ordinary=False):
            if self._state.stats.disk_full:
                raise exhausted(f"{self._state.no_room_because}; the reserve is used up too, and nothing was changed")
            raise AskLater

    # ------------------------------------------------------------------ lifecycle

    def create(self, call: Call) -> None:
        """`requests.CreateStream`."""
        request, state = call.request, self._state
        assert isinstance(request, CreateStream)
        config = validate(request.config, state.limits)
        account = call.principal.account
        self._require_room(record_bound(StreamUpdated(0, config)))
        record = state.catalogue.decide_create(account, config, state.now.wall_ms)
        self._decide(account, record).replies.append((call.token, Answer(OK)))

    def delete(self, call: Call) -> None:
        """`requests.DeleteStream`: also of a stream in quarantine."""
        request = call.request
        assert isinstance(request, DeleteStream)
        hosted = self._lives.find_for_deletion(call.principal, request.name)
        record = StreamDeleted(hosted.id)
        self._require_room(record_bound(record))
        self._decide(call.principal.account, record).replies.append((call.token, Answer(OK)))

    def update(self, call: Call) -> None:
        """`requests.UpdateStream`: the settings and what they prune, in one commit."""
        request, state = call.request, self._state
        assert isinstance(request, UpdateStream)
        hosted = self._lives.find_for_change(call.principal, request.name)
        staged = hosted.config_decided or hosted.life.config
        config = updated(staged, request, state.limits)
        record = StreamUpdated(hosted.id, config)
        self._require_room(record_bound(record))
        decision = hosted.stream.decide_update(config, state.now.wall_ms, request.dry_run)
        answer = Answer(OK, "", (config, decision.pruned))
        if request.dry_run:
            self._commits.answer_with_last(call.token, answer)
            return
        for pruned in decision.records:
            self._commits.add(hosted, pruned, [], record_bound(pruned), 0)
        hosted.config_decided = config
        self._decide(call.principal.account, record).replies.append((call.token, answer))

    # ------------------------------------------------------------------ telling

    def info(self, call: Call) -> None:
        """`requests.GetStreamInfo`."""
        request = call.request
        assert isinstance(request, GetStreamInfo)
        hosted = self._lives.find(call.principal, request.name)
        stream = hosted.stream
        info = StreamInfo(stream.config, stream.stats(), hosted.id, hosted.life.created_ms, stream.notice)
        self._state.reply(call.token, Answer(OK, "", info))

    def list_names(self, call: Call) -> None:
        """`requests.ListStreams`."""
        request, limits = call.request, self._state.limits
        assert isinstance(request, ListStreams)
        limit = page_limit(request.limit, limits.page_entries_max)
        page = self._state.catalogue.page(call.principal.account, request.after, limit, limits.page_bytes_max)
        require_whole(request.limit, page.next_after)
        self._state.reply(call.token, Answer(OK, "", page))

    # ------------------------------------------------------------------ archives

    def export(self, call: Call) -> None:
        """`requests.ExportStream`."""
        request = call.request
        assert isinstance(request, ExportStream)
        hosted = self._lives.find(call.principal, request.name)
        stream = hosted.stream
        consumers = hosted.consumers.snapshot(self._state.now)
        head = Head(
            stream.config, stream.created_ms, stream.first_seq, stream.last_seq, stream.count, stream.bytes, consumers
        )
        self._state.reply(call.token, Answer(OK, "", head))

    def import_begin(self, call: Call) -> None:
        """`requests.ImportBegin`."""
        request, state = call.request, self._state
        assert isinstance(request, ImportBegin)
        if not isinstance(request.head, Head):
            raise invalid("an import begins with the head of an archive")
        config = validate(replace(request.head.config, name=request.name), state.limits)
        account = call.principal.account
        self._require_room(record_bound(StreamUpdated(0, config)))
        record = state.catalogue.decide_create(account, config, state.now.wall_ms, importing=True)
        self._lives.import_heads[record.stream_id] = request.head
        self._decide(account, record).replies.append((call.token, Answer(OK, "", record.stream_id)))

    def import_end(self, call: Call) -> None:
        """`requests.ImportEnd`: consumers and the stream itself appear in one commit, or everything goes."""
        request, state = call.request, self._state
        assert isinstance(request, ImportEnd)
        hosted = self._lives.find_import(request.stream_id)
        account = call.principal.account
        if not request.commit:
            self._decide(account, StreamDeleted(hosted.id)).replies.append((call.token, Answer(OK)))
            return
        head = self._lives.import_heads[hosted.id]
        try:
            records = hosted.consumers.import_records(head.consumers, state.catalogue.next_id) if head.consumers else []
        except ValueError as error:
            raise invalid(f"the archive's consumers cannot be restored: {error}") from error
        self._require_room(sum(map(record_bound, records)))
        for record in records:
            if isinstance(record, ConsumerCreated):
                state.catalogue.draw_id()
            self._commits.add(hosted, record, [], record_bound(record), 0)
        opened = StreamOpened(hosted.id, max(head.last_seq, hosted.stream.last_seq))
        self._decide(account, opened).replies.append((call.token, Answer(OK)))
