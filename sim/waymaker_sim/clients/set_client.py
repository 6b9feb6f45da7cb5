"""A client of a set store: adds and removes members, asks for them, and lists them.

Several calls are in flight, but no two about one member. So the client knows of each member if it is there, but for calls whose
outcome got lost: that is known again after a later confirmed change of the member, which comes behind them in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from waymaker_core.api.collection_requests import CountEntries, HasEntries, ListEntries, PutEntries, RemoveEntries
from waymaker_core.api.requests import CreateStream, GetStreamInfo, Page, Request, StreamInfo
from waymaker_core.collections.subjects import member_subject, members_head
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import subject_field
from waymaker_core.model.result_codes import Answer, Outcome, Refusal
from waymaker_sim.clients.client_view import Ask, ClientView
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.observations import Asker, Seen, SeenStream
from waymaker_sim.machine.process import ReceivedMessage, StepId

SET: Final = "set:s"
SET_KEYS: Final = ("a", "b.c")
MEMBERS: Final = ("m", "n.o", "", "*", "é")
IN_FLIGHT_MAX: Final = 4


@dataclass(slots=True, eq=False)
class Member:
    """One member of one set. `there`: None where that is unknown. `changes`: beginnings and ends of its changes."""

    subject: str
    there: bool | None = False
    changes: int = 0
    busy: bool = False


class SetClient:
    """Every call to the set store goes through here."""

    def __init__(self, view: ClientView, track: Track) -> None:
        self.view = view
        self.track = track
        limits = Limits()
        self._sets = {
            members_head(key, limits): [Member(member_subject(key, name, limits)) for name in MEMBERS]
            for key in SET_KEYS
        }
        self._made = False
        self._in_flight = 0
        view.others.append(SET)

    def act(self) -> None:
        """Make one call."""
        self.track.begin()
        if not self._made:
            self._make()
            return
        if self._in_flight >= IN_FLIGHT_MAX:
            return
        head = self.track.pick("set", list(self._sets))
        kind = self.track.weighted("member", ((2, "has"), (4, "add"), (3, "remove"), (2, "list"), (1, "count")))
        members = self._some(head)
        if kind in ("add", "remove"):
            members = [member for member in members if not member.busy]
            if members:
                self._change(members, add=kind == "add")
        elif kind == "has":
            self._has(members)
        elif kind == "list":
            self._list(head)
        else:
            self._count(head)

    def _some(self, head: str) -> list[Member]:
        members = self._sets[head]
        count = self.track.pick("members", (1, 1, 3))
        return list(dict.fromkeys(members[self.track.draw("which", len(members))] for _ in range(count)))

    def _ask(
        self,
        request: Request,
        on_answer: Callable[[Answer], None],
        on_failed: Callable[[bool], None] = lambda unknown: None,
    ) -> None:
        """Make a call; `on_failed` is told if it may have happened."""

        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            self._in_flight -= 1
            if isinstance(answer, Refusal):
                on_failed(answer.outcome is not Outcome.NOT_APPLIED)
            else:
                on_answer(answer)

        def lost() -> None:
            self._in_flight -= 1
            on_failed(True)

        self._in_flight += 1
        if self.view.ask(request, replied, lost) is None:
            self._in_flight -= 1
            on_failed(False)

    def _make(self) -> None:
        def made(ask: Ask, answer: Answer | Refusal, got: object, step_id: StepId) -> None:
            if isinstance(answer, Answer) and answer.code in (outcomes.OK, outcomes.ALREADY_EXISTS):
                self._made = True

        self.view.ask(CreateStream(StreamConfig(SET)), made, lambda: None)

    # ------------------------------------------------------------ changes

    def _change(self, members: list[Member], *, add: bool) -> None:
        subjects = [member.subject for member in members]
        before = [member.there for member in members]
        for member in members:
            member.busy = True
            member.changes += 1

        def answered(answer: Answer) -> None:
            for member in members:
                member.busy, member.there = False, add
                member.changes += 1
            if add:
                self._check_added(members, before, answer.value)
            else:
                least = sum(there is True for there in before)
                most = len(before) - sum(there is False for there in before)
                require(
                    isinstance(answer.value, int) and least <= answer.value <= most, "store entries",
                    f"{answer.value} members were removed of {before}",
                )  # fmt: skip
            self.view.mark("members added" if add else "members removed")

        def failed(unknown: bool) -> None:
            for member in members:
                member.busy = False
                member.changes += 1
                if unknown:
                    member.there = None

        bodies = [subject_field(subject) for subject in subjects]
        request = PutEntries(SET, subjects, [0] * len(subjects), bodies, True) if add else RemoveEntries(SET, subjects)
        self._ask(request, answered, failed)

    def _check_added(self, members: list[Member], before: list[bool | None], seqs: object) -> None:
        """Require that each member was stored if it was not there, at a sequence of its own, and else left alone."""
        assert isinstance(seqs, list)
        for member, there, seq in zip(members, before, seqs, strict=True):
            require(
                there is None or (seq == 0) == there, "store entries",
                f"{member.subject!r} got sequence {seq}, and was {'' if there else 'not '}there",
            )  # fmt: skip
        stored = [seq for seq in seqs if seq]
        require(stored == sorted(set(stored)), "store entries", f"members were stored at {seqs}")

    # ------------------------------------------------------------ reads

    def _has(self, members: list[Member]) -> None:
        before = self._known(members)

        def answered(answer: Answer) -> None:
            assert isinstance(answer.value, list)
            for (member, there, changes), found in zip(before, answer.value, strict=True):
                if there is not None and member.changes == changes:
                    require(found == there, "store entries", f"{member.subject!r}: {found}, and it is {there}")

        self._ask(HasEntries(SET, [member.subject for member in members]), answered)

    @staticmethod
    def _known(members: list[Member]) -> list[tuple[Member, bool | None, int]]:
        """Note what is known of members, and their changes; nothing is known of one that is being changed."""
        return [(member, None if member.busy else member.there, member.changes) for member in members]

    def _list(self, head: str) -> None:
        limit = self.track.pick("limit", (1, 3, 5))
        before = self._known(self._sets[head])

        def answered(answer: Answer) -> None:
            assert isinstance(answer.value, Page)
            names = answer.value.entries
            require(names == sorted(set(names)) and len(names) <= limit, "store entries", f"{limit} members: {names}")
            for member, there, changes in before:
                if there is None or member.changes != changes:
                    continue
                on_page = not answer.value.next_after or member.subject <= answer.value.next_after
                require(
                    (member.subject in names) == (there and on_page), "store entries",
                    f"{member.subject!r} is {'' if there else 'not '}there, and {names} are listed",
                )  # fmt: skip
            require(set(names) <= {member.subject for member, _, _ in before}, "store entries", f"{names} are listed")
            self.view.mark("members listed")

        self._ask(ListEntries(SET, head, "", limit), answered)

    def _count(self, head: str) -> None:
        before = self._known(self._sets[head])

        def answered(answer: Answer) -> None:
            known = [there for member, there, changes in before if member.changes == changes]
            least, most = known.count(True), len(before) - known.count(False)
            assert isinstance(answer.value, int)
            require(least <= answer.value <= most, "store entries", f"{answer.value} members are counted of {before}")

        self._ask(CountEntries(SET, head), answered)

    # ------------------------------------------------------------ at rest

    def check(self, seen: Seen, asker: Asker) -> None:
        """Require that the store holds the members that are known to be there, each as one message, and no others."""
        if SET not in seen or not isinstance(seen[SET], SeenStream):
            return
        total = 0
        for head, members in self._sets.items():
            answer, _ = asker.ask(HasEntries(SET, [member.subject for member in members]))
            assert isinstance(answer, Answer) and isinstance(answer.value, list)
            for member, there in zip(members, answer.value, strict=True):
                require(
                    member.there in (None, there), "store entries", f"{member.subject!r}: {there}, not {member.there}"
                )
            counted, _ = asker.ask(CountEntries(SET, head))
            assert isinstance(counted, Answer)
            require(
                counted.value == sum(answer.value), "store entries", f"{counted.value} are counted of {answer.value}"
            )
            total += sum(answer.value)
        info, _ = asker.ask(GetStreamInfo(SET))
        assert isinstance(info, Answer) and isinstance(info.value, StreamInfo)
        held = info.value.stats.msg_count
        require(held == total, "store entries", f"{held} messages are stored for {total} members")
