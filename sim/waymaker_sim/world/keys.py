"""The clients of a bucket in a world: made together, and audited together at rest, before the world's own audit."""

from __future__ import annotations

from waymaker_core.api.kv_requests import KvDeleteBucket
from waymaker_core.api.requests import ReadRange
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.result_codes import Answer
from waymaker_sim.checkers.keys import KeyAudit
from waymaker_sim.clients.client_view import ClientView
from waymaker_sim.clients.key_client import KEYS, STREAM, KeyClient, draw_bucket
from waymaker_sim.clients.key_watcher import KeyWatcher
from waymaker_sim.history.keys import KeyBook
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.events import SECOND
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.machine.observations import Asker
from waymaker_sim.machine.process import ReceivedMessage
from waymaker_sim.machine.swarm import Plan

CLIENTS = 3


class Keys:
    """The clients of one bucket."""

    def __init__(self, view: ClientView, tape: Tape, plan: Plan) -> None:
        self.view = view
        view.others.append(STREAM)
        self.plan = draw_bucket(tape.track("bucket"))
        self.book = KeyBook(KEYS, not (plan.wall_jump or plan.clock_wrong))
        self.clients = [
            KeyClient(view, tape.track(f"keys {number}"), self.plan, self.book) for number in range(CLIENTS)
        ]
        self.watcher = KeyWatcher(view, tape.track("keywatcher"), self.book)

    def audit(self, asker: Asker) -> None:
        """Check the bucket at rest, and delete it."""
        if self.watcher.token is None:
            self.watcher.act()
        self.watcher.grant(10_000)
        self.view.events.run_until(self.view.events.now_ns + 4 * SECOND)
        messages = self._messages(asker)
        if messages is not None:
            self.watcher.hang_up()
            KeyAudit(self.view, self.plan, self.book, messages).check([self.watcher])
            answer, _ = asker.ask(KvDeleteBucket(STREAM.removeprefix("kv:")))
            require(isinstance(answer, Answer) and answer.code == outcomes.OK, "keys", f"the bucket's end: {answer!r}")

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
