"""Schedules of one stream's replicas: the code of the core, on simulated disks and an unreliable network."""
