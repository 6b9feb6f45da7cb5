"""The audit of streams that copy: at rest all messages of their sources are there, once, and what is not has a reason."""

from __future__ import annotations

import json

from waymaker_core.api.requests import GetStreamInfo, StreamInfo
from waymaker_core.model.config import OnDrop, Retention, SourceConfig
from waymaker_core.model.message_codec import decode_body
from waymaker_core.model.result_codes import Answer
from waymaker_sim.clients.client_view import ClientView
from waymaker_sim.history.copying import NO_REPLICA, CopiedMessage, CopyLog, transformed
from waymaker_sim.history.history import Attempt, History, Letter, StreamIncarnation
from waymaker_sim.kernel.checks import listed, require, violated
from waymaker_sim.machine.observations import Asker, Seen, SeenStream
from waymaker_sim.reference.naive_consumer import matches


def lagging_sources(asker: Asker, view: ClientView) -> str:
    """Return which streams have not reached the ends of their sources, and why; empty if all have or say what keeps them."""
    lagging: list[str] = []
    for name in view.copying:
        info = _info(asker, name)
        if info is None:
            continue
        for source, status in zip(info.config.sources, info.sources, strict=True):
            there = _info(asker, source.source_stream)
            what = f"{name} is at {status.last_sourced_seq} of {source.source_stream}: {status.last_error!r}"
            if "has stopped" in status.last_error:
                view.mark("source halted")
            elif there is None:
                if "does not exist" not in status.last_error and "quarantine" not in status.last_error:
                    lagging.append(f"{what}, which is not there")
            elif NO_REPLICA in status.last_error:
                view.mark("source without a replica at hand")
            elif "dlq_stream" in status.last_error and _info(asker, source.dlq_stream) is None:
                view.mark("source waits for its letters' stream")
            elif status.last_sourced_seq < there.stats.last_seq:
                lagging.append(f"{what}, which is at {there.stats.last_seq}")
    return listed(lagging) if lagging else ""


def _info(asker: Asker, name: str) -> StreamInfo | None:
    answer, _ = asker.ask(GetStreamInfo(name))
    value = answer.value if isinstance(answer, Answer) else None
    return value if isinstance(value, StreamInfo) else None


