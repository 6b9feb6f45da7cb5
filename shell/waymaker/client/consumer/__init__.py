"""Consuming: subscriptions, the messages that they deliver, and their acknowledgements."""
