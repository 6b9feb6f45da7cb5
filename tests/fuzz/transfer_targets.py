"""The target for transfers: whatever pieces say, they are refused as a whole or adopted, and the node lives on.

Pieces come from another replica. It is no enemy, yet it may be damaged, or another version.
"""

from __future__ import annotations

from functools import cache

from tests.fuzz.format_targets import CBOR_TOKENS, MENDED, PLAIN
from tests.fuzz.mending import mend_archive
from tests.fuzz.target import Target
from tests.kit.node_kit import SMALL, publish
from tests.kit.transfer_kit import Peer, Transfer
from waymaker_core.api import requests as rq
from waymaker_core.api.inputs import EndTransfer, PieceArrived, ReceiveSnapshot
from waymaker_core.model.result_codes import Answer


def _peer() -> Peer:
    peer = Peer(SMALL)
    peer.create("s", block_size=4)
    peer.create("other")
    return peer


@cache
def small_transfer() -> bytes:
    """A stream with two sealed blocks, an open one, holes and a consumer."""
    donor, receiver = _peer(), _peer()
    donor.consumer("s", "c")
    for number in range(10):
        donor.ok(publish("s", (f"a.{number % 3}", b"%d" % number)))
    donor.ack(*[seq for seq, _, _ in donor.fetch("s", "c", 3)])
    donor.ok(rq.UpdateStream("s", max_msgs=9))
    receiver.step_down()
    transfer = Transfer(donor, receiver)
    assert not transfer.run().problem
    return b"".join(transfer.sent)


def transfer_seeds() -> list[bytes]:
    """One transfer, with its own checksums and with mended ones."""
    return [flag + small_transfer() for flag in (PLAIN, MENDED)]


def run_transfer(data: bytes) -> None:
    """Refused, with no file left, or adopted; another stream is unharmed, before and after a restart."""
    content = bytearray(data[1:])
    if data[:1] == MENDED:
        mend_archive(content)
    peer = _peer()
    peer.step_down()
    peer.step(ReceiveSnapshot(1, peer.replica().id))
    peer.step(PieceArrived(1, bytes(content)))
    peer.step(EndTransfer(1))
    ended = peer.transfers[1]
    if ended.problem:
        assert not [path for path in peer.disk.names if path.startswith(("blocks/", "tails/"))]
    peer.publish("other", b"unharmed")
    peer.lead()
    peer.call(rq.ReadRange("s", 1, 100))
    peer.call(rq.Fetch("s", "c", 10))
    peer.call(publish("s", ("a.1", b"more")))
    peer.restart()
    assert [payload for _, _, payload in peer.all("other")] == [b"unharmed"]
    if ended.problem:
        assert isinstance(peer.call(rq.ReadRange("s", 1, 100)), Answer)


TARGETS = (Target("transfer", transfer_seeds, run_transfer, CBOR_TOKENS),)
