"""Bearer tokens: who may call, without keeping anything that would let a reader of the file call too.

A token is 256 random bits that this module draws, so one SHA-256 is a sufficient hash of it: there is nothing to guess, and
a slow hash would only be a cost on every call. The file holds one line a token, `NAME sha256:HEX`, and comments after `#`.
A token chosen by a person has no place here; it could not be told from a drawn one, so the file never takes plain text.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from waymaker_core.model.types import Principal

TOKEN_PREFIX: Final = "wmk_"
_HASH_PREFIX: Final = "sha256:"
_TOKEN_BYTES_MAX: Final = 512
_SCHEME: Final = "bearer "


class TokensError(Exception):
    """A token file that cannot be used; the message names the file and the line."""


def new_token(name: str) -> tuple[str, str]:
    """Return a fresh token, to be given to its user alone, and the line that admits it."""
    if not name or any(c.isspace() or c == "#" or not c.isprintable() for c in name):
        raise ValueError(f"a token's name is printable and has no white space and no #: {name!r}")
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    return token, f"{name} {_HASH_PREFIX}{_digest(token).hex()}"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Tokens:
    """The tokens of one file."""

    def __init__(self, principals: dict[bytes, Principal]) -> None:
        self._principals = principals

    def __len__(self) -> int:
        return len(self._principals)

    @classmethod
    def load(cls, path: Path) -> Tokens:
        """Read a token file. Raises `TokensError`; an empty file is an error too, for it admits no caller."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise TokensError(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise TokensError(f"{path} is not text in UTF-8") from None
        principals: dict[bytes, Principal] = {}
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            digest = _read_hash(words[1]) if len(words) == 2 else None
            if digest is None:
                raise TokensError(f"{path}, line {number}: expected NAME {_HASH_PREFIX}HEX")
            if digest in principals:
                raise TokensError(f"{path}, line {number}: the token of {principals[digest].name!r} again")
            principals[digest] = Principal("", words[0])
        if not principals:
            raise TokensError(f"{path} has no tokens, so nobody could call")
        return cls(principals)

    def principal(self, metadata: Iterable[tuple[str, str | bytes]]) -> Principal | None:
        """Return the principal that calls with this metadata, or None. Exactly one authorization header is believed."""
        given = [value for key, value in metadata if key == "authorization"]
        if len(given) != 1 or not isinstance(given[0], str):
            return None
        text = given[0]
        if text[: len(_SCHEME)].lower() != _SCHEME or len(text) > _TOKEN_BYTES_MAX:
            return None
        digest = _digest(text[len(_SCHEME) :].strip())
        found: Principal | None = None
        for known, principal in self._principals.items():  # all of them, so that time tells nothing
            if hmac.compare_digest(known, digest):
                found = principal
        return found


def _read_hash(word: str) -> bytes | None:
    text = word.removeprefix(_HASH_PREFIX)
    if text == word or len(text) != 64:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def main(arguments: list[str]) -> int:
    """Run `python -m waymaker.server.auth.tokens NAME`: print the token, then the line for the file."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m waymaker.server.auth.tokens NAME\n")
        return 2
    try:
        token, line = new_token(arguments[0])
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{token}\n{line}\n")
    sys.stderr.write(
        "The first line is for the client, and is not stored anywhere. The second is for the token file.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
