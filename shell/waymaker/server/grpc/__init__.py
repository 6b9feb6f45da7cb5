"""The gRPC side of the server: the contract's calls, the pipeline's sessions, the operator's service."""
