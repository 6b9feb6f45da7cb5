"""Readers of this node and what each of them was sent: subscriptions, fetches that wait for a report, watchers."""
