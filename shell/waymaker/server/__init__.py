"""The server: one node behind gRPC, with its configuration, its credentials, its metrics and its way to stop.

The shell decides nothing. It turns calls into the core's requests, the core's effects into answers and disk jobs, and
keeps what clients can make it hold within bounds.
"""
