"""Targets for what a connection to the members' port sends: frames of any bytes, and a hello."""

from __future__ import annotations

from tests.fuzz.target import Target
from waymaker.server.peers.frames import FrameError, FrameReader, Kind, frame
from waymaker.server.peers.hello import Hello, HelloError, cluster_identity, decode_hello, encode_hello
from waymaker_core.cluster.effects import Lane

HELLO = Hello(cluster_identity("a", [1, 2, 3]), 1, 2, Lane.BULK, bytes(16), "127.0.0.1:7411", "")


def frame_seeds() -> list[bytes]:
    """A hello, and some frames behind each other."""
    return [
        frame(Kind.HELLO, encode_hello(HELLO)),
        frame(Kind.MESSAGE, b"x" * 40) + frame(Kind.KEEPALIVE) + frame(Kind.REFUSED, b"why"),
    ]


def run_frames(data: bytes) -> None:
    """What is read is what the bytes begin with, however they are cut; the rest is refused or waited for."""
    whole = _read([data])
    assert whole == _read([data[at : at + 7] for at in range(0, len(data), 7)])
    assert data.startswith(b"".join(frame(kind, body) for kind, body in whole))
    for kind, body in whole:
        if kind is Kind.HELLO:
            run_hello(body)


def _read(pieces: list[bytes]) -> list[tuple[Kind, bytes]]:
    found: list[tuple[Kind, bytes]] = []
    reader = FrameReader(lambda kind: True)
    try:
        for piece in pieces:
            reader.feed(piece, lambda kind, body: found.append((kind, body)))
    except FrameError:
        pass
    return found


def hello_seeds() -> list[bytes]:
    """One hello of each lane."""
    return [encode_hello(HELLO), encode_hello(HELLO._replace(lane=Lane.LIVE, link_address="[::1]:7412"))]


def run_hello(data: bytes) -> None:
    """A hello is refused, or says what can be said again."""
    try:
        hello = decode_hello(data)
    except HelloError:
        return
    assert decode_hello(encode_hello(hello)) == hello


TARGETS = [Target("peer-frames", frame_seeds, run_frames), Target("peer-hello", hello_seeds, run_hello)]
