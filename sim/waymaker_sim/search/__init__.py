"""Search for runs that fail, and for smaller ones that fail in the same way."""
