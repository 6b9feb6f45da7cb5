"""Actors of a world: clients that publish, consume, watch, administer and back up."""
