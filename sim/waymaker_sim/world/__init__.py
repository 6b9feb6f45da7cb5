"""One run: machines, clients and faults from one tape."""
