"""Judges of a finished run: what callers were told against what is there."""
