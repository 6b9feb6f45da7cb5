"""Deliveries without a call: turns of subscribers, expiry, dead letters."""
