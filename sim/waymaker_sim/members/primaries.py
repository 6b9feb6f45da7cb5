"""Primaries of a cluster's streams: the process that leads each in each epoch, what they apply, and what they answer.

It looks at every step of every member, and knows more than any of them. Four rules: an epoch has one primary, which serves only
what the catalog has opened; what one member applies at a position, every other applies there, too; and once a newer epoch has
answered, an older one answers no question that was asked later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from waymaker_core.api.authorize import stream_of
from waymaker_core.api.effects import Deliver, Reply
from waymaker_core.api.inputs import Call
from waymaker_core.api.requests import CreateStream, DeleteStream
from waymaker_core.cluster.member import Member
from waymaker_core.model.result_codes import Answer
from waymaker_core.model.types import CATALOG, Token
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.machine.process import Process

RECORDS_BYTES = 1 << 30


class Lead(NamedTuple):
    """A stream that a process leads: its id, and the epoch."""

    stream_id: int
    epoch: int


class Question(NamedTuple):
    """A call that a machine has: the stream that it is about, and the time when it came."""

    stream: str
    asked_ns: int


class Primaries:
    """All that was led, applied and answered in one world."""

    def __init__(self) -> None:
        self.changed_ns = 0
        """Time when a stream last got another primary."""
        self.changes = 0
        """Number of times at which a stream got another primary."""
        self._led: dict[tuple[int, str], Lead] = {}
        """By machine and stream: what it leads, or led last."""
        self._newest: dict[str, int] = {}
        self._owners: dict[Lead, tuple[int, int]] = {}
        """By stream and epoch: machine and run of the process that leads in it."""
        self._answered: dict[str, Lead] = {}
        """By stream: the newest epoch that has answered."""
        self._answered_ns: dict[str, int] = {}
        """By stream: the time at which that epoch answered first."""
        self._questions: dict[tuple[int, int, Token], Question] = {}
        """By machine, run of its process, and token."""
        self._applied: dict[tuple[int, int, int], int] = {}
        """By machine, run of its process, and stream: the position up to which its records were compared."""
        self._records: dict[tuple[int, int], int] = {}
        """By stream and position: the checksum of the record that was applied there first."""
        self.compared = 0
        """Number of records that a second member was seen to apply."""

    def epoch_of(self, machine: int, stream: str) -> int:
        """Return the epoch in which a machine leads a stream, or led it last; 0 if it never did."""
        lead = self._led.get((machine, stream))
        return 0 if lead is None else lead.epoch

    def newest_epoch(self, stream: str) -> int:
        """Return the newest epoch in which a stream was led."""
        return self._newest.get(stream, 0)

    def stepped(self, process: Process, inputs: Iterable[Any], effects: Sequence[Any]) -> None:
        """Check one step of a member."""
        member = process.server
        if not isinstance(member, Member):
            return
        now_ns, number, run = process.events.now_ns, process.number, process.run
        for item in inputs:
            if isinstance(item, Call) and not isinstance(item.request, CreateStream | DeleteStream):
                self._questions[number, run, item.token] = Question(stream_of(item.request), now_ns)
        self._look_at_leads(process, member, now_ns)
        self._look_at_logs(process, member)
        for effect in effects:
            if isinstance(effect, Reply):
                question = self._questions.pop((number, run, effect.token), None)
                if question is not None and isinstance(effect.answer, Answer):
                    self._check_answer(process, question.stream, question.asked_ns, type(effect.answer.value).__name__)
            elif isinstance(effect, Deliver):
                question = self._questions.get((number, run, effect.token))
                if question is not None:
                    taken_ns = process.virtual_ns(effect.messages.taken_ns)
                    self._check_answer(process, question.stream, taken_ns, "a delivery")

    def _look_at_leads(self, process: Process, member: Member, now_ns: int) -> None:
        number, node = process.number, member.node
        names: dict[int, str] | None = None
        for stream_id, replica in member.replicas.items():
            leading = replica.epoch_led
            if not leading:
                continue
            lead = Lead(stream_id, leading)
            owner = self._owners.get(lead)
            if owner == (number, process.run):
                continue
            what = f"epoch {leading} of stream {stream_id}"
            if owner is not None:
                violated("one primary", f"{what} is led by machine {owner[0]} (run {owner[1]}), and by {number}, too")
            conf = node.conf(stream_id)
            opened = 0 if conf is None else conf.opened.epoch
            require(opened >= leading, "one primary", f"machine {number} leads in {what}, and {opened} was opened last")
            self._owners[lead] = number, process.run
            names = {each.stream_id: each.name for each in node.log_figures()} if names is None else names
            name = names.get(stream_id, "")
            self._led[number, name] = lead
            self._newest[name] = max(self._newest.get(name, 0), leading)
            self.changed_ns = now_ns
            self.changes += 1

    def _look_at_logs(self, process: Process, member: Member) -> None:
        node = member.node
        for figures in node.log_figures():
            key = process.number, process.run, figures.stream_id
            before = self._applied.get(key)
            self._applied[key] = figures.applied
            if before is None or before >= figures.applied:
                continue
            for position, record in enumerate(
                node.sent_records(figures.stream_id, before + 1, RECORDS_BYTES) or (), before + 1
            ):
                if position > figures.applied:
                    break
                kind, version, meta, body = record
                self._compare(
                    process.number, figures.stream_id, position, crc32(body, crc32(meta, kind << 8 | version))
                )

    def _compare(self, number: int, stream_id: int, position: int, checksum: int) -> None:
        known = self._records.setdefault((stream_id, position), checksum)
        what = "the catalog" if stream_id == CATALOG else f"stream {stream_id}"
        if known != checksum:
            violated(
                "replicas agree", f"machine {number} applies another record at {position} of {what} than was applied"
            )
        self.compared += 1

    def _check_answer(self, process: Process, stream: str, asked_ns: int, what: str) -> None:
        lead = self._led.get((process.number, stream))
        if lead is None:
            return  # the catalog's leader answers that there is no such stream
        newest = self._answered.get(stream)
        if newest is None or newest.stream_id < lead.stream_id or newest.epoch < lead.epoch:
            self._answered[stream], self._answered_ns[stream] = lead, process.events.now_ns
        elif newest.stream_id == lead.stream_id and lead.epoch < newest.epoch:
            since_ns = self._answered_ns[stream]
            if asked_ns > since_ns:
                violated(
                    "one primary",
                    f"machine {process.number} answers {what} about {stream} in epoch {lead.epoch}: asked at {asked_ns}, and"
                    f" epoch {newest.epoch} has answered at {since_ns}",
                )
