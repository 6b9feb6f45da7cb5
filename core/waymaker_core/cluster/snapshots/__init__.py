"""Snapshots between members: of the catalog, and of streams, for those that lack records which no journal has any more."""
