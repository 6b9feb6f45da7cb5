"""The core's consensus group under random schedules: faulty networks, disks and clocks, and checks of what Raft promises.

The members are the core's own; only what is around them is simulated. A rule can be left out, to show that the checks bite.
"""
