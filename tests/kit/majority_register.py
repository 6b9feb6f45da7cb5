"""A toy protocol for simulated machines: one register that a majority holds (Attiya, Bar-Noy and Dolev, 1995).

Any machine serves any call. It asks a majority for the newest version, then has a majority store the version that it answers
with: the one it found, or a newer one with the value to write. A replica answers a store once it is durable. Versions are
numbered by a counter, the machine, and the number of the call, which no other run of the process shares.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import google_crc32c

from waymaker_core.api.effects import Halt, Job, Lane, Reply
from waymaker_core.api.inputs import Call, Cancel, JobDone, JobFailed
from waymaker_core.model.disk_ops import CreateFile, DiskOp, ListDir, Read, SyncDir, SyncFile, Write
from waymaker_core.model.result_codes import OK, Answer, Outcome, Refusal, Status
from waymaker_core.model.types import JobId, Now, Token
from waymaker_core.node import NodeConfig
from waymaker_sim.cluster import links
from waymaker_sim.cluster.atlas import Atlas, Copy
from waymaker_sim.cluster.peers import PeerKinds
from waymaker_sim.kernel.events import MS, SECOND
from waymaker_sim.machine.process import Opener, Process, Recovery

FOLDER = "journal"
PATH = f"{FOLDER}/register"
RESEND_NS = 50 * MS
GIVE_UP_NS = SECOND
_MESSAGE = struct.Struct("<BQQIQQ")
_FRAME = struct.Struct("<QIQQ")
_CRC = struct.Struct("<I")
QUERY, FOUND, STORE, STORED = range(4)


class Version(NamedTuple):
    """One version of the register; the greater is the newer."""

    counter: int
    machine: int
    call: int
    value: int


class ToPeer(NamedTuple):
    """Bytes for a peer."""

    to: int
    lane: links.Lane
    data: bytes


class FromPeer(NamedTuple):
    """Bytes from a peer."""

    sender: int
    data: bytes


class Elsewhere(NamedTuple):
    """A call that another machine serves."""

    token: Token
    node_id: int
    epoch: int


KINDS = PeerKinds(ToPeer, FromPeer, Elsewhere)


@dataclass(slots=True)
class ReadRegister:
    """Read the register."""


@dataclass(slots=True)
class WriteRegister:
    """Write a value, which no other call writes."""

    value: int


@dataclass(slots=True)
class _Pending:
    """A call in one of its two phases, with the machines that have answered in it."""

    token: Token
    write: int
    newest: Version
    since_ns: int
    sent_ns: int
    storing: bool = False
    answered: set[int] = field(default_factory=set)


def frame(version: Version) -> bytes:
    """Encode a version for the disk."""
    data = _FRAME.pack(*version)
    return data + _CRC.pack(google_crc32c.value(data))


def frames(data: bytes) -> list[Version]:
    """Decode versions up to the first that is not whole."""
    found: list[Version] = []
    size = _FRAME.size + _CRC.size
    for at in range(0, len(data) - size + 1, size):
        part, crc = data[at : at + _FRAME.size], data[at + _FRAME.size : at + size]
        if _CRC.unpack(crc)[0] != google_crc32c.value(part) or not any(part):
            break
        found.append(Version(*_FRAME.unpack(part)))
    return found


class MajorityRegister:
    """One replica, and the coordinator of the calls that it is asked."""

    def __init__(self, machine: int, peers: Sequence[int], stores_min: int, now: Now, stored: list[Version]) -> None:
        self.machine = machine
        self.peers = [peer for peer in peers if peer != machine]
        self.majority = len(peers) // 2 + 1
        self.stores_min = stores_min or self.majority
        self.durable = max(stored, default=Version(0, 0, 0, 0))
        self.calls: dict[int, _Pending] = {}
        self.now_ns = now.mono_ns
        self._next_call = now.mono_ns + 1
        self._offset = len(stored) * len(frame(self.durable))
        self._counter = 0
        self._writing: list[tuple[Version, Callable[[], None]]] = []
        self._queue: list[tuple[Version, Callable[[], None]]] = []
        self._jobs = 0
        self._effects: list[Any] = []

    def step(self, now: Now, inputs: Sequence[Any]) -> list[Any]:
        """Process inputs."""
        self.now_ns = now.mono_ns
        self._effects = []
        for item in inputs:
            match item:
                case Call():
                    self._begin(item.token, getattr(item.request, "value", 0))
                case Cancel():
                    self.calls = {number: each for number, each in self.calls.items() if each.token != item.token}
                case FromPeer():
                    self._hear(item.sender, *_MESSAGE.unpack(item.data))
                case JobDone():
                    self._written()
                case JobFailed():
                    return [Halt("the disk failed", False)]
        self._resend()
        self._write()
        return self._effects

    def next_deadline(self) -> int | None:
        """Return when the next call sends its questions again."""
        return min((each.sent_ns + RESEND_NS for each in self.calls.values()), default=None)

    # ------------------------------------------------------------ coordinator

    def _begin(self, token: Token, write: int) -> None:
        self._next_call += 1
        pending = self.calls[self._next_call] = _Pending(token, write, self.durable, self.now_ns, self.now_ns)
        pending.answered.add(self.machine)
        self._ask(self._next_call, pending)
        self._go_on(self._next_call, pending)

    def _ask(self, number: int, pending: _Pending) -> None:
        pending.sent_ns = self.now_ns
        for peer in self.peers:
            if peer not in pending.answered:
                self._send(peer, STORE if pending.storing else QUERY, number, pending.newest)

    def _send(self, to: int, kind: int, number: int, version: Version) -> None:
        self._effects.append(ToPeer(to, links.Lane.LIVE, _MESSAGE.pack(kind, number, *version)))

    def _go_on(self, number: int, pending: _Pending) -> None:
        if not pending.storing and len(pending.answered) >= self.majority:
            if pending.write:
                self._counter = max(self._counter, pending.newest.counter) + 1
                pending.newest = Version(self._counter, self.machine, number, pending.write)
            pending.storing, pending.answered = True, set()
            self._store(pending.newest, lambda: self._answered(self.machine, number))
            self._ask(number, pending)
        if pending.storing and len(pending.answered) >= self.stores_min:
            del self.calls[number]
            self._effects.append(Reply(pending.token, Answer(OK, value=pending.newest.value)))

    def _answered(self, machine: int, number: int) -> None:
        pending = self.calls.get(number)
        if pending is not None and pending.storing:
            pending.answered.add(machine)
            self._go_on(number, pending)

    def _resend(self) -> None:
        for number, pending in list(self.calls.items()):
            if self.now_ns - pending.since_ns > GIVE_UP_NS:
                del self.calls[number]
                outcome = Outcome.UNKNOWN if pending.storing else Outcome.NOT_APPLIED
                self._effects.append(Reply(pending.token, Refusal(Status.UNAVAILABLE, "no majority", outcome)))
            elif self.now_ns - pending.sent_ns >= RESEND_NS:
                self._ask(number, pending)

    # ------------------------------------------------------------ replica

    def _hear(self, sender: int, kind: int, number: int, *version: int) -> None:
        heard = Version(*version)
        if kind == QUERY:
            self._send(sender, FOUND, number, self.durable)
        elif kind == STORE:
            self._store(heard, lambda: self._send(sender, STORED, number, heard))
        elif kind == STORED:
            self._answered(sender, number)
        else:
            pending = self.calls.get(number)
            if pending is not None and not pending.storing:
                pending.newest = max(pending.newest, heard)
                pending.answered.add(sender)
                self._go_on(number, pending)

    def _store(self, version: Version, then: Callable[[], None]) -> None:
        self._queue.append((version, then))

    def _write(self) -> None:
        if self._writing or not self._queue:
            return
        self._writing, self._queue = self._queue, []
        newest = max(version for version, _ in self._writing)
        data = frame(newest) if newest > self.durable else b""
        self._jobs += 1
        ops: list[DiskOp] = [Write(PATH, self._offset, [data]), SyncFile(PATH)] if data else []
        self._offset += len(data)
        self._effects.append(Job(JobId(self._jobs), Lane.JOURNAL, ops))

    def _written(self) -> None:
        written, self._writing = self._writing, []
        self.durable = max(self.durable, *(version for version, _ in written))
        for _, then in written:
            then()


def opener_of(count: int, stores_min: int = 0) -> Opener:
    """Return how machines open replicas of `count`. `stores_min`: copies that commit a version; 0: a majority."""

    def opener(config: NodeConfig, now: Now) -> Recovery:
        found = yield ListDir(FOLDER)
        assert isinstance(found, dict)
        stored: list[Version] = []
        if "register" in found:
            data = yield Read(PATH, 0, found["register"])
            assert isinstance(data, bytes)
            stored = frames(data)
        else:
            yield CreateFile(PATH, 0)
            yield SyncDir(FOLDER)
        yield SyncFile(PATH)  # what a crash left unsynced is durable before it counts
        return MajorityRegister(config.node_id, range(1, count + 1), stores_min, now, stored)

    return opener


def feed_of(count: int) -> Callable[[Atlas, Process], None]:
    """Return how machines report their copies."""

    def feed(atlas: Atlas, process: Process) -> None:
        server = process.server
        assert isinstance(server, MajorityRegister)
        atlas.place("register", range(1, count + 1))
        atlas.report(process.number, "register", Copy(1, server.durable.counter * 16 + server.durable.machine))

    return feed
