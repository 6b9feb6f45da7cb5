"""Layers: what services keep beside one stream, made of the stream's own committed records."""
