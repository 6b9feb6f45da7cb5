"""Retention: which messages a stream removes by age, count, bytes and interest."""
