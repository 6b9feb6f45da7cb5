"""One table and four curves: the Python client beside its bare protocol, NATS and Redis, in turn, written into a page.

Every contestant has the same few calls (`contestant`), the same work is done with them (`works`), and each takes its turn in a
process of its own (`turn`), round by round (`rounds`). `report` and `charts` make a page and pictures of what was measured.
"""
