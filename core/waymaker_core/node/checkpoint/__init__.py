"""Checkpoints: snapshots of what changed, relocation of messages out of the journal, and the files of both."""
