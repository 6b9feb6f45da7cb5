"""Exit codes, written down once. Scripts rely on them: a number never changes its meaning."""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1
"""Anything that has no number of its own."""
USAGE: Final = 2
"""The command line or a configuration is wrong; nothing was tried."""
STOPPED: Final = 3
"""`serve`: the server stopped by itself, because it could not promise durability any more."""
NOT_FOUND: Final = 4
"""The stream, the consumer, the message or the file does not exist."""
REFUSED: Final = 5
"""The server refused: taken name, impossible settings, subject not accepted, message too large, wrong revision."""
UNAVAILABLE: Final = 6
"""The server cannot be reached, or did not answer in time; nothing was changed."""
FORBIDDEN: Final = 7
"""The token is missing, wrong, or not enough."""
DAMAGED: Final = 8
"""Stored data or an archive is damaged."""
LIMIT: Final = 9
"""A limit of the server: of size, of number, or of its disk."""
UNKNOWN: Final = 10
"""A change may or may not have happened."""
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
TERMINATED: Final = 143

MEANINGS: Final = {
    OK: "Done.",
    FAILED: "Failed, for a reason without a number of its own.",
    USAGE: "The command line or a configuration is wrong; nothing was tried.",
    STOPPED: "`serve`, `dev`: the server stopped by itself, because it could not promise durability any more.",
    NOT_FOUND: "The stream, the consumer, the message or the file does not exist.",
    REFUSED: "The server refused: taken name, impossible settings, subject not accepted, message too large, wrong revision.",
    UNAVAILABLE: "The server cannot be reached, or did not answer in time; nothing was changed.",
    FORBIDDEN: "The token is missing, wrong, or not enough.",
    DAMAGED: "Stored data or an archive is damaged.",
    LIMIT: "A limit of the server: of size, of number, or of its disk.",
    UNKNOWN: "A change may or may not have happened: look before repeating it.",
    INTERRUPTED: "Ctrl-C.",
    BROKEN_PIPE: "The reader of the output went away.",
    TERMINATED: "SIGTERM.",
}
"""Every code, for the documentation."""
