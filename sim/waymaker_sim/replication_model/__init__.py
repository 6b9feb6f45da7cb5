"""The replication protocol as an executable model: small enough to try a billion schedules, exact enough to find a lost record.

Nothing of the node is in here. The model states the rules that the node's replication has to follow, a schedule draws faults,
and the committed log holds what was promised to clients against what the replicas have.
"""
