"""Sketches: small summaries of many values, with answers that are off by a bounded error."""
