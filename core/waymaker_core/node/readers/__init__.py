"""Readers of this node and the messages sent to each: subscriptions, fetches that wait for a report, watchers."""
