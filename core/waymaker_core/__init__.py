"""The deterministic core: streams, consumers, retention, storage formats and the node that joins them.

Nothing in this package touches a clock, a file, a socket, a thread or a source of randomness. Whatever it needs from
outside arrives as an input; whatever it wants done leaves as an effect.
"""


def is_compiled() -> bool:
    """Return True if the modules were compiled, see `docs/compiled.md`; the source is the same, so nothing decides by it."""
    from waymaker_core.model import types

    return not str(types.__file__).endswith(".py")
