"""Dispatch of messages to members, and the records of it in the log."""
