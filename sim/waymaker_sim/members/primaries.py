"""Primaries of a cluster's streams: the process that leads each in each epoch, what they apply, and what they answer.

It looks at every step of every member, and knows more than any of them. Four rules. An epoch has one primary, and a term of the
catalog's group one leader. A primary serves only what the catalog has opened. What one member applies at a position, every
other applies there, too. Once a newer epoch or term has answered, an older one answers no question that was asked later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from waymaker_core.api.authorize import stream_of
from waymaker_core.api.effects import Deliver, Reply
from waymaker_core.api.inputs import Call
from waymaker_core.cluster.member import Member
from waymaker_core.model.result_codes import Answer
from waymaker_core.model.types import CATALOG, Token
from waymaker_core.node.calls import OF_CATALOG
from waymaker_sim.kernel.checks import require, violated
from waymaker_sim.machine.process import Process

RECORDS_BYTES = 1 << 30
THE_CATALOG = "(the catalog)"
"""The catalog among the names of streams, none of which is like it."""


class Lead(NamedTuple):
    """A stream that a process leads: its id, and the epoch. For the catalog the epoch is its group's term."""

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
        self._members: dict[int, tuple[Member, dict[int, int]]] = {}
        """By machine: its member, and the positions, by stream, up to which that one's records were compared."""
        self._records: dict[tuple[int, int], int] = {}
        """By stream and position: the checksum of the record that was applied there first."""
        self.on_lead: Callable[[int, str, int], None] = lambda machine, stream, epoch: None
        """Called when a machine begins to lead a stream, or the catalog, in an epoch or term."""
        self.compared = 0
        """Number of records that a second member was seen to apply."""

    def epoch_of(self, machine: int, stream: str) -> int:
        """Return the epoch in which a machine leads a stream, or led it last; 0 if it never did."""
        lead = self._led.get((machine, stream))
        return 0 if lead is None else lead.epoch

    def newest_epoch(self, stream: str) -> int:
        """Return the newest epoch in which a stream was led."""
        return self._newest.get(stream, 0)

    def newest_primary(self, stream: str) -> int:
        """Return the machine that leads, or led, in the newest epoch of a stream; 0 if none ever did."""
        newest = self._newest.get(stream, 0)
        return next(
            (machine for (machine, name), lead in self._led.items() if (name, lead.epoch) == (stream, newest)), 0
        )

    def stepped(self, process: Process, inputs: Iterable[Any], effects: Sequence[Any]) -> None:
        """Check one step of a member."""
        member = process.server
        if not isinstance(member, Member):
            return
        now_ns, number, run = process.events.now_ns, process.number, process.run
        for item in inputs:
            if isinstance(item, Call):
                about = THE_CATALOG if isinstance(item.request, OF_CATALOG) else stream_of(item.request)
                self._questions[number, run, item.token] = Question(about, now_ns)
        self._look_at_term(process, member)
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

    def _look_at_term(self, process: Process, member: Member) -> None:
        """Note the term in which a member leads the catalog. A leader that starts anew needs another term, too."""
        view = member.view_of_group()
        if view is not None and member.leader == process.number:
            lead = Lead(CATALOG, view.term)
            if self._owners.get(lead) != (process.number, process.run):
                self._own(lead, process, f"term {view.term} of the catalog")
                self._led[process.number, THE_CATALOG] = lead
                self.on_lead(process.number, THE_CATALOG, view.term)

    def _own(self, lead: Lead, process: Process, what: str) -> None:
        """Require that no other process has led in an epoch or term."""
        number, run = self._owners.setdefault(lead, (process.number, process.run))
        if (number, run) != (process.number, process.run):
            other = f"machine {process.number} (run {process.run})"
            violated("one primary", f"{what} is led by machine {number} (run {run}), and by {other}, too")

    def _look_at_leads(self, process: Process, member: Member, now_ns: int) -> None:
        node = member.node
        for stream_id, replica in member.replicas.items():
            epoch = replica.epoch_led
            if epoch and self._owners.get(Lead(stream_id, epoch)) != (process.number, process.run):
                names = {each.stream_id: each.name for each in node.log_figures()}
                conf = node.conf(stream_id)
                opened = 0 if conf is None else conf.opened.epoch
                self._begins_to_lead(process, Lead(stream_id, epoch), opened, names.get(stream_id, ""), now_ns)

    def _begins_to_lead(self, process: Process, lead: Lead, opened: int, name: str, now_ns: int) -> None:
        number, what = process.number, f"epoch {lead.epoch} of stream {lead.stream_id}"
        self._own(lead, process, what)
        require(opened >= lead.epoch, "one primary", f"machine {number} leads in {what}, and {opened} was opened last")
        self._led[number, name] = lead
        self._newest[name] = max(self._newest.get(name, 0), lead.epoch)
        self.changed_ns = now_ns
        self.changes += 1
        self.on_lead(number, name, lead.epoch)

    def _look_at_logs(self, process: Process, member: Member) -> None:
        node = member.node
        known = self._members.get(process.number)
        if known is None or known[0] is not member:
            known = self._members[process.number] = member, {}
        compared = known[1]
        for stream_id, applied in node.applied_ends():
            before = compared.get(stream_id)
            if before == applied:
                continue
            compared[stream_id] = applied
            if before is None or before > applied:
                continue
            records = node.sent_records(stream_id, before + 1, RECORDS_BYTES) or ()
            for position, record in enumerate(records, before + 1):
                if position > applied:
                    break
                kind, version, meta, body = record
                checksum = crc32(body, crc32(meta, kind << 8 | version))
                self._compare(process.number, stream_id, position, checksum)

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