class CopiesAudit:
    """Checks all that was copied, with the outcome of every publish known."""

    def __init__(self, view: ClientView, history: History) -> None:
        self.view = view
        self.history = history

    def check(self, seen: Seen) -> None:
        """Compare the streams that copy with what their sources held, and hold now."""
        for name in self.view.copying.values():
            there = seen.get(name.name)
            if isinstance(there, SeenStream) and name.letters:
                self._letters(there)
            elif isinstance(there, SeenStream):
                log = name.log(there.stream_id, there.config)
                for message in there.messages[len(log.copied) :]:
                    log.add(message, self.history, self.view.copying)
                require(len(log.copied) == len(there.messages), "copied all", f"{name.name} lost copies")
                for index, source in enumerate(there.config.sources):
                    self._whole(log, index, source, seen)
                self.view.mark("copies audited")
            elif there is None:
                require(not (name.may_exist and name.known), "acked survives", f"{name.name} is not there")
        for name in self.view.copying.values():
            for log in name.logs.values():
                for index, source in enumerate(log.config.sources):
                    self._gaps(log, index, source)

    def _whole(self, log: CopyLog, index: int, source: SourceConfig, seen: Seen) -> None:
        """Require a copy of each message that the source still holds, if nothing has stopped copying."""
        name, there = source.source_stream, seen.get(source.source_stream)
        stream = self.view.streams.get(name)
        incarnation = None if stream is None else stream.incarnation
        if not isinstance(there, SeenStream) or incarnation is None or incarnation.damaged:
            return
        status = self._status(log.name, index)
        if status is None:
            return
        error, passed = status
        if "has stopped" in error:
            bounded = not self._loses_nothing(incarnation)
            require(bounded, "copied all", f"{log.name} has stopped, though {name} prunes nothing: {error}")
            return
        copied = {
            each.source_seq for each in log.copied if each.index == index and each.incarnation in (incarnation, None)
        }
        first = self._first(log, index, source, incarnation)
        for message in there.messages:
            if not first <= message.seq <= passed or message.seq in copied:
                continue
            subject, _, _ = decode_body(message.body)
            if self._is_wanted(log, source, subject, incarnation, message.seq):
                violated("copied all", f"{log.name} passed {name} seq {message.seq} ({subject}) and has no copy of it")

    def _status(self, name: str, index: int) -> tuple[str, int] | None:
        node = self.view.access.node_for(name)
        if node is None:
            return None
        for place, each in enumerate(each for each in node.source_figures() if each.stream == name):
            if place == index:
                return each.last_error, each.last_sourced_seq
        return None

    def _first(self, log: CopyLog, index: int, source: SourceConfig, incarnation: StreamIncarnation) -> int:
        """Return the first sequence that had to be copied, as far as that is sure."""
        mine = [each for each in log.copied if each.index == index]
        # None: a copy of a message whose publisher got no answer. It tells nothing of an earlier life.
        earlier = [each for each in mine if each.incarnation not in (incarnation, None)]
        if not (source.start_seq or source.max_initial_backfill) or earlier:
            return 1
        if source.max_initial_backfill:
            return min((each.source_seq for each in mine), default=1 << 62)
        # A second life is copied from its beginning, and no copy may tell that there was a first one.
        return source.start_seq

    def _gaps(self, log: CopyLog, index: int, source: SourceConfig) -> None:
        """Require that nothing is left out between two copies of one incarnation, unless that was allowed."""
        before: CopiedMessage | None = None
        for copy in log.copied:
            if copy.index != index or copy.incarnation is None:
                continue
            if before is not None and before.incarnation is copy.incarnation:
                self._gap(log, source, before, copy)
            before = copy

    def _gap(self, log: CopyLog, source: SourceConfig, before: CopiedMessage, after: CopiedMessage) -> None:
        incarnation = after.incarnation
        assert incarnation is not None
        whole = self._loses_nothing(incarnation)
        may_skip = source.on_drop is OnDrop.SKIP_TO_FIRST_AVAILABLE or not self._prunes_in_front(incarnation)
        if may_skip and not whole:
            return
        for seq in range(before.source_seq + 1, after.source_seq):
            message = incarnation.at.get(seq)
            if isinstance(message, Attempt) and message.confirmed_ns >= 0:
                if self._is_wanted(log, source, message.subject, incarnation, seq):
                    violated(
                        "copied all",
                        f"{log.name}: {incarnation.name} seq {seq} is missing between {before.source_seq} and "
                        f"{after.source_seq}",
                    )

    @staticmethod
    def _loses_nothing(incarnation: StreamIncarnation) -> bool:
        """Return True if nothing was ever removed from an incarnation of a stream."""
        bounds = ("max_age_ms", "max_msgs", "max_bytes", "max_msgs_per_subject")
        limits = incarnation.config.retention is Retention.LIMITS
        return limits and not any(incarnation.least(bound) for bound in bounds)

    @staticmethod
    def _prunes_in_front(incarnation: StreamIncarnation) -> bool:
        """Return True if only its oldest messages are ever removed: a hole is then noticed."""
        if incarnation.config.retention is not Retention.LIMITS or incarnation.least("max_msgs_per_subject"):
            return False
        # Exact age removes messages behind younger ones; so does any, where programs give the times.
        in_order = all(isinstance(each, Letter) or each.server_timed for each in incarnation.at.values())
        return not any(config.max_age_ms and (config.strict_limits or not in_order) for config in incarnation.configs)

    @staticmethod
    def _is_wanted(log: CopyLog, source: SourceConfig, subject: str, incarnation: StreamIncarnation, seq: int) -> bool:
        """Return True if a message has to be copied."""
        if not matches(source.filter_subject, subject) or transformed(source, subject) is None:
            return False
        message = incarnation.at.get(seq)
        size_max = log.config.max_msg_bytes
        return message is not None and (not size_max or 0 < message.size - len(message.subject) <= size_max)

    def _letters(self, there: SeenStream) -> None:
        """Require one letter at most about each message."""
        known: dict[tuple[object, ...], int] = {}
        for message in there.messages:
            subject, _, payload = decode_body(message.body)
            letter = json.loads(payload)
            key = tuple(letter[part] for part in ("sourcing_stream", "source_stream", "source_stream_id", "seq"))
            require(subject == f"dlq.{key[0]}.{key[1]}", "copies honest", f"a letter at {subject!r} about {key}")
            # A stream that was created anew writes about the same messages again.
            incarnations = len(self.view.copying[str(key[0])].logs)
            known[key] = known.get(key, 0) + 1
            require(incarnations > 1 or known[key] == 1, "copied once", f"{known[key]} letters about {key}")
            self.view.mark("letter about a copy")
