"""Copying from sources: what a stream with sources does while this node leads it."""
