"""Claims: what the leader of the catalog claims for nodes, because a primary wishes it, or is silent, stalled, or replaced.

Claims and openings of one step are one request each. A claim counts only while the one that it follows is the newest, so one
that is made twice, or late, changes nothing.
"""

from __future__ import annotations

from waymaker_core.api.cluster_requests import ClaimStream, OpenAuthority
from waymaker_core.catalog.authority import Claim
from waymaker_core.catalog.placement import hashed_order
from waymaker_core.cluster.catalog_group import CatalogGroup
from waymaker_core.cluster.liveness import Liveness
from waymaker_core.cluster.peer_messages import ClaimWanted, MoveReady, OpenWanted, PlaceWanted, Wish
from waymaker_core.cluster.replicas import Replicas
from waymaker_core.cluster.settings import MemberSettings
from waymaker_core.cluster.sweep import Sweep
from waymaker_core.node.node import Node


class Claims:
    """The claims and openings that this member, as the leader of the catalog, is about to ask its node for, by stream."""

    def __init__(
        self, node: Node, group: CatalogGroup, replicas: Replicas, liveness: Liveness, sweep: Sweep, settings: MemberSettings,
        now: int,
    ) -> None:  # fmt: skip
        self._node = node
        self._group = group
        self._replicas = replicas
        self._liveness = liveness
        self._sweep = sweep
        self._settings = settings
        self._others = [each for each in node.config.members if each != node.config.node_id]
        self._look_at = now
        self._settled_members = -1
        """The position of the members whose directories all newest claims name; -1 where that was not looked at."""
        self.claims: dict[int, ClaimStream] = {}
        self.openings: dict[int, OpenAuthority] = {}

    def next_deadline(self) -> int:
        """Return the moment, in milliseconds, at which to look for silent primaries again."""
        return self._look_at

    def grant(self, now: int, wish: Wish, sender: int) -> None:
        """Do what a primary wishes, as the leader of the catalog."""
        conf = self._node.conf(wish.stream_id)
        if not self._group.is_led_here or conf is None or conf.newest.epoch != wish.epoch:
            return
        if isinstance(wish, OpenWanted):
            if conf.opened.epoch != wish.epoch:
                self.openings[wish.stream_id] = OpenAuthority(wish.stream_id, wish.epoch)
        elif isinstance(wish, ClaimWanted):
            self._claim(now, wish.stream_id, wish.primary)
        elif isinstance(wish, MoveReady):
            newest, is_well = conf.newest, self._liveness.is_well
            wanted = self._sweep.wants(*wish) or not is_well(now, sender)
            if wanted and sender == newest.primary and wish.to in newest.replicas and is_well(now, wish.to):
                self.claims[wish.stream_id] = ClaimStream(wish.stream_id, wish.to, newest.replicas, newest.epoch)
        else:
            self._place(now, wish, conf.newest.primary)

    def _place(self, now: int, wish: PlaceWanted, primary: int) -> None:
        """Claim a stream for its primary on as many nodes as there should be, at once."""
        config = self._node.config
        members = self._group.members.voters + self._group.members.learners
        order = hashed_order(str(wish.stream_id), members)
        others = [each for each in order if each != primary and self._liveness.is_alive(now, each)]
        nodes = [primary, *others[: config.replication_factor - 1]]
        if len(nodes) < min(config.replication_factor, len(members)):
            return
        self.claims[wish.stream_id] = ClaimStream(wish.stream_id, primary, nodes, wish.epoch)

    def _claim(self, now: int, stream_id: int, preferred: int = 0) -> None:
        """Claim a stream anew for the first of its replicas that is alive; a certain one, then its primary, by preference.

        Those that lost their directories since the last claim come last: they have nothing of the stream.
        """
        conf = self._node.conf(stream_id)
        assert conf is not None
        newest = conf.newest
        first = preferred if preferred in newest.replicas else newest.primary
        at = newest.replicas.index(first)
        lost, liveness = self._replaced_in(newest), self._liveness
        order = (*newest.replicas[at:], *newest.replicas[:at])
        alive = [node for node in order if liveness.is_alive(now, node)]
        for node in sorted(alive, key=lambda each: (each in lost, not liveness.is_well(now, each))):
            self.claims[stream_id] = ClaimStream(stream_id, node, newest.replicas, newest.epoch)
            return

    def claim_for_the_silent(self, now: int) -> None:
        """Claim the streams of silent primaries for others, once a while, as the leader of the catalog."""
        if now < self._look_at:
            return
        self._look_at = now + self._settings.wish_ms
        if not self._group.is_led_here:
            return
        liveness = self._liveness
        silent = {node for node in self._others if not liveness.is_alive(now, node)}
        stalled = {node for node in (*self._others, self._node.config.node_id) if liveness.is_stalled(node)}
        # Whether a directory has changed is looked at for all streams once, and again until none names an old one.
        members = self._node.catalog_members()
        version = 0 if members is None else members.position
        moved = version != self._settled_members
        if not silent and not stalled and not moved:
            return
        if moved and not any(self._replaced_in(conf.newest) for conf in self._node.confs()):
            self._settled_members = version
        for stream_id, _ in list(self._replicas.items()):
            conf = self._node.conf(stream_id)
            if conf is None:
                continue
            newest = conf.newest
            is_replaceable = newest.primary in stalled and any(liveness.is_well(now, node) for node in newest.replicas)
            if newest.primary in silent or is_replaceable or (moved and self._replaced_in(newest)):
                self._claim(now, stream_id)

    def _replaced_in(self, claim: Claim) -> list[int]:
        """Return the replicas of a claim whose directory is another one by now: they count only in a new claim."""
        named = zip(claim.replicas, claim.directories or (0,) * len(claim.replicas), strict=True)
        directory_of = self._node.directory_of
        return [node for node, directory in named if directory_of(node) not in (0, directory)]
