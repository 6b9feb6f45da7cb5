"""The settings of a node, fixed when it is opened."""

from __future__ import annotations

from dataclasses import dataclass, field

from waymaker_core.api.authorize import Authorize, allow_known_accounts
from waymaker_core.layers.layer import LayerFactory
from waymaker_core.model.limits import Limits
from waymaker_core.node.services import make_layers
from waymaker_core.storage.config_codec import REPLICAS_MAX


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Settings of one node.

    `identity` is 16 random bytes: the only randomness a node uses, drawn by the shell. It names the data directory
    when the directory is new and is ignored afterwards. `sync_interval_ms` 0 syncs before every confirmation; a positive
    value confirms after the write and syncs that often, so that a loss of power may forget the last interval.
    `replicated`: a record is committed when a majority of replicas has it (`Replicate`). What is read leaves after a
    majority has confirmed who leads (`Confirm`). `layers` makes what services keep beside a stream.

    `member`: the node is one of a cluster, which implies `replicated`. It leads neither a stream nor the catalog before it
    is told to (`Lead`). New streams are placed on up to `replication_factor` of the nodes `members`.
    """

    node_id: int = 1
    identity: bytes = bytes(16)
    limits: Limits = field(default_factory=Limits)
    sync_interval_ms: int = 0
    replicated: bool = False
    authorize: Authorize = allow_known_accounts
    layers: LayerFactory = make_layers
    member: bool = False
    members: tuple[int, ...] = ()
    replication_factor: int = 3

    def __post_init__(self) -> None:
        assert self.node_id > 0
        assert len(self.identity) == 16
        assert self.sync_interval_ms >= 0
        assert 0 < self.replication_factor <= REPLICAS_MAX
        assert all(node > 0 for node in self.members)
        if self.member:
            object.__setattr__(self, "replicated", True)
