"""Recovery of a directory after a stop, and the check of one that is not in use."""
