"""Claims: which group of a work queue may deliver which message."""
