"""The connection: one session of the pipeline, the work that waits for it, and the reasons why it cannot be had."""
