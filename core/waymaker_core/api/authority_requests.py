"""Requests about where streams are led: pins, overrides, and the figures of all nodes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class SetStreamPinned:
    """Keep a stream where it is, or release it. No value; `no_such_stream`, `no_leader`. To repeat it is harmless."""

    stream: str
    pinned: bool


@dataclass(slots=True, eq=False)
class ClearStreamAuthority:
    """Let a stream return to the node that the ring names, once that node has caught up, pinned or not.

    No value; `no_leader`. Where there is no override, and where there is no such stream, it is `ok` and changes nothing.
    """

    stream: str


@dataclass(slots=True, eq=False)
class ListOverrides:
    """Value `Page` of `StreamOverride`, sorted by name; `limit` as in `ListStreams`. Any member answers, as far as it knows."""

    after: str = ""
    limit: int = 0


@dataclass(slots=True, eq=False)
class GetClusterStats:
    """Value `ClusterStats`, with a row a stream if wanted. Any member answers. `local`: without the rows of other nodes."""

    per_stream: bool = False
    local: bool = False


AuthorityRequest = SetStreamPinned | ClearStreamAuthority | ListOverrides | GetClusterStats

# ---------------------------------------------------------------- values


@dataclass(slots=True, eq=False)
class StreamOverride:
    """A claim that set a stream's primary apart from the ring."""

    stream: str
    claimant: int
    epoch: int


@dataclass(slots=True, eq=False)
class StreamAuthority:
    """The place of a stream: the claim that overrides the ring (0, 0: none does), the node that the ring names, and the pin."""

    claimant: int = 0
    epoch: int = 0
    home: int = 0
    pinned: bool = False


@dataclass(slots=True, eq=False)
class NodeSums:
    """The streams added up that one node leads. `status`: `ok`, or `unreachable` where the node was not heard lately."""

    node_id: int
    status: str = "ok"
    streams: int = 0
    messages: int = 0
    bytes: int = 0


@dataclass(slots=True, eq=False)
class StreamFigures:
    """The figures of one stream, as the node that answers has applied it."""

    name: str
    owner: int
    messages: int
    bytes: int
    last_seq: int


@dataclass(slots=True, eq=False)
class ClusterStats:
    """Value of `GetClusterStats`: a row a node, in order of ids."""

    nodes: list[NodeSums]
    streams: list[StreamFigures] = field(default_factory=list)

    def skew(self) -> tuple[int, int]:
        """Return the most streams on a node less the fewest, and the same of bytes, over the nodes that answered."""
        rows = [each for each in self.nodes if each.status == "ok"]
        if not rows:
            return 0, 0
        counts, sizes = [each.streams for each in rows], [each.bytes for each in rows]
        return max(counts) - min(counts), max(sizes) - min(sizes)
