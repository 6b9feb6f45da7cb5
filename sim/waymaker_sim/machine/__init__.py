"""A machine of a world: a process around a node, its disk, its faults and its pace."""
