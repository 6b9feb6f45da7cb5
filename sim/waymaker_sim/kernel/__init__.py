"""The ground of the simulator: virtual time, the tape of draws, digests, checks, marks."""
