"""How a node begins: recovery of the directory, state from its records, lives that end with a restart."""

from __future__ import annotations

from collections.abc import Generator

from waymaker_core.disk import DiskOp
from waymaker_core.node.config import NodeConfig
from waymaker_core.node.node import Node
from waymaker_core.types import Now


def open_node(config: NodeConfig, now: Now) -> Generator[DiskOp, object, Node]:
    """Recover the directory and return the node that serves it.

    A generator of disk operations: perform each that it yields and send back the operation's result, or throw the
    `DiskFailure` into it. Its return value is the node. An empty directory becomes a new one. What makes a start
    impossible is raised: `store.recovery.CorruptStore` (names file and offset), `store.recovery.UnknownVersion`,
    or the `DiskFailure` itself. May be run again on the same directory after any of these, or after a crash at any
    operation; a run never makes a directory worse.
    """
    raise NotImplementedError
    yield
