"""Inputs and effects that a member of a cluster has beside those of its node."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from waymaker_core.model.types import Token


class Lane(IntEnum):
    """The way of a message to a peer. What is on one lane never delays the other."""

    LIVE = 1
    BULK = 2
    """Snapshots, whose pieces are large."""


@dataclass(slots=True, eq=False)
class FromPeer:
    """Bytes of another member arrived: the data of a `ToPeer`, whole."""

    sender: int
    data: bytes


@dataclass(slots=True, eq=False)
class ToPeer:
    """Bytes for another member. They may be lost; nothing says so."""

    to: int
    lane: Lane
    data: bytes


@dataclass(slots=True, eq=False)
class Elsewhere:
    """The one answer to a call that another member serves, in an epoch as far as known: nothing was done here."""

    token: Token
    node_id: int
    epoch: int
