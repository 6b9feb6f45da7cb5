"""Requests that members of a cluster make of the node that leads the catalog. No client makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class ClaimStream:
    """Claim a stream for a primary and replicas, if its newest claim is that of `expected_epoch` (0: it has none).

    Value: the new claim's epoch (int). `no_such_stream`; `wrong_revision` where another claim is the newest one.
    """

    stream_id: int
    primary: int
    replicas: Sequence[int]
    expected_epoch: int


@dataclass(slots=True, eq=False)
class OpenAuthority:
    """Open the claim of an epoch: its primary may commit. Value None. To open it again changes nothing.

    `no_such_stream`; `wrong_revision` where another claim is the newest one.
    """

    stream_id: int
    epoch: int


@dataclass(slots=True, eq=False)
class ClaimStreams:
    """Claim many streams, each as `ClaimStream` does, in few records. Those that cannot be claimed are left out.

    So are those that find no room. Value: the epoch of each new claim, 0 where there is none (list[int]).
    """

    claims: Sequence[ClaimStream]


@dataclass(slots=True, eq=False)
class OpenAuthorities:
    """Open many claims, each as `OpenAuthority` does, in few records. Those that cannot be opened are left out.

    Value: how many openings were decided (int). One that was decided before is no new one.
    """

    openings: Sequence[OpenAuthority]


ClusterRequest = ClaimStream | OpenAuthority | ClaimStreams | OpenAuthorities
