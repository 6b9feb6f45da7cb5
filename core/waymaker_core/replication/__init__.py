"""Replication of one stream's log: claims, fences, the choice of a log, appends, acknowledgments, commits and confirmations.

The protocol of docs/replication-model.md as code of the core. It knows neither files nor networks: a node keeps the log, and
peers carry messages.
"""
