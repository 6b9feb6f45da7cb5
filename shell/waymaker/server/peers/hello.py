"""The hello of a connection between members: who speaks, to whom, for which cluster, in which version.

Both sides say it first. It is compared before anything else is read, so that a connection that went astray ends with a reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple

import cbor2

from waymaker_core.cluster.effects import Lane

PROTOCOL: Final = "waymaker-peer"
VERSION: Final = 1
IDENTITY_BYTES: Final = 16
ADDRESS_CHARS_MAX: Final = 300


class HelloError(Exception):
    """A hello that is none, or of a version that this program does not know."""


class Hello(NamedTuple):
    """One side of a connection."""

    cluster: bytes
    """The identity of the cluster."""
    node_id: int
    to: int
    """The member that the speaker means to talk to."""
    lane: Lane
    start: bytes
    """Random bytes, drawn anew at each start of the speaker."""
    client_address: str
    """The address where clients reach the speaker; empty where it serves none."""
    link_address: str
    """The address of its native link, or empty."""


def cluster_identity(name: str, members: Iterable[int]) -> bytes:
    """Return the identity of a cluster: its name, and the numbers of its members. Their addresses may change."""
    text = cbor2.dumps([name, sorted(members)])
    return hashlib.sha256(text).digest()[:IDENTITY_BYTES]


def encode_hello(hello: Hello) -> bytes:
    """Encode a hello."""
    return cbor2.dumps([PROTOCOL, VERSION, *hello[:3], int(hello.lane), *hello[4:]])


def decode_hello(data: bytes) -> Hello:
    """Decode a hello. Raises `HelloError`; a version to come may have other fields behind its number."""
    try:
        value: object = cbor2.loads(data)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError, RecursionError):
        value = None
    match value:
        case [str(protocol), int(version), *fields] if protocol == PROTOCOL:
            if version != VERSION:
                raise HelloError(f"it speaks version {version} of the members' protocol, and this program {VERSION}")
            return _hello(fields)
    raise HelloError("it is no member: it speaks another protocol")


def _hello(fields: list[object]) -> Hello:
    match fields:
        case [bytes(cluster), int(node_id), int(to), int(lane), bytes(start), str(client), str(link)]:
            whole = len(cluster) == len(start) == IDENTITY_BYTES and min(node_id, to) > 0
            if whole and lane in list(Lane) and max(len(client), len(link)) <= ADDRESS_CHARS_MAX:
                return Hello(cluster, node_id, to, Lane(lane), start, client, link)
    raise HelloError("its hello cannot be read")


def mismatch(own: Hello, theirs: Hello) -> str:
    """Return why two hellos do not belong to one connection; empty if they do. `own.to` is 0 where any member may come."""
    if theirs.cluster != own.cluster:
        return "it belongs to another cluster: cluster_name, or the numbers of the members, differ"
    if theirs.node_id == own.node_id:
        return f"it is member {own.node_id}, too: two servers have one node_id, or an address leads back here"
    if theirs.to != own.node_id:
        return f"it looks for member {theirs.to}, and this is member {own.node_id}: an address in cluster is wrong"
    if own.to and theirs.node_id != own.to:
        return f"it is member {theirs.node_id}, and member {own.to} was to be there: an address in cluster is wrong"
    return ""
