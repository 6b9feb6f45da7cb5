"""The node beside a naive broker: the same calls must have the same answers."""
