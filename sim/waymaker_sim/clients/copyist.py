"""A copyist: creates streams that copy from the streams of this world, reads them, and deletes them now and then.

Its streams are its own, and without bounds: no other client publishes to them or consumes from them. One may copy from
another of them. What cannot be copied goes to a stream of letters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from waymaker_core.api.requests import CreateStream, DeleteStream, GetStreamInfo, ReadRange, Request, StreamInfo
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import OnDrop, SourceConfig, StreamConfig, SubjectTransform
from waymaker_core.model.result_codes import Answer, Outcome, Refusal
from waymaker_sim.clients.client_view import Ask, ClientView
from waymaker_sim.history.copying import PREFIXED, SWAPPED, CopyingName
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId

LETTERS = "q0"
PAGE = 5
"""Messages read at once: no world's page is smaller."""
READ_MAX = 3_000
"""Copies of one incarnation that are read during a run; the audit reads all."""


class Copyist:
    """Works on one of its streams at a time; `busy` while a call is in flight."""

    def __init__(self, view: ClientView, track: Track) -> None:
        self.view = view
        self.track = track
        self.busy = False
        self.quiet = False
        skips = view.access.config.sync_interval_ms > 0
        for name in ("c0", "c1", LETTERS):
            view.copying[name] = CopyingName(name, letters=name == LETTERS, skips=skips)

    def act(self) -> None:
        """Create, read or delete a stream, or rest."""
        self.track.begin()
        if self.busy or self.quiet:
            return
        track = self.track
        name = self.view.copying[track.pick("name", ("c0", "c1", "c0", LETTERS))]
        if not name.may_exist:
            self._create(name)
        elif not name.known:
            self._look(name)
        elif not name.letters and track.draw("delete", 40) == 39:
            self._change(name, DeleteStream(name.name), exists=False)
        elif not name.letters:
            self._look(name)

    # ------------------------------------------------------------ changes

    def _create(self, name: CopyingName) -> None:
        track = self.track
        config = StreamConfig(name.name, block_size=track.pick("block size", (0, 1, 4, 10)))
        if not name.letters:
            config = replace(
                config,
                sources=self._sources(name),
                max_msg_bytes=track.pick("message bytes", (0, 0, 0, 200)),
                subjects_filter=("none.of.these",) if track.draw("filter", 4) == 3 else (),
            )
        self._change(name, CreateStream(config), exists=True)

    def _sources(self, name: CopyingName) -> tuple[SourceConfig, ...]:
        track = self.track
        streams = sorted(self.view.streams)
        if name.name == "c1" and track.draw("chain", 3) == 2:
            return (SourceConfig("c0", subject_transform=self._transform()),)
        source = SourceConfig(
            track.pick("source", streams),
            filter_subject=track.pick("filter of source", ("", "", "a.*", "b")),
            start_seq=track.pick("start", (0, 0, 0, 3)),
            max_initial_backfill=track.pick("backfill", (0, 0, 0, 5)),
            subject_transform=self._transform(),
            on_drop=track.pick("on drop", (OnDrop.HALT, OnDrop.SKIP_TO_FIRST_AVAILABLE)),
            dlq_stream=LETTERS if track.draw("letters", 2) else "",
        )
        second = track.pick("second source", ("", *streams))
        if not second or second == source.source_stream:
            return (source,)
        return (source, SourceConfig(second, on_drop=OnDrop.SKIP_TO_FIRST_AVAILABLE))

    def _transform(self) -> SubjectTransform | None:
        rule = self.track.pick("transform", (None, None, PREFIXED, SWAPPED))
        return None if rule is None else SubjectTransform(*rule)

    def _change(self, name: CopyingName, request: Request, *, exists: bool) -> None:
        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            self.busy = False
            if isinstance(answer, Refusal):
                if answer.outcome is not Outcome.NOT_APPLIED:
                    lost()
                elif exists:
                    name.made -= 1
                return
            expected = (outcomes.OK, outcomes.ALREADY_EXISTS) if exists else (outcomes.OK, outcomes.NO_SUCH_STREAM)
            require(answer.code in expected, "answer allowed", f"{request!r} ended with {answer!r}")
            name.may_exist, name.known = exists, True
            if answer.code == outcomes.ALREADY_EXISTS:
                name.made -= 1
            self.view.mark("stream that copies " + ("made" if exists else "deleted"))

        def lost() -> None:
            self.busy = False
            name.may_exist, name.known = True, False

        self.busy = self.view.ask(request, replied, lost) is not None
        if self.busy and exists:
            name.made += 1

    # ------------------------------------------------------------ reading

    def _look(self, name: CopyingName) -> None:
        """Read which incarnation there is, and a page of its copies."""

        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            self.busy = False
            if isinstance(answer, Refusal):
                return
            if answer.code == outcomes.NO_SUCH_STREAM:
                require(not name.known, "acked survives", f"{name.name} was created and is not there")
                name.may_exist, name.known = False, True
                return
            info = answer.value
            assert isinstance(info, StreamInfo)
            name.known = True
            if not name.letters:
                self._read(name, info)

        self._ask(GetStreamInfo(name.name), replied)

    def _read(self, name: CopyingName, info: StreamInfo) -> None:
        log = name.log(info.stream_id, info.config)
        if len(log.copied) >= READ_MAX:
            return

        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            self.busy = False
            for message in got or []:
                log.add(message, self.view.history, self.view.copying)
                self.view.mark("copy read")

        self._ask(ReadRange(name.name, log.last_seq + 1, PAGE), replied)

    def _ask(self, request: Request, replied: Callable[..., None]) -> None:
        def lost() -> None:
            self.busy = False

        self.busy = self.view.ask(request, replied, lost) is not None
