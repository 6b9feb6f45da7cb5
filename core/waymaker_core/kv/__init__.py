"""Key-value buckets: what may be a key, which keys a pattern selects, and the subject of each key."""
