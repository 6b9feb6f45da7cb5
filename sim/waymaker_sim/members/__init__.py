"""Members of one cluster in simulated worlds: real nodes that agree and replicate, on machines and links that fail."""
