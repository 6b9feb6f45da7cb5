"""The real disk: executes the core's disk operations on a data directory, and reads message bodies back."""
