"""`waymaker pub` against a fake server: what is stored, what is said of the rest, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kit import cli_kit
from tests.kit.cli_kit import Command
from tests.kit.client_fake_server import FakeServer
from waymaker.cli import exits

server, waymaker, orders = cli_kit.server, cli_kit.waymaker, cli_kit.orders


def test_pub_prints_the_sequence_alone(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker("pub", "orders", "orders.x", "hello", "-H", "a: b", "-H", "c:d", "--time", "99")
    assert (ran.code, ran.out, ran.err) == (0, "4\n", "")
    assert orders.streams["orders"].messages[3] == ("orders.x", [("a", "b"), ("c", "d")], b"hello", 99)
    assert waymaker("pub", "orders", "orders.x", "hello", "--json").json == [{"stream": "orders", "seq": 5}]


def test_pub_reads_one_message_from_standard_input_or_a_file(
    orders: FakeServer, waymaker: Command, tmp_path: Path
) -> None:
    body = bytes(range(256)) * 1_000
    assert waymaker("pub", "orders", "orders.bin", input=body).out == "4\n"
    (tmp_path / "body").write_bytes(body)
    assert waymaker("pub", "orders", "orders.bin", "--file", "body").out == "5\n"
    assert [m[2] for m in orders.streams["orders"].messages[3:]] == [body, body]


def test_pub_reads_lines(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker("pub", "orders", "orders.l", "--lines", input=b"one\ntwo\r\n\nlast")
    assert (ran.code, ran.out, ran.err) == (0, "7\n", "4 message(s) stored in orders\n")
    assert [m[2] for m in orders.streams["orders"].messages[3:]] == [b"one", b"two", b"", b"last"]


def test_pub_makes_subjects_from_the_fields_of_ndjson(orders: FakeServer, waymaker: Command, tmp_path: Path) -> None:
    lines = ['{"id": 7, "at": {"city": "Oslo"}}', "", '{"id": 8, "at": {"city": "Rom"}}']
    (tmp_path / "events.ndjson").write_text("\n".join(lines))
    ran = waymaker("pub", "orders", "orders.{at.city}.{id}", "--ndjson", "--file", "events.ndjson", "--json")
    assert ran.json == [{"stream": "orders", "stored": 2, "failed": 0, "last_seq": 5}]
    assert [(m[0], m[2].decode()) for m in orders.streams["orders"].messages[3:]] == [
        ("orders.Oslo.7", lines[0]), ("orders.Rom.8", lines[2]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "problem"), [("{broken", "line 2 is not JSON"), ('{"no": 1}', "line 2 has no field 'id'"), ("5", "'id'")]
)
def test_a_bad_line_is_named_and_ends_the_publishing(
    orders: FakeServer, waymaker: Command, line: str, problem: str
) -> None:
    ran = waymaker("pub", "orders", "orders.{id}", "--ndjson", input='{"id": 1}\n' + line + '\n{"id": 3}\n')
    assert ran.code == exits.REFUSED
    assert problem in ran.err
    assert len(orders.streams["orders"].messages) == 4, "what stood before the bad line was published"


def test_a_bad_line_ends_with_all_that_a_loader_needs_to_go_on(orders: FakeServer, waymaker: Command) -> None:
    subjects = ["orders.a", "bad", "bad", "orders.b", "bad", "orders.c"]
    lines = [f'{{"subject": "{subject}"}}' for subject in subjects]
    text = "\n".join(["", lines[0], "", *lines[1:], "", "{broken", lines[0]]) + "\n"
    ran = waymaker("pub", "orders", "--envelope", input=text)
    assert (ran.code, ran.out) == (exits.REFUSED, "6\n")
    assert ran.err.splitlines()[:4] == [
        "3 message(s) stored in orders, the last as 6",
        "lines 4 to 5 not stored: not here (subject_rejected)",
        "line 7 not stored: not here (subject_rejected)",
        "error: line 10 is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1) (bad_line)",
    ]
    assert "--from-line 9" in ran.err
    told = waymaker("pub", "orders", "--envelope", "--json", input=text)
    summary: Any = told.json[0]
    assert (summary["stored"], summary["last_seq"], summary["next_line"]) == (3, 9, 9)
    assert [failure["line"] for failure in summary["failures"]] == [4, 5, 7]
    rest = waymaker("pub", "orders", "--envelope", "--from-line", "9", input=text.replace("{broken", lines[0]))
    assert (rest.code, rest.out) == (0, "11\n")


@pytest.mark.parametrize("line", ["5", "[[" * 3_000, '{"subject": 5}', '{"subject": "orders.a", "payload": {"a": 1}}',
                                  '{"subject": "orders.a", "headers": 5}', '{"subject": "orders.a", "headers": [["k"]]}',
                                  '{"subject": "orders.a", "headers": {"k": 1}}', '{"subject": "orders.a", "ts_ms": "x"}',
                                  '{"subject": "orders.a", "payload_base64": 5}'])  # fmt: skip
def test_envelopes_that_are_none_are_bad_lines(orders: FakeServer, waymaker: Command, line: str) -> None:
    ran = waymaker("pub", "orders", "--envelope", input=line + "\n")
    assert ran.code == exits.REFUSED
    assert "error: line 1 " in ran.err
    assert "--from-line 1 " in ran.err


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        ({"a": "{b}", "b": "x"}, "orders.{b}-x"),
        ({"a": "{a}", "b": "{a}"}, "orders.{a}-{a}"),
        ({"a": "new.b", "b": "x"}, None),
        ({"a": "*", "b": "x"}, None),
        ({"a": "x", "b": ">"}, None),
        ({"a": "x y", "b": "x"}, None),
        ({"a": "x", "b": "\n"}, None),
        ({"a": 1.5, "b": "x"}, None),
        ({"a": True, "b": "x"}, None),
    ],
)
def test_a_template_is_filled_in_one_pass_and_a_value_is_one_token(
    orders: FakeServer, waymaker: Command, value: dict[str, object], subject: str | None
) -> None:
    ran = waymaker("pub", "orders", "orders.{a}-{b}", "--ndjson", input=json.dumps(value))
    assert ran.code == (0 if subject else exits.REFUSED)
    assert [m[0] for m in orders.streams["orders"].messages[3:]] == ([subject] if subject else [])
    assert subject is not None or "line 1 has" in ran.err


def test_dots_make_tokens_where_that_is_asked_for(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker("pub", "orders", "orders.{a}", "--ndjson", "--dots-in-fields", input='{"a": "x.y"}\n{"a": "x.*"}')
    assert (ran.code, ran.out) == (exits.REFUSED, "4\n")
    assert orders.streams["orders"].messages[3][0] == "orders.x.y"


def test_what_sub_prints_pub_takes(orders: FakeServer, waymaker: Command) -> None:
    waymaker("pub", "orders", "orders.bin", "-H", "k: v", input=b"\xff\x00")
    printed = waymaker("sub", "orders", "reader", "--stop-when-empty", "--json")
    assert waymaker("stream", "add", "copy").code == 0
    assert waymaker("pub", "copy", "--envelope", input=printed.out).out == "4\n"
    assert orders.streams["copy"].messages == orders.streams["orders"].messages


def test_refused_messages_are_named_and_decide_the_exit_code(orders: FakeServer, waymaker: Command) -> None:
    lines = "".join(f'{{"subject": "{"bad" if n % 2 else "ok"}", "payload": "{n}"}}\n' for n in range(40))
    ran = waymaker("pub", "orders", "--envelope", input=lines)
    assert ran.code == exits.REFUSED
    assert "20 message(s) stored" in ran.err
    assert "line 2 not stored: not here (subject_rejected)" in ran.err
    assert "line 40 not stored: not here (subject_rejected)" in ran.err


def test_an_expected_sequence_that_is_wrong_is_refused(orders: FakeServer, waymaker: Command) -> None:
    assert waymaker("pub", "orders", "orders.0", "x", "--expect-seq", "1").code == 0
    ran = waymaker("pub", "orders", "orders.0", "x", "--expect-seq", "1")
    assert ran.code == exits.REFUSED
    assert "wrong_revision" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("orders",),
        ("orders", "a", "b", "--lines"),
        ("orders", "a", "b", "--file", "x"),
        ("orders", "a", "--lines", "--ndjson"),
        ("orders", "a", "--lines", "--expect-seq", "1"),
        ("orders", "a", "b", "-H", "no colon"),
        ("orders", "a", "b", "--time", "whenever"),
        ("orders", "a", "b", "--from-line", "2"),
        ("orders", "a", "--lines", "--dots-in-fields"),
        ("orders", "a", "b", "--timeout", "0"),
    ],
)
def test_contradictions_of_pub_are_mistakes_of_usage(
    orders: FakeServer, waymaker: Command, arguments: tuple[str, ...]
) -> None:
    ran = waymaker("pub", *arguments)
    assert ran.code == exits.USAGE
    assert ran.out == ""
    assert "next: waymaker pub --help" in ran.err
    assert len(orders.streams["orders"].messages) == 3


def test_a_missing_file_is_named(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker("pub", "orders", "orders.x", "--file", "not-here")
    assert (ran.code, ran.err) == (exits.NOT_FOUND, "error: not-here: no such file or directory\n")
