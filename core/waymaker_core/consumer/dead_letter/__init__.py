"""The end of messages whose attempts are exhausted: dropped, with a dead letter where one is wanted."""
