"""Blocks of a stream: columns of their messages, and which subjects occur where."""
