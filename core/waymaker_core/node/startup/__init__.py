"""How a node begins: recovery of its directory and replicas made from it."""
