"""One node: the deterministic state machine behind `Node.step`, and how it begins from what a directory holds."""

from waymaker_core.node.config import NodeConfig
from waymaker_core.node.node import Node
from waymaker_core.node.opening import open_node
from waymaker_core.node.stats import NodeStats

__all__ = ["Node", "NodeConfig", "NodeStats", "open_node"]
