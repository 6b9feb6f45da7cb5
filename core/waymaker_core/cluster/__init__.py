"""A member of a cluster: a node, the catalog's consensus group, and the replication of its streams, as one state machine."""
