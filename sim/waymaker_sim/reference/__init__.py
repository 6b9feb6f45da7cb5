"""A naive broker: the rules again, written to be read."""
