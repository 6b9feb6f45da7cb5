"""Formats and recovery: the files that hold a node's state, and the way from them back to that state.

Responsible for every byte of a data directory: records, frames, the journal, the manifest, checkpoints, block files and
archives. It must never perform I/O: writers give `disk` operations, readers are generators that yield them and are sent
their results, so that a real disk and a simulated one run the very same requests.

All numbers are little-endian. Every file begins with a magic word and a format version, everything that is read back is
covered by a CRC32C, and a version that is not known is refused by name.
"""
