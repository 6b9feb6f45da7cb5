"""Search for runs that fail, and for smaller ones that fail alike."""
