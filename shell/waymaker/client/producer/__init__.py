"""Publishing: messages packed into batches, many at a time, and the outcome of each."""
