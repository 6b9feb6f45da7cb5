"""Sources of a stream: what becomes of a message that is copied from another stream."""
