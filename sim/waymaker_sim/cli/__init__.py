"""The commands of `waymaker sim`."""
