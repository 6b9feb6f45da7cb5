"""One node: the deterministic state machine behind `Node.step`, and its recovery from a data directory."""

from waymaker_core.node.config import NodeConfig
from waymaker_core.node.node import Node
from waymaker_core.node.opening import open_node
from waymaker_core.node.stats import NodeStats

__all__ = ["Node", "NodeConfig", "NodeStats", "open_node"]
