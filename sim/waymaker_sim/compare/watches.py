"""The conversation with watches of keys: what each is sent must be, revision by revision, what a naive watch sends.

Watches have little credit and get more now and then, so keys change, end and are forgotten before they are sent. After a
restart each one goes on behind what it saw, as a client does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from waymaker_core.api import kv_requests as kv
from waymaker_core.kv.bodies import read_body
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.result_codes import Refusal, Status
from waymaker_core.model.types import Token
from waymaker_sim.compare.services import BUCKETS, ServiceCalls
from waymaker_sim.kernel.tape import Track
from waymaker_sim.reference.naive_kv import NaiveWatch

PATTERNS: Final = ("", ">", "a", "a.>", "*", "*.b", "z.*", "b/=_")
ODD_PATTERNS: Final = ("a..b", ".a", "a b", "a.>.b", "a*")
WATCHES_MAX: Final = 5
CREDIT_BYTES: Final = 1 << 30
DELETED: Final = "stream_deleted"
"""The reason with which watches of a deleted bucket end; transports make `no_such_bucket` of it."""


@dataclass(slots=True)
class OpenWatch:
    """One watch on both sides. `seen` is the last revision that it was sent."""

    naive: NaiveWatch
    credit: int = 0
    seen: int | None = None


class WatchCalls(ServiceCalls):
    """Draws changes of keys and watches of them, and compares what watches are sent after each."""

    def __init__(self, track: Track) -> None:
        super().__init__(track)
        self.watches: dict[Token, OpenWatch] = {}
        self._acts = [
            (30, self.change_keys),
            (8, self.watch),
            (25, self.grant),
            (2, self.hang_up),
            (1, self.watch_oddly),
            (3, self.make_bucket),
            (1, self.delete_bucket),
            (10, self.pass_time),
            (2, self.restart),
        ]

    def step(self) -> None:
        """Make one call on both, and compare what the watches were sent."""
        super().step()
        for token in list(self.watches):
            self._compare(token)

    # ------------------------------------------------------------ acts

    def watch(self) -> None:
        """Begin a watch: of all, or behind a revision."""
        name, pattern = self.track.pick("bucket", BUCKETS), self.track.pick("pattern", PATTERNS)
        bucket = self.buckets.get(name)
        behind = self.track.draw("behind", 4) == 3
        after = self.track.draw("after", bucket.last_seq + 3) if behind and bucket is not None else None
        if bucket is None or len(self.watches) < WATCHES_MAX:
            self._begin(name, pattern, after)

    def _begin(self, name: str, pattern: str, after: int | None) -> None:
        bucket = self.buckets.get(name)
        token = self.node.begin(kv.KvWatch(name, pattern, after))
        self.compared += 1
        if bucket is None:
            answer = self._reply_to(token)
            code = getattr(answer, "code", answer)
            self._require(code == outcomes.NO_SUCH_BUCKET, ("watch", name), outcomes.NO_SUCH_BUCKET, answer)
            return
        self._require(token in self.node.delivered, ("watch", name), "a first delivery", "none")
        self.watches[token] = OpenWatch(NaiveWatch(bucket, pattern, after), seen=after)

    def watch_oddly(self) -> None:
        """Begin a watch of keys that there cannot be."""
        name, pattern = self.track.pick("bucket", BUCKETS), self.track.pick("pattern", ODD_PATTERNS)
        if name not in self.buckets:
            return
        answer = self._reply_to(self.node.begin(kv.KvWatch(name, pattern)))
        self.compared += 1
        is_refused = isinstance(answer, Refusal) and answer.status is Status.INVALID_ARGUMENT
        self._require(is_refused, ("watch", pattern), Status.INVALID_ARGUMENT, answer)

    def _reply_to(self, token: Token) -> object:
        """Return what ended or answered a call that began no watch."""
        end = self.node.ended.get(token)
        return end.refusal or end.reason if end is not None else self.node.take_reply(token)

    def grant(self) -> None:
        """Grant a watch credit."""
        if self.watches:
            token = self.track.pick("watch", list(self.watches))
            more = self.track.pick("room", (1, 1, 2, 5, 50))
            self.watches[token].credit += more
            self.node.credit(token, more, CREDIT_BYTES)

    def hang_up(self) -> None:
        """End a watch."""
        if self.watches:
            token = self.track.pick("watch", list(self.watches))
            del self.watches[token]
            self.node.cancel(token)

    def restart(self) -> None:
        """Restart the node; each watch goes on behind what it saw."""
        before, self.watches = self.watches, {}
        super().restart()
        for watch in before.values():
            self._begin(watch.naive.bucket.name, watch.naive.pattern, watch.seen)

    # ------------------------------------------------------------ comparing

    def _compare(self, token: Token) -> None:
        watch = self.watches[token]
        what = ("watch", watch.naive.bucket.name, watch.naive.pattern)
        got = self.node.delivered.get(token, [])
        self.node.delivered[token] = []
        real = [(message.seq, read_body(message.body)[1]) for message in got]
        if self.buckets.get(watch.naive.bucket.name) is not watch.naive.bucket:
            end = self.node.ended.get(token)
            self._same(what, DELETED, end.reason if end is not None else "no end")
            del self.watches[token]
            return
        wanted = watch.naive.take(watch.credit) if watch.credit else []
        self.compared += 1
        self._same(what, wanted, real)
        watch.credit -= len(wanted)
        watch.seen = wanted[-1][0] if wanted else watch.seen
