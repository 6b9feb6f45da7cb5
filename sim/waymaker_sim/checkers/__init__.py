"""Checks of a finished run: its history against the state of the node."""
