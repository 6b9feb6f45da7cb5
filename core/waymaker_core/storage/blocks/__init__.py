"""Block files and their indexes."""
