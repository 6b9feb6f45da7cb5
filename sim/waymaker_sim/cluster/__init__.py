"""Several machines and the network between them, in one simulated world."""
