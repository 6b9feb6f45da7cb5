"""The start of a node: replicas made from what recovery finds in its directory."""
