"""The compiled core, an option: the same source through mypyc, beside the pure one, which stays the reference."""
