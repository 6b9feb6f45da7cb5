"""The operators' HTTP side of the server: probes and metrics."""
