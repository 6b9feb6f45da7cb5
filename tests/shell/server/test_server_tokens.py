"""Bearer tokens: drawn, stored as hashes, compared without telling."""

from __future__ import annotations

from pathlib import Path

import pytest

from waymaker.server.auth.tokens import Tokens, TokensError, new_token


def tokens(tmp_path: Path, text: str) -> Tokens:
    path = tmp_path / "tokens"
    path.write_text(text)
    return Tokens.load(path)


def bearer(token: str) -> list[tuple[str, str | bytes]]:
    return [("user-agent", "x"), ("authorization", f"Bearer {token}")]


def test_a_token_lets_its_name_in_and_nobody_else(tmp_path: Path) -> None:
    (alice, line), (_, other_line) = new_token("alice"), new_token("bob")
    known = tokens(tmp_path, f"# people\n\n{line}  # laptop\n{other_line}\n")
    principal = known.principal(bearer(alice))
    assert principal is not None
    assert (principal.account, principal.name) == ("", "alice")
    assert known.principal(bearer(alice[:-1])) is None
    assert known.principal(bearer(alice + "x")) is None
    assert known.principal(bearer(new_token("alice")[0])) is None


def test_the_file_does_not_hold_what_it_takes_to_call(tmp_path: Path) -> None:
    token, line = new_token("alice")
    assert token not in line
    assert tokens(tmp_path, line).principal(bearer(line.split()[1])) is None
    assert new_token("alice")[0] != token


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic TOKEN")],
        [("authorization", b"Bearer TOKEN")],
        [("authorization", "Bearer TOKEN"), ("authorization", "Bearer TOKEN")],
        [("authorization", "Bearer TOKEN" + " " * 1000)],
    ],
)
def test_anything_but_one_plain_bearer_header_is_a_stranger(
    tmp_path: Path, metadata: list[tuple[str, str | bytes]]
) -> None:
    token, line = new_token("alice")
    known = tokens(tmp_path, line)
    given: list[tuple[str, str | bytes]] = [
        (key, value.replace("TOKEN", token) if isinstance(value, str) else value.replace(b"TOKEN", token.encode()))
        for key, value in metadata
    ]
    assert known.principal(given) is None
    assert known.principal([("authorization", f"bearer {token}")]) is not None


@pytest.mark.parametrize(
    "line",
    ["alice", "alice secret", "alice sha256:abc", "alice sha256:" + "g" * 64, "alice sha256:" + "0" * 64 + " more"],
)
def test_a_line_that_is_not_a_hash_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(TokensError, match="line 2"):
        tokens(tmp_path, f"# first\n{line}\n")


def test_a_file_that_lets_nobody_in_or_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokensError, match="nobody"):
        tokens(tmp_path, "# empty\n")
    with pytest.raises(TokensError, match="cannot be read"):
        Tokens.load(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(TokensError, match="UTF-8"):
        Tokens.load(tmp_path / "binary")


def test_one_token_under_two_names_is_refused(tmp_path: Path) -> None:
    line = new_token("alice")[1]
    with pytest.raises(TokensError, match="alice"):
        tokens(tmp_path, f"{line}\n{line.replace('alice', 'bob')}\n")


@pytest.mark.parametrize("name", ["", "a b", "a#b", "a\n", "\x07"])
def test_a_name_that_would_break_the_file_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        new_token(name)
