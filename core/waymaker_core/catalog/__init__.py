"""The streams of a node by id and by name, with the names that are decided and not committed."""
