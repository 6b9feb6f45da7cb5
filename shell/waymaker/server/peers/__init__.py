"""The members of a cluster to each other: frames, the hello of a connection, the connections, and what is known of peers."""
