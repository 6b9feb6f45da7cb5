"""The clients of a bucket in a world: made together, and audited together at rest, before the world's own audit."""

from __future__ import annotations

from typing import Protocol

from waymaker_core.api.kv_requests import KvDeleteBucket
from waymaker_core.api.requests import ReadRange
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.result_codes import Answer
from waymaker_sim.checkers.keys import KeyAudit
from waymaker_sim.clients.bucket_churn import CHURNED, BucketChurn
from waymaker_sim.clients.client_view import ClientView
from waymaker_sim.clients.key_client import BUCKET, KEYS, STREAM, KeyClient, draw_bucket
from waymaker_sim.clients.key_ends import ENDING, KeyEnds
from waymaker_sim.clients.key_lister import KeyLister
from waymaker_sim.clients.key_watcher import KeyWatcher, LateKeyWatcher
from waymaker_sim.history.keys import KeyBook
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.observations import Asker
from waymaker_sim.machine.process import ReceivedMessage
from waymaker_sim.machine.swarm import Plan

CLIENTS = 3


class Actor(Protocol):
    """A client that acts once in each of its turns."""

    def act(self) -> None:
        """Make one call."""


class Keys:
    """The clients of one bucket."""

    def __init__(self, view: ClientView, tape: Tape, plan: Plan) -> None:
        self.view = view
        view.others.append(STREAM)
        closely = plan.keys_closely
        sane_clocks = not (plan.wall_jump or plan.clock_wrong)
        self.plan = draw_bucket(tape.track("bucket"), tape.track("bucket, closely") if closely else None)
        self.book = KeyBook([*KEYS, ENDING] if closely else KEYS, sane_clocks)
        self.clients = [
            KeyClient(view, tape.track(f"keys {number}"), self.plan, self.book) for number in range(CLIENTS)
        ]
        self.watcher = KeyWatcher(view, tape.track("keywatcher"), self.book)
        self.watchers = [self.watcher]
        self.actors: list[tuple[str, Actor]] = [(f"keys {number}", each) for number, each in enumerate(self.clients)]
        self.actors.append(("keywatcher", self.watcher))
        if closely:
            late = LateKeyWatcher(view, tape.track("latewatcher"), self.book)
            self.watchers.append(late)
            self.actors += [
                ("latewatcher", late),
                ("keyends", KeyEnds(view, tape.track("keyends"), self.plan, self.book)),
                ("keylister", KeyLister(view, tape.track("keylister"), self.plan, self.book)),
                ("churn", BucketChurn(view, tape.track("churn"), sane_clocks)),
            ]

    def hang_up(self) -> None:
        """End all watches."""
        for watcher in self.watchers:
            watcher.hang_up()

    def audit(self, asker: Asker) -> None:
        """Check the bucket at rest, and delete it."""
        for watcher in self.watchers:
            if watcher.token is None:
                watcher.begin()
            watcher.grant(10_000)
        self.view.events.run_until(self.view.events.now_ns + 4 * SECOND)
        messages = self._messages(asker)
        if messages is not None:
            self.hang_up()
            KeyAudit(self.view, self.plan, self.book, messages).check(self.watchers)
            answer, _ = asker.ask(KvDeleteBucket(BUCKET))
            require(isinstance(answer, Answer) and answer.code == outcomes.OK, "keys", f"the bucket's end: {answer!r}")
        if len(self.actors) > CLIENTS + 1:
            asker.ask(KvDeleteBucket(CHURNED))

    def _messages(self, asker: Asker) -> list[ReceivedMessage] | None:
        found: list[ReceivedMessage] = []
        while True:
            answer, got = asker.ask(ReadRange(STREAM, found[-1].seq + 1 if found else 1, 5))
            if isinstance(answer, Answer) and answer.code == outcomes.NO_SUCH_STREAM:
                require(not any(key.newest for key in self.book.keys.values()), "keys", "the bucket went")
                return None
            if not got:
                return found
            found += got
