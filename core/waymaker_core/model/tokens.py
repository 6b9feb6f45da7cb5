"""The escape of a text in a subject: any text becomes one token, and no two texts become the same one.

Names of objects, fields and buckets become parts of subjects here and nowhere else. The escape never normalises a text.

Each character that a token cannot hold, and the percent sign, becomes the bytes of its UTF-8 as `%XX` with capital digits;
every other character stays. The empty text becomes a lone `%`, which is no other text's token. Three things follow:

- The escape is injective, and a text has one token: `unescape` refuses every other form.
- It works character by character, and no character's form begins another's. So `name` begins with `prefix` exactly where
  the token of the name begins with `escape_prefix(prefix)`: a search for a plain prefix of names is one of subjects.
- Tokens without escapes are in the order of their texts. An escaped character stands where a percent sign would, so a list
  in the order of subjects has to be sorted again before it is in the order of names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import invalid

EMPTY: Final = "%"
"""The token of the empty text: a percent sign without digits, which no character becomes."""

_UNSAFE = re.compile(r"[\s\x00-\x1f\x7f-\x9f.*>%]")
_ESCAPES = re.compile(r"(?:%[0-9A-F]{2})+")


class NotAToken(ValueError):
    """A text that `escape` never returns."""


def escape(text: str) -> str:
    """Return the token of a text that can be written in UTF-8."""
    return _UNSAFE.sub(_escaped, text) if text else EMPTY


def escape_prefix(prefix: str) -> str:
    """Return the beginning that the tokens of all texts with a prefix share, and no others."""
    return _UNSAFE.sub(_escaped, prefix)


def unescape(token: str) -> str:
    """Return the text of a token. NotAToken where `escape` would have written the text in another way, or never."""
    if token == EMPTY:
        return ""
    try:
        token.encode()  # what is no UTF-8 is no token either
        text = _ESCAPES.sub(_unescaped, token)
        if escape(text) == token:
            return text
    except UnicodeError:
        pass
    raise NotAToken(
        f"{token[:80]!r} is not an escaped token: only white space, control characters and . * > % are escaped, "
        "as %XX with capital digits, and the empty text is a lone %"
    )


def escaped_subject(head: str, texts: Sequence[str], what: str, limits: Limits) -> str:
    """Return a subject: the literal tokens of `head`, then one token for each text.

    Refuses (INVALID_ARGUMENT) what is no UTF-8 or longer than a subject. `what` names the texts to the caller: "an object's
    name". Costs what the subject's bound costs, however long a text is.
    """
    bound = limits.subject_bytes_max
    if sum(map(len, texts)) > bound:
        raise invalid(f"{what} is too long: its subject has more than the {bound:,} bytes that are allowed")
    try:
        subject = ".".join([head, *map(escape, texts)])
        length = len(subject.encode())
    except UnicodeEncodeError:
        raise invalid(f"{what} holds half of a surrogate pair, which cannot be written in UTF-8") from None
    if length > bound:
        raise invalid(
            f"{what} takes {length:,} bytes as the subject {subject[:40]!r}...; at most {bound:,} are allowed, "
            "and each byte that has to be escaped counts as three"
        )
    return subject


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


def _unescaped(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("%", "")).decode()
