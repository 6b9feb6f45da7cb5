"""Subject transforms: the subject of a copy from the subject of its original, in the manner of NATS.

A transform is a pattern that the original's subject has to match and a destination: literal tokens and functions of what
the pattern's wildcards matched. Parsing refuses every destination that could not be meant; applying never raises. What comes
out is a valid literal subject or nothing, and `fault` then says why.

As in NATS (ADR-30): wildcards count from 1. `{{name(...)}}` or `$n` stands for a whole token; the words of a name may begin
with capitals. A length that a token does not have leaves it whole. A partition is FNV-1a of 32 bits over the tokens' UTF-8,
modulo the count; without tokens it is that of the whole subject. A final `>` in both pattern and destination carries what it
matched.

Beyond NATS: a final `>`, the full wildcard, is also the last wildcard. `wildcard`, `$n` and `partition` may name it, and it
stands for its whole tail. Other than in NATS, positions count characters instead of bytes, so that no character is torn; a
position of 0 and a function inside of a token are refused instead of being without effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import INVALID_CONFIG, CodeError
from waymaker_core.model.subjects import is_pattern, subject_bytes, subject_fault

PARTITIONS_MAX: Final = (1 << 31) - 1
_FNV_OFFSET, _FNV_PRIME, _U32 = 2_166_136_261, 16_777_619, (1 << 32) - 1

Part = Callable[[list[str]], str]
"""One token or more of a destination, made from the whole subject and, behind it, what each wildcard matched."""

_CALL = re.compile(r"\{\{\s*(\w+)\s*\((.*)\)\s*\}\}")
_REFERENCE = re.compile(r"\$[+-]?[0-9]+")
_NUMBER = re.compile(r"\+?[0-9]+")
_UNSEEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f.*>]")


class Transform:
    """A parsed transform. Costs little to keep; `apply` costs the length of the subject and the destination."""

    __slots__ = ("source_pattern", "destination", "_regex", "_parts", "_limits")

    def __init__(self, source_pattern: str, destination: str, parts: list[Part], limits: Limits) -> None:
        self.source_pattern = source_pattern
        self.destination = destination
        self._parts = parts
        self._regex = re.compile(r"\.".join(map(_token_regex, source_pattern.split("."))))
        self._limits = limits

    def apply(self, subject: str) -> str | None:
        """Return the transformed subject; None where the pattern does not match or the result is no literal subject."""
        result = self._result(subject)
        return result if result is not None and subject_bytes(result, self._limits) else None

    def fault(self, subject: str) -> str:
        """Return why `apply` gives None for a subject, in a sentence for an operator; empty where it gives a subject."""
        result = self._result(subject)
        if result is None:
            return f"subject {subject[:80]!r} does not match the transform's pattern {self.source_pattern!r}"
        fault = subject_fault(result, self._limits)
        return fault and f"subject {subject[:80]!r} becomes {result[:80]!r}, which cannot be a subject: {fault}"

    def _result(self, subject: str) -> str | None:
        match = self._regex.fullmatch(subject)
        if match is None:
            return None
        matched = [subject, *match.groups()]
        return ".".join([part(matched) for part in self._parts])

    def __repr__(self) -> str:
        return f"Transform({self.source_pattern!r}, {self.destination!r})"


def parse(source_pattern: str, destination: str, limits: Limits) -> Transform:
    """Return the transform of a configuration. CodeError (`invalid_config`) says what would be right.

    An empty pattern matches every subject; an empty destination leaves subjects as they are.
    """
    pattern = source_pattern or ">"
    if not is_pattern(pattern, limits):
        raise _bad(
            f"{pattern[:80]!r} is not a subject pattern, which is tokens joined by single dots, * for one token, a final > "
            f"for one or more, no white space, at most {limits.subject_bytes_max:,} bytes"
        )
    return Transform(pattern, destination, _Parser(pattern, destination, limits).parts(), limits)


def partition_of(key: str, count: int) -> int:
    """Return the partition of a text among `count`: FNV-1a of 32 bits, as nats-server computes it; 0 among 0."""
    state = _FNV_OFFSET
    for byte in key.encode():
        state = ((state ^ byte) * _FNV_PRIME) & _U32
    return state % count if count else 0


def _token_regex(token: str) -> str:
    # A literal subject has no newline, so the dot of a final `>` covers all it can hold.
    return {"*": r"([^.]+)", ">": r"(.+)"}.get(token) or re.escape(token)


def _bad(message: str) -> CodeError:
    return CodeError(INVALID_CONFIG, f"subject transform: {message}")


# ---------------------------------------------------------------- parsing


class _Parser:
    """One destination on its way to parts: what its pattern offers, and whether the final `>` was used."""

    def __init__(self, pattern: str, destination: str, limits: Limits) -> None:
        tokens = pattern.split(".")
        self._pattern = pattern
        self._has_full_wildcard = tokens[-1] == ">"
        self._wildcards = sum(token in {"*", ">"} for token in tokens)
        self._destination = destination
        self._limits = limits
        self._full_wildcard_used = False

    def parts(self) -> list[Part]:
        """Return the parts, or refuse the destination."""
        destination = self._destination
        if not destination:
            return [_whole(0)]
        bound = self._limits.subject_bytes_max
        if len(destination.encode("utf-8", "surrogatepass")) > bound:
            raise _bad(f"the destination is longer than {bound:,} bytes")
        tokens = _tokens(destination)
        parts = [self._part(token, last=position == len(tokens) - 1) for position, token in enumerate(tokens)]
        if self._has_full_wildcard and not self._full_wildcard_used:
            raise _bad(
                f"the pattern {self._pattern!r} ends with > and the destination {destination[:80]!r} does not use what it "
                f"matches: end it with > or write {{{{wildcard({self._wildcards})}}}}"
            )
        return parts

    def _part(self, token: str, *, last: bool) -> Part:
        if token == ">":
            return self._full_wildcard(last=last)
        if token == "*":
            raise _bad("a destination has no *: write {{wildcard(1)}} for what the first * of the pattern matches")
        if "{{" in token or "}}" in token:
            return self._call(token)
        if _REFERENCE.fullmatch(token):
            return _whole(self._wildcard(token[1:], token))
        if not subject_bytes(token, self._limits):
            fault = subject_fault(token, self._limits)
            raise _bad(f"{token[:80]!r} cannot be a token of the destination {self._destination[:80]!r}: {fault}")
        return lambda matched: token

    def _full_wildcard(self, *, last: bool) -> Part:
        if not last:
            raise _bad("> can only be the last token of a destination")
        if not self._has_full_wildcard:
            raise _bad(
                f"the destination ends with > and the pattern {self._pattern!r} does not: end both with > or neither"
            )
        self._full_wildcard_used = True
        return _whole(self._wildcards)

    def _call(self, token: str) -> Part:
        call = _CALL.fullmatch(token)
        if call is None or "{{" in call[2]:
            raise _bad(
                f"{token[:80]!r} is not a function, which is a whole token: {{{{name(arguments)}}}}, without dots inside"
            )
        name = _NAMES.get(call[1], "")
        if not name:
            raise _bad(
                f"{call[1][:40]!r} is not a function; there are {', '.join(sorted(_FUNCTIONS))}, in this spelling"
            )
        arguments = re.split(r",\s*", call[2]) if call[2].strip() else []
        return self._partition(arguments, token) if name == "partition" else self._of_one(name, arguments, token)

    def _partition(self, arguments: list[str], token: str) -> Part:
        if not arguments:
            raise _bad(f"{token[:80]} needs a number of partitions: {{{{partition(10,1)}}}}")
        count = _number(arguments[0], token)
        if count > PARTITIONS_MAX:
            raise _bad(f"{token[:80]} has more than {PARTITIONS_MAX:,} partitions")
        # A token 0 is the subject's first one, whatever the pattern has there: nats-server's tests hold it to that.
        wanted = [0 if _number(text, token) == 0 else self._wildcard(text, token) for text in arguments[1:]]

        def part(matched: list[str]) -> str:
            keys = [matched[index] if index else matched[0].partition(".")[0] for index in wanted]
            return str(partition_of("".join(keys) if wanted else matched[0], count))

        return part

    def _of_one(self, name: str, arguments: list[str], token: str) -> Part:
        usage = _FUNCTIONS[name]
        if len(arguments) != usage.count(",") + 1:
            raise _bad(f"{token[:80]} has {len(arguments)} arguments; right is {{{{{usage}}}}}")
        index = self._wildcard(arguments[0], token)
        if name == "wildcard":
            return _whole(index)
        if self._has_full_wildcard and index == self._wildcards:
            raise _bad(
                f"{token[:80]} takes one token, and wildcard {index} of {self._pattern!r} is the final >, which may be "
                f"several: only wildcard and partition take it"
            )
        if name == "split":
            return _split(index, _separator(arguments[1], token))
        length = _number(arguments[1], token)
        if length == 0:
            raise _bad(f"{token[:80]}: positions and lengths count characters from 1; right is {{{{{usage}}}}}")
        cut = _CUTS[name]
        return lambda matched: cut(matched[index], length)

    def _wildcard(self, text: str, token: str) -> int:
        index = _number(text, token)
        if not 1 <= index <= self._wildcards:
            offer = f"has wildcards 1 to {self._wildcards}" if self._wildcards else "has no wildcards"
            raise _bad(f"{token[:80]} names wildcard {index}; the pattern {self._pattern!r} {offer}")
        self._full_wildcard_used |= self._has_full_wildcard and index == self._wildcards
        return index


def _tokens(destination: str) -> list[str]:
    # A dot inside of a function does not end the token, so that the error shows the whole function.
    return re.split(r"\.(?![^{]*\}\})", destination)


def _number(text: str, token: str) -> int:
    text = text.strip(" ")
    if _NUMBER.fullmatch(text) is None:
        raise _bad(f"{token[:80]}: {text[:40]!r} is not a whole number of 0 or more")
    return int(text)


def _separator(text: str, token: str) -> str:
    if not text:
        raise _bad(f"{token[:80]} needs a separator; {{{{sliceFromLeft(1,1)}}}} cuts after each character")
    if _UNSEEN.search(text):
        raise _bad(f"{token[:80]}: no token can hold the separator {text[:40]!r}, so that nothing would be split")
    return text


# ---------------------------------------------------------------- functions


def _whole(index: int) -> Part:
    return lambda matched: matched[index]


def _split(index: int, separator: str) -> Part:
    # Separators at an end or beside each other make no tokens.
    return lambda matched: ".".join(filter(None, matched[index].split(separator)))


def _split_from_left(token: str, position: int) -> str:
    return f"{token[:position]}.{token[position:]}" if position < len(token) else token


def _split_from_right(token: str, position: int) -> str:
    return _split_from_left(token, len(token) - position) if position < len(token) else token


def _slice_from_left(token: str, size: int) -> str:
    return ".".join(token[at : at + size] for at in range(0, len(token), size))


def _slice_from_right(token: str, size: int) -> str:
    first = len(token) % size
    return ".".join(filter(None, [token[:first], _slice_from_left(token[first:], size)]))


_CUTS: Final[dict[str, Callable[[str, int], str]]] = {
    "splitFromLeft": _split_from_left,
    "splitFromRight": _split_from_right,
    "sliceFromLeft": _slice_from_left,
    "sliceFromRight": _slice_from_right,
    "left": lambda token, length: token[:length],
    "right": lambda token, length: token[-length:],
}
_FUNCTIONS: Final = {
    "wildcard": "wildcard(n)",
    "partition": "partition(count,n,...)",
    "split": "split(n,separator)",
    "splitFromLeft": "splitFromLeft(n,position)",
    "splitFromRight": "splitFromRight(n,position)",
    "sliceFromLeft": "sliceFromLeft(n,size)",
    "sliceFromRight": "sliceFromRight(n,size)",
    "left": "left(n,length)",
    "right": "right(n,length)",
}
"""Each function's name and how it is called."""


def _spellings(name: str) -> list[str]:
    """Return every spelling of a function's name: each word with a small or a capital letter at its beginning."""
    spellings = [""]
    for word in re.findall(r"[A-Z]?[a-z]+", name):
        spellings = [begun + form for begun in spellings for form in (word.lower(), word.capitalize())]
    return spellings


_NAMES: Final = {spelling: name for name in _FUNCTIONS for spelling in _spellings(name)}
