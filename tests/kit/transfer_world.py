"""A random life of two replicas: one leads a stream, the other gets it by transfers, and either may crash at any operation.

Messages and settings are made on the donor alone, the catalog's calls on both, as one log of the catalog would. Every check is
an assertion: `live` raises where a replica is not what it must be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from random import Random

from tests.kit.node_kit import SMALL, publish
from tests.kit.store_disk import Crash
from tests.kit.transfer_kit import Peer, Transfer, require_tidy, state_of
from waymaker_core.api import requests as rq
from waymaker_core.api.requests import AckKind
from waymaker_core.model.limits import KIB
from waymaker_core.stream.relocation import relocation as relocating

LIMITS = replace(
    SMALL, segment_bytes=8 * KIB, checkpoint_journal_bytes=8 * KIB, index_cache_bytes=1, block_bytes_max=4 * KIB,
    producers_max=3, pinned_bytes_max=1 << 20,
)  # fmt: skip
KINDS = ("LIMITS", "WORK_QUEUE", "INTEREST")


class TransferWorld:
    """Two replicas of one stream, and their history."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.donor, self.receiver = Peer(LIMITS, seed=seed), Peer(LIMITS, seed=seed + 1)
        kind = self.kind = random.choice(KINDS)
        block_size = random.choice([3, 10, 40])
        cap = random.choice([0, 0, 2]) if kind == "LIMITS" else 0
        for peer in (self.donor, self.receiver):
            peer.create("s", retention=kind, block_size=block_size, max_msgs_per_subject=cap)
            peer.create("busy", block_size=20, max_msgs=40)
        self.donor.consumer("s", "c", ack_wait_ms=5_000, max_deliver=3)
        self.transfer: Transfer | None = None
        self.sent: object = None
        self.messages: list[list[tuple[int, int, bytes]]] = [[]]
        """States that the receiver may hold: the last state that it adopted, and one whose adoption was interrupted."""
        self.adopted = 0
        self.receiver.step_down()

    def act(self) -> None:
        """Do one thing."""
        random = self.random
        what = random.randrange(100)
        if what < 30:
            self._publish()
        elif what < 40:
            self._consume()
        elif what < 46:
            self._settle()
        elif what < 56:
            write(self.donor, random.randrange(1, 30))
        elif what < 64:
            write(self.receiver, random.randrange(1, 30))
        elif what < 68:
            self._pass(random.choice([self.donor, self.receiver]))
        elif what < 70:
            self.donor.lose_power() if random.random() < 0.5 else self.donor.kill()
            if self.transfer is not None:
                self.transfer.end_on(self.receiver)
                self.transfer = None
                self._check_old()
        elif what < 73:
            self._crash(lambda: None)
        else:
            self._carry()

    def _publish(self) -> None:
        random = self.random
        batch = [
            (f"a.{random.randrange(6)}", random.randbytes(random.randrange(1, 90)))
            for _ in range(random.randrange(1, 9))
        ]
        request = publish("s", *batch)
        if random.random() < 0.3:
            first = self.donor.replica().stream.last_seq + 1
            request.producer = rq.Producer(random.randrange(1, 6), 1, range(first, first + len(batch)), False)
        self.donor.ok(request)

    def _consume(self) -> None:
        random = self.random
        got = [seq for seq, _, _ in self.donor.fetch("s", "c", random.randrange(1, 12))]
        random.shuffle(got)
        half = len(got) // 2
        if got[:half]:
            self.donor.ack(*sorted(got[:half]))
        if got[half : half + 2]:
            self.donor.ack(*sorted(got[half : half + 2]), kind=random.choice([AckKind.NAK, AckKind.TERM]))

    def _settle(self) -> None:
        random = self.random
        if random.random() < 0.5 and self.kind == "LIMITS":
            self.donor.ok(rq.UpdateStream("s", max_msgs=random.randrange(5, 120)))
        else:
            name = f"c{random.randrange(3)}"
            if any(info.config.name == name for info in self.donor.consumers()):
                self.donor.ok(rq.DeleteConsumer("s", name))
            else:
                self.donor.consumer("s", name, filter_subject="a.1")

    def _pass(self, peer: Peer) -> None:
        peer.pass_ms(self.random.randrange(1, 4_000))

    # ------------------------------------------------------------ transfers

    def _carry(self) -> None:
        """Begin a transfer, carry a few pieces of one, or give it up."""
        transfer = self.transfer
        if transfer is None:
            self._begin()
            return
        if self.random.random() < 0.03:
            transfer.give_up()
            self.transfer = None
            self._check_old()
            return
        for _ in range(self.random.randrange(1, 6)):
            if not self._advance(transfer):
                break

    def _begin(self) -> None:
        if self.donor.replica().stream.position <= self.receiver.replica().log.end:
            return
        self.transfer = Transfer(self.donor, self.receiver)
        self.transfer.begin()
        assert not self.receiver.transfers and not self.donor.transfers
        self.sent = state_of(self.donor)
        self.messages[1:] = [self.donor.all()]
        self.receiver.copies = self.random.random() < 0.5

    def _carrying(self) -> bool:
        """Carry one piece; return False without a transfer."""
        if self.transfer is not None:
            self._advance(self.transfer)
        return self.transfer is not None

    def _advance(self, transfer: Transfer) -> bool:
        if self.random.random() < 0.02:
            self._crash(transfer.advance)
            return False
        if transfer.advance():
            return True
        self.transfer = None
        ended = self.receiver.transfers.pop(transfer.number)
        self.donor.transfers.clear()
        assert not ended.problem, ended.problem
        self._check_new()
        return False

    def _crash(self, meanwhile: Callable[[], object]) -> None:
        """Crash the receiver at some operation of what it does, and start it again."""
        receiver, random = self.receiver, self.random
        receiver.disk.crash_in = random.randrange(12)
        try:
            meanwhile()
            write(receiver, 20)
        except Crash:
            pass
        receiver.disk.crash_in = None
        receiver.lose_power() if random.random() < 0.5 else receiver.kill()
        self.donor.transfers.clear()
        if self.transfer is not None:
            self.transfer.end_on(self.donor)
            self.transfer = None
        assert not receiver.node.quarantined()
        found = receiver.all()
        assert found in self.messages, "neither the old state nor the new one"
        self.messages = [found]
        self._check_tidy(receiver)
        receiver.step_down()

    # ------------------------------------------------------------ checks

    def _check_new(self) -> None:
        """Require that the receiver is what the donor was when the transfer began."""
        self.adopted += 1
        assert state_of(self.receiver) == self.sent
        self.messages = self.messages[1:]
        self._check_tidy(self.receiver)
        if self.receiver.at_end is not None:
            twin = self.receiver.at_end
            twin.lose_power(self.random)
            assert Peer(LIMITS, twin).all() == self.messages[0], "it was told before it was durable"

    def _check_old(self) -> None:
        self.messages = self.messages[:1]
        self._check_tidy(self.receiver)

    def _check_tidy(self, peer: Peer) -> None:
        peer.node.check()
        require_tidy(peer, running=True)
        named = {path for each in peer.node._state.replicas.values() for path in relocating.files(each.stream)}
        blocks = {path for path in peer.disk.names if path.startswith("blocks/")}
        assert peer.node._checkpoints.running or blocks <= named, f"nothing names {sorted(blocks - named)}"

    def finish(self) -> None:
        """End with a transfer of all there is, and the receiver in the donor's place."""
        if self.transfer is not None:
            self.transfer.give_up()
            self.transfer = None
        self.donor.publish("s", b"the last one", subject="a.1")
        while self.messages[0] != self.donor.all():
            self._begin()
            while self._carrying():
                pass
        self.receiver.lead()
        assert self.receiver.all() == self.donor.all()
        assert astuple(self.receiver.stats()) == astuple(self.donor.stats())
        for peer in (self.donor, self.receiver):
            if self.kind == "LIMITS":
                peer.ok(rq.UpdateStream("s", max_msgs=0))
            peer.publish("s", b"goes on", subject="a.2")
            peer.pass_ms(20_000)
        for _ in range(40):
            one, other = ([seq for seq, _, _ in peer.fetch("s", "c", 10)] for peer in (self.donor, self.receiver))
            assert one == other
            for peer in (self.donor, self.receiver):
                if one:
                    peer.ack(*one)
        for restart in (self.receiver.kill, self.receiver.lose_power, self.receiver.restart):
            restart()
            assert [seq for seq, _, _ in self.receiver.all()] == [seq for seq, _, _ in self.donor.all()]
            self._check_tidy(self.receiver)


def write(peer: Peer, count: int) -> None:
    """Publish to another stream, so that checkpoints run."""
    for _ in range(count):
        peer.publish("busy", bytes(300))


def live(seed: int, acts: int = 120) -> int:
    """Live one life; how many snapshots were adopted."""
    world = TransferWorld(seed)
    for _ in range(acts):
        world.act()
    world.finish()
    return world.adopted
