"""Keys of a key-value bucket: what may be one, which keys a watch selects, and the subject of each.

A key is tokens of letters, digits and `- / _ =`, joined by dots. Such tokens are tokens of a subject as they are, so a key is
never escaped and a pattern of keys is a pattern of subjects. The bucket's name comes first, escaped into one token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import INVALID_KEY, CodeError, invalid
from waymaker_core.model.tokens import escape

_TOKEN = r"[-/_=A-Za-z0-9]+"
_KEY = re.compile(rf"{_TOKEN}(?:\.{_TOKEN})*")
_PATTERN = re.compile(rf"(?:(?:{_TOKEN}|\*)\.)*(?:{_TOKEN}|\*|>)")
_RULE = "a key is letters, digits and - / _ = in tokens joined by single dots"


def key_fault(bucket: str, key: str, limits: Limits) -> str:
    """Return why a text cannot be a key of a bucket, in a sentence for its author; empty where it can be one."""
    return _fault(_KEY, bucket, key, _RULE, limits)


def are_keys(bucket: str, keys: Sequence[str], limits: Limits) -> bool:
    """Return True if all these texts can be keys of a bucket for certain; where it is False, `key_fault` judges each."""
    is_short = max(map(len, keys)) + 12 * len(bucket) + 2 <= limits.subject_bytes_max
    return is_short and all(map(_KEY.fullmatch, keys))


def pattern_fault(bucket: str, pattern: str, limits: Limits) -> str:
    """Return why a text cannot select keys of a bucket; empty where it can. Every key can, and so can the empty text."""
    if not pattern:
        return ""
    rule = f"{_RULE}; in a pattern the token * stands for one token and a final > for one or more"
    return _fault(_PATTERN, bucket, pattern, rule, limits)


def check_key(bucket: str, key: str, limits: Limits) -> None:
    """Refuse (`invalid_key`) to write a key that cannot be one."""
    fault = key_fault(bucket, key, limits)
    if fault:
        raise CodeError(INVALID_KEY, fault)


def check_key_to_read(bucket: str, key: str, limits: Limits) -> None:
    """Refuse (INVALID_ARGUMENT) to read a key that cannot be one."""
    fault = key_fault(bucket, key, limits)
    if fault:
        raise invalid(fault)


def subject_head(bucket: str) -> str:
    """Return the beginning of the subjects of a bucket's keys."""
    return f"{escape(bucket)}."


def key_subject(bucket: str, key: str) -> str:
    """Return the subject of a valid key."""
    return f"{escape(bucket)}.{key}"


def keys_pattern(bucket: str, pattern: str) -> str:
    """Return the pattern of the subjects that a valid pattern of keys selects; the empty one selects the whole bucket."""
    return f"{escape(bucket)}.{pattern or '>'}"


def key_of(bucket: str, subject: str) -> str:
    """Return the key of a subject that `key_subject` made for the same bucket."""
    head = subject_head(bucket)
    assert subject.startswith(head), subject
    return subject[len(head) :]


def _fault(form: re.Pattern[str], bucket: str, text: str, rule: str, limits: Limits) -> str:
    # A character of a bucket's name takes at most twelve in its token, so most keys are short enough without a look at it.
    if len(text) + 12 * len(bucket) + 2 > limits.subject_bytes_max:
        bound = limits.subject_bytes_max - len(escape(bucket).encode()) - 1
        if len(text) > bound:
            return f"the key has {len(text):,} characters; in this bucket at most {bound:,} are allowed"
    if form.fullmatch(text) is None:
        return f"{text[:80]!r} cannot be a key: {rule}" if text else f"the key is empty: {rule}"
    return ""
