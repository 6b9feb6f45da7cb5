"""Raft: the consensus group that will keep the cluster's small truth, as a deterministic member behind `Raft.step`."""

from waymaker_core.raft.raft import Raft

__all__ = ["Raft"]
