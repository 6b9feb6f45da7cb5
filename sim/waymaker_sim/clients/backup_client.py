"""The backup client: exports streams as archives and restores them under other names, call by call, while faults
happen.

A restored copy must equal the archive, or not exist: before its end no client sees it, and a crash before leaves
nothing.
"""

from __future__ import annotations

from functools import partial

from waymaker_core.api.requests import (
    ConsumerInfo,
    DeleteStream,
    ExportStream,
    GetStreamInfo,
    ImportBatch,
    ImportBegin,
    ImportEnd,
    ListConsumers,
    Page,
    ReadRange,
    Request,
    StreamInfo,
)
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.message_codec import decode_body
from waymaker_core.model.result_codes import Answer, Outcome, Refusal
from waymaker_core.storage.archive import Head
from waymaker_sim.clients.client_view import Ask, ClientView, OnReply, StreamName
from waymaker_sim.history.copies import Archive, Copy
from waymaker_sim.history.history import StreamIncarnation
from waymaker_sim.history.subjects import DLQ
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId

COPIES_MAX = 8
PAGE = 5
"""Messages read or written at once: no world's page is smaller."""
MESSAGES_MAX = 200
"""Messages of a stream, at most, for it to be exported."""


class BackupClient:
    """Works on one archive at a time; `busy` while a call is in flight."""

    def __init__(self, view: ClientView, track: Track) -> None:
        self.view = view
        self.track = track
        self.busy = False
        self._interrupted: tuple[Copy, int] | None = None
        """An import that a stopped process lost, and the process run it belonged to."""

    def act(self) -> None:
        """Start one operation; its further calls follow without another turn."""
        self.track.begin()
        track, view = self.track, self.view
        if self.busy:
            return
        if self._interrupted is not None:
            self._go_on_in_vain(*self._interrupted)
            return
        kind = track.weighted("archive", ((3, "rest"), (3, "copy"), (2, "look"), (1, "delete")))
        if kind == "copy" and len(view.copies) < COPIES_MAX:
            stream = view.streams[track.pick("stream", sorted(view.streams))]
            incarnation = stream.incarnation
            if incarnation is not None and stream.steady() and not incarnation.config.ephemeral:
                self._ask(ExportStream(stream.name), partial(self._exported, incarnation), stream)
        elif kind in ("look", "delete") and view.copies:
            copy = view.copies[track.pick("which copy", sorted(view.copies))]
            if kind == "look":
                self._read_copy(copy)
            elif copy.must_exist:
                copy.must_exist = False
                self._ask(DeleteStream(copy.name), partial(self._deleted, copy))

    def _ask(self, request: Request, on_reply: OnReply, stream: StreamName | None = None) -> None:
        self.busy = self.view.ask(request, on_reply, self._lost, stream) is not None

    def _lost(self) -> None:
        """Note that the operation in flight is lost."""
        self.busy = False

    # ------------------------------------------------------------ taking out

    def _exported(
        self,
        incarnation: StreamIncarnation,
        ask: Ask,
        answer: Answer | Refusal,
        got: list[ReceivedMessage] | None,
        step_id: StepId,
    ) -> None:
        self.busy = False
        if isinstance(answer, Refusal) or ask.incarnation() is not incarnation:
            return
        require(
            answer.code == outcomes.OK, "acked survives", f"{incarnation.name} exists and an export says {answer!r}"
        )
        assert isinstance(answer.value, Head)
        if answer.value.count <= MESSAGES_MAX:
            self._collect(incarnation, Archive(answer.value), answer.value.first_seq)

    def _collect(self, incarnation: StreamIncarnation, archive: Archive, from_seq: int) -> None:
        request = ReadRange(incarnation.name, from_seq, PAGE)
        self._ask(request, partial(self._collected, incarnation, archive), self.view.streams[incarnation.name])

    def _collected(
        self,
        incarnation: StreamIncarnation,
        archive: Archive,
        ask: Ask,
        answer: Answer | Refusal,
        got: list[ReceivedMessage] | None,
        step_id: StepId,
    ) -> None:
        self.busy = False
        if ask.incarnation() is not incarnation or got is None:
            return
        inside = [message for message in got if message.seq <= archive.head.last_seq]
        archive.messages += inside
        if inside and len(inside) == len(got):
            self._collect(incarnation, archive, inside[-1].seq + 1)
        else:
            self.view.mark("archive taken")
            copy = Copy(f"copy{len(self.view.copies) + 1}", archive)
            self.view.copies[copy.name] = copy
            self._ask(ImportBegin(copy.name, archive.head), partial(self._begun, copy))

    # ------------------------------------------------------------ putting back

    def _begun(
        self, copy: Copy, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId
    ) -> None:
        self.busy = False
        if isinstance(answer, Refusal):
            return
        require(answer.code == outcomes.OK, "archives", f"an import as {copy.name} ended with {answer!r}")
        assert isinstance(answer.value, int)
        copy.stream_id = answer.value
        self._put(copy, 0, step_id.run)

    def _put(self, copy: Copy, start: int, incarnation: int) -> None:
        """Send the next piece, or the end."""
        messages = copy.archive.messages[start : start + PAGE]
        if messages:
            self._import(
                _batch(copy.stream_id, messages),
                partial(self._piece, copy, start + PAGE, incarnation),
                copy,
                incarnation,
            )
            return
        commit = self.track.draw("give up", 5) < 4
        copy.may_exist = commit
        self._import(ImportEnd(copy.stream_id, commit), partial(self._over, copy, commit), copy, incarnation)
        if not self.track.draw("peep", 3):
            return
        self.view.ask(GetStreamInfo(copy.name), partial(self._peeped, copy), _nothing)

    def _import(self, request: Request, on_reply: OnReply, copy: Copy, incarnation: int) -> None:
        """Send a part of an import. If the process stops meanwhile, try to continue it after the restart, which must
        be refused."""

        def lost() -> None:
            self.busy = False
            if isinstance(request, ImportBatch):
                self.view.mark("import interrupted")
                self._interrupted = copy, incarnation

        self.busy = self.view.ask(request, on_reply, lost) is not None

    def _piece(
        self,
        copy: Copy,
        start: int,
        incarnation: int,
        ask: Ask,
        answer: Answer | Refusal,
        got: list[ReceivedMessage] | None,
        step_id: StepId,
    ) -> None:
        self.busy = False
        if isinstance(answer, Refusal):
            return
        require(answer.code == outcomes.OK, "archives", f"a piece of {copy.name} ended with {answer!r}")
        if self.track.draw("peep", 6) == 5:
            self.view.ask(GetStreamInfo(copy.name), partial(self._peeped, copy), _nothing)
        self._put(copy, start, incarnation)

    def _peeped(
        self, copy: Copy, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId
    ) -> None:
        """Read a copy that is incomplete, or became complete meanwhile."""
        if isinstance(answer, Answer) and answer.code == outcomes.OK:
            require(copy.may_exist, "archives", f"{copy.name} is there before its end")

    def _over(
        self,
        copy: Copy,
        commit: bool,
        ask: Ask,
        answer: Answer | Refusal,
        got: list[ReceivedMessage] | None,
        step_id: StepId,
    ) -> None:
        self.busy = False
        if isinstance(answer, Refusal):
            if answer.outcome is Outcome.NOT_APPLIED:
                copy.may_exist = False
            return
        require(answer.code == outcomes.OK, "archives", f"the end of {copy.name} ended with {answer!r}")
        if commit:
            copy.must_exist = True
            self.view.mark("archive put back")
            self._read_copy(copy)
        else:
            self.view.mark("import given up")

    def _go_on_in_vain(self, copy: Copy, incarnation: int) -> None:
        """Continue an import that began before the restart: the node must not know it."""
        process = self.view.process
        if process.node is None or process.run == incarnation:
            return
        self._interrupted = None
        self._ask(ImportEnd(copy.stream_id, True), partial(self._in_vain, copy))

    def _in_vain(
        self, copy: Copy, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId
    ) -> None:
        self.busy = False
        found = isinstance(answer, Answer) and answer.code != outcomes.NO_SUCH_STREAM
        require(not found, "archives", f"the import as {copy.name} outlived its process: {answer!r}")

    # ------------------------------------------------------------ looking

    def _read_copy(self, copy: Copy) -> None:
        """Read a copy in all its parts."""
        view = self.view
        view.ask(GetStreamInfo(copy.name), partial(self._figures, copy, copy.must_exist), _nothing)
        view.ask(ListConsumers(copy.name, "", 0), partial(self._consumers, copy), _nothing)
        from_seq = 1 + self.track.draw("from", 30)
        view.ask(ReadRange(copy.name, from_seq, PAGE), partial(self._messages, copy, from_seq), _nothing)

    def _figures(
        self,
        copy: Copy,
        must: bool,
        ask: Ask,
        answer: Answer | Refusal,
        got: list[ReceivedMessage] | None,
        step_id: StepId,
    ) -> None:
        if isinstance(answer, Refusal):
            return
        if answer.code != outcomes.OK:
            require(
                not (must and copy.must_exist), "archives", f"{copy.name} was put back and its info says {answer!r}"
            )
            return
        assert isinstance(answer.value, StreamInfo)
        info = answer.value
        require(copy.may_exist, "archives", f"{copy.name} is there, and nobody put it back")
        require(info.stream_id == copy.stream_id, "archives", f"{copy.name} is {info.stream_id}, not {copy.stream_id}")
        if info.stream_id in self.view.history.stream_ids:
            violated("lives apart", f"id {info.stream_id} of {copy.name} names a stream that was created")
        copy.check_figures(info.config, info.stats.last_seq, info.stats.msg_count, info.stats.bytes)

    def _consumers(
        self, copy: Copy, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId
    ) -> None:
        if isinstance(answer, Answer) and isinstance(answer.value, Page):
            infos: list[ConsumerInfo] = answer.value.entries
            copy.check_consumers((info.config, info.ack_floor, info.redelivered_dropped) for info in infos)

    def _messages(
        self,
        copy: Copy,
        from_seq: int,
        ask: Ask,
        answer: Answer | Refusal,
        got: list[ReceivedMessage] | None,
        step_id: StepId,
    ) -> None:
        if got is not None:
            copy.check_messages(got, from_seq, whole=False)

    def _deleted(
        self, copy: Copy, ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId
    ) -> None:
        self.busy = False
        if isinstance(answer, Answer) and answer.code == outcomes.OK:
            copy.may_exist = False


def _batch(stream_id: int, messages: list[ReceivedMessage]) -> ImportBatch:
    """Return messages as an import sends them. Headers that the server added to dead letters are left out."""
    subjects: list[str] = []
    sizes: list[int] = []
    for message in messages:
        subject, headers, payload = decode_body(message.body)
        subjects.append(subject)
        own = [(key, value) for key, value in headers if not key.startswith(DLQ)]
        sizes.append(len(payload) + sum(len(key.encode()) + len(value.encode()) for key, value in own))
    return ImportBatch(
        stream_id, [message.seq for message in messages], [message.time_ms for message in messages], subjects, sizes,
        [len(message.body) for message in messages], b"".join(message.body for message in messages),
    )  # fmt: skip


def _nothing() -> None:
    """Do nothing: a read that got lost changes nothing."""
