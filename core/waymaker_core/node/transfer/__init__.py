"""Moving a stream to another replica: what it needs of the journal, and whole streams as snapshots."""
