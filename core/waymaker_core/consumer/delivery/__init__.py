"""Dispatch of messages to members, and the records of the log that tell of it."""
