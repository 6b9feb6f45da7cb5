"""Deliveries that outlive a call: subscriptions, fetches that wait, expiry, watchers."""
