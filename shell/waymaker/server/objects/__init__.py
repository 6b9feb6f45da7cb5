"""Objects on their way between a caller and the node: cut, hashed, pipelined, and read back in windows."""
