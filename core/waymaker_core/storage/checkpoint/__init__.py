"""Checkpoint files: written in parts, read at a start."""
