"""Input of commands: lines of a stream, and the messages that they are."""
