"""The deterministic core: streams, consumers, retention, storage formats and the node that joins them.

Nothing in this package touches a clock, a file, a socket, a thread or a source of randomness. Whatever it needs from
outside arrives as an input; whatever it wants done leaves as an effect.
"""
