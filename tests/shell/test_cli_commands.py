"""Every command against a fake server: what it prints where, and how it ends."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from tests.shell.client_fake_server import FakeServer, run_beside, threaded_server
from waymaker.cli import exits, main
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Ran]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with threaded_server() as fake:
        yield fake


@pytest.fixture
def waymaker(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command line with nothing of the surroundings; a str or bytes `input` is standard input.

    It runs on the fake server's loop: gRPC now and then forgets a process of two loops.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(asyncio, "run", run_beside)

    def run(*arguments: str, input: str | bytes = b"", target: str | None = None) -> Ran:  # noqa: A002
        environment = {"WAYMAKER_SERVER": target or server.target, "WAYMAKER_TOKEN": None, "WAYMAKER_CA": None}
        with CliRunner().isolation(input=input, env=environment) as (out, err, _):
            code = main(arguments)
            return Ran(code, out.getvalue().decode(), err.getvalue().decode())

    return run


@pytest.fixture
def orders(server: FakeServer, waymaker: Command) -> FakeServer:
    """A stream with three messages and a consumer."""
    assert waymaker("stream", "add", "orders", "-s", "orders.>").code == 0
    for n in range(3):
        assert waymaker("pub", "orders", f"orders.{n}", f"payload {n}").code == 0
    assert waymaker("consumer", "add", "orders", "reader").code == 0
    return server


# ------------------------------------------------------------------------------------------ streams


def test_a_stream_is_made_with_what_was_asked(server: FakeServer, waymaker: Command) -> None:
    ran = waymaker(
        "stream", "add", "s", "--subjects", "a.>,b", "-s", "c", "--max-age", "1h30m", "--max-msgs", "1M",
        "--max-bytes", "10GiB", "--strict", "--max-msg-bytes", "64KiB", "--max-msgs-per-subject", "3",
        "--block-size", "1_000", "--ephemeral",
    )  # fmt: skip
    assert (ran.code, ran.out, ran.err) == (0, "", "stream s made\n")
    config = server.streams["s"].config
    assert list(config.subjects_filter) == ["a.>", "b", "c"]
    limits = config.retention.limits
    assert (limits.max_age_ms, limits.max_msgs, limits.max_bytes) == (5_400_000, 10**6, 10 << 30)
    assert limits.strict_limits
    assert (config.max_msg_bytes, config.max_msgs_per_subject, config.block_size) == (65_536, 3, 1_000)
    assert config.ephemeral


def test_making_a_stream_again_says_so(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker("stream", "add", "orders")
    assert ran.code == exits.REFUSED
    assert ran.out == ""
    assert "already_exists" in ran.err
    assert "next: waymaker stream info orders" in ran.err


def test_retention_words_reach_the_server(server: FakeServer, waymaker: Command) -> None:
    assert waymaker("stream", "add", "w", "--retention", "work-queue", "--json").json[0]["retention"] == "work-queue"
    assert waymaker("stream", "add", "i", "--retention", "interest", "--json").json[0]["retention"] == "interest"
    ran = waymaker("stream", "add", "x", "--retention", "interest", "--max-msgs", "5")
    assert ran.code == exits.USAGE
    assert "LIMITS" in ran.err


def test_streams_are_listed_one_a_line(orders: FakeServer, waymaker: Command) -> None:
    for name in "bcdef":
        waymaker("stream", "add", name)
    assert waymaker("stream", "ls").out.splitlines() == ["b", "c", "d", "e", "f", "orders"]
    assert waymaker("stream", "ls", "--json").json[5] == {"name": "orders"}
    long = waymaker("stream", "ls", "-l").out.splitlines()
    assert long[5].split("\t") == ["orders", "3", "30", "3", "limits", "orders.>"]
    assert waymaker("stream", "ls", "-l", "--json").json[5]["messages"] == 3


def test_info_of_a_stream_in_both_forms(orders: FakeServer, waymaker: Command) -> None:
    plain = waymaker("stream", "info", "orders").out
    assert "max_age_ms            unbounded" in plain
    assert "messages              3" in plain
    info = waymaker("stream", "info", "orders", "--json").json[0]
    assert (info["name"], info["subjects"], info["messages"], info["max_msgs"]) == ("orders", ["orders.>"], 3, 0)


def test_a_missing_stream_has_its_exit_code_and_its_hint(waymaker: Command) -> None:
    ran = waymaker("stream", "info", "nowhere")
    assert ran.code == exits.NOT_FOUND
    assert ran.out == ""
    assert ran.err == (
        "error: no such stream (no_such_stream)\n  next: waymaker stream ls, or waymaker stream add nowhere\n"
    )
    ran = waymaker("stream", "info", "nowhere", "--json")
    told = json.loads(ran.err)["error"]
    assert (ran.code, told["code"], told["outcome"]) == (exits.NOT_FOUND, "no_such_stream", "not-applied")


def max_msgs_of(server: FakeServer) -> int:
    return server.streams["orders"].config.retention.limits.max_msgs


def test_an_edit_says_what_it_would_remove_and_wants_a_yes(orders: FakeServer, waymaker: Command) -> None:
    refused = waymaker("stream", "edit", "orders", "--max-msgs", "1")
    assert refused.code == exits.USAGE
    assert "max_msgs: unbounded -> 1" in refused.err
    assert "2 message(s) will be removed" in refused.err
    assert "repeat it with --yes" in refused.err
    assert max_msgs_of(orders) == 0
    dry = waymaker("stream", "edit", "orders", "--max-msgs", "1", "--dry-run", "--json").json[0]
    assert (dry["dry_run"], dry["pruned"]) == (True, 2)
    assert max_msgs_of(orders) == 0
    done = waymaker("stream", "edit", "orders", "--max-msgs", "1", "--yes")
    assert done.code == 0
    assert "2 message(s) removed" in done.err
    assert max_msgs_of(orders) == 1


def test_an_edit_that_removes_nothing_does_not_ask(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker("stream", "edit", "orders", "--max-msgs", "100", "--json")
    assert ran.code == 0
    assert ran.json[0]["pruned"] == 0


def test_an_edit_of_nothing_is_a_mistake(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker("stream", "edit", "orders")
    assert ran.code == exits.USAGE
    assert "nothing to change" in ran.err


def test_removing_a_stream_wants_a_yes(orders: FakeServer, waymaker: Command) -> None:
    refused = waymaker("stream", "rm", "orders")
    assert refused.code == exits.USAGE
    assert "3 message(s)" in refused.err
    assert "orders" in orders.streams
    assert waymaker("stream", "rm", "orders", "-y").code == 0
    assert "orders" not in orders.streams
    assert waymaker("stream", "rm", "orders", "-y").code == exits.NOT_FOUND


# ---------------------------------------------------------------------------------------- consumers


def test_a_consumer_is_made_with_what_was_asked(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker(
        "consumer", "add", "orders", "c", "--filter", "orders.1", "--start-seq", "2", "--ack-wait", "5s",
        "--max-deliver", "7", "--group", "g", "--dead-letter", "orders.dead",
    )  # fmt: skip
    assert ran.code == 0
    config = orders.streams["orders"].consumers["c"].config
    assert (config.filter_subject, config.deliver_group, config.dead_letter_subject) == ("orders.1", "g", "orders.dead")
    assert (config.ack_wait_ms, config.max_deliver) == (5_000, 7)
    assert (config.delivery_policy.type, config.delivery_policy.start_seq) == (pb.DELIVERY_BY_START_SEQ, 2)
    waymaker("consumer", "add", "orders", "t", "--start-time", "1970-01-01T00:00:05+00:00")
    assert orders.streams["orders"].consumers["t"].config.delivery_policy.start_time_ms == 5_000
    waymaker("consumer", "add", "orders", "l", "--deliver", "last")
    assert orders.streams["orders"].consumers["l"].config.delivery_policy.type == pb.DELIVERY_LAST
    ran = waymaker("consumer", "add", "orders", "x", "--start-seq", "2", "--start-time", "5")
    assert ran.code == exits.USAGE


def test_consumers_are_listed_shown_and_removed(orders: FakeServer, waymaker: Command) -> None:
    assert waymaker("consumer", "ls", "orders").out.split("\t")[0] == "reader"
    assert waymaker("consumer", "info", "orders", "reader", "--json").json[0]["name"] == "reader"
    assert "reader" in waymaker("consumer", "info", "orders", "reader").out
    assert waymaker("consumer", "rm", "orders", "reader").code == 0
    ran = waymaker("consumer", "rm", "orders", "reader")
    assert ran.code == exits.NOT_FOUND
    assert "waymaker consumer ls orders" in ran.err


# -------------------------------------------------------------------------------------------- publish


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


# -------------------------------------------------------------------------------------------- receive


def acked(server: FakeServer, consumer: str = "reader") -> list[tuple[int, int]]:
    return server.streams["orders"].consumers[consumer].acked


def test_sub_prints_and_then_acknowledges(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker("sub", "orders", "reader", "--stop-when-empty")
    assert ran.out == "1\torders.0\tpayload 0\n2\torders.1\tpayload 1\n3\torders.2\tpayload 2\n"
    assert (ran.code, ran.err) == (0, "")
    assert acked(orders) == [(pl.ACK, 1), (pl.ACK, 2), (pl.ACK, 3)]


def test_sub_can_stop_after_some_and_leaves_the_others_untouched(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker("sub", "orders", "reader", "-n", "2", "--raw")
    assert ran.out == "payload 0\npayload 1\n"
    assert acked(orders) == [(pl.ACK, 1), (pl.ACK, 2)]
    assert waymaker("sub", "orders", "reader", "-e", "--raw").out == "payload 2\n"
    assert orders.streams["orders"].consumers["reader"].counts == {1: 1, 2: 1, 3: 1}


def test_sub_without_acknowledging(orders: FakeServer, waymaker: Command) -> None:
    assert waymaker("sub", "orders", "reader", "-e", "--no-ack", "--raw").out.count("\n") == 3
    assert acked(orders) == []


def test_sub_without_a_consumer_uses_a_temporary_one(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker("sub", "orders", "--stop-when-empty", "--raw", "--filter", "orders.>", "--start-seq", "2")
    assert ran.out.count("\n") == 3
    assert list(orders.streams["orders"].consumers) == ["reader"]
    made = [
        pb.CreateConsumerRequest.FromString(call.request)
        for frame in orders.frames for call in frame.calls if call.method == "CreateConsumer"
    ]  # fmt: skip
    assert made[-1].config.filter_subject == "orders.>"
    assert made[-1].config.delivery_policy.start_seq == 2
    assert waymaker("sub", "orders", "reader", "--filter", "x").code == exits.USAGE


def test_sub_to_a_missing_consumer(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker("sub", "orders", "nobody")
    assert ran.code == exits.NOT_FOUND
    assert "waymaker consumer ls orders" in ran.err


def test_what_a_payload_holds_cannot_break_a_line_or_a_terminal(orders: FakeServer, waymaker: Command) -> None:
    waymaker("pub", "orders", "orders.x", input=b"two\nlines \x1b[31m \xff \xc3\xa9")
    assert waymaker("sub", "orders", "reader", "-e").out.splitlines()[3] == (
        "4\torders.x\ttwo\\nlines \\x1b[31m \\xff é"
    )


def test_fetch_prints_and_acknowledges_what_is_there(orders: FakeServer, waymaker: Command) -> None:
    assert waymaker("fetch", "orders", "reader", "-n", "2").out.count("\n") == 2
    assert acked(orders) == [(pl.ACK, 1), (pl.ACK, 2)]
    assert waymaker("fetch", "orders", "reader", "--no-ack", "--json").json[0]["payload"] == "payload 2"
    assert acked(orders) == [(pl.ACK, 1), (pl.ACK, 2)]
    assert waymaker("fetch", "orders", "reader") == Ran(0, "", "")


# ---------------------------------------------------------------------------------------------- reads


def test_get_prints_the_payload_byte_for_byte(orders: FakeServer, waymaker: Command) -> None:
    assert waymaker("get", "orders", "orders.1").out == "payload 1"
    assert waymaker("get", "orders", "orders.1", "--json").json[0]["seq"] == 2
    waymaker("pub", "orders", "orders.1", "newer")
    assert waymaker("get", "orders", "orders.1").out == "newer"
    assert waymaker("get", "orders", "orders.1", "--all").out == "2\torders.1\tpayload 1\n4\torders.1\tnewer\n"
    ran = waymaker("get", "orders", "orders.nothing")
    assert (ran.code, ran.out) == (exits.NOT_FOUND, "")
    assert "waymaker subjects orders" in ran.err


def test_subjects_are_listed_by_prefix(orders: FakeServer, waymaker: Command) -> None:
    assert waymaker("subjects", "orders").out == "orders.0\norders.1\norders.2\n"
    assert waymaker("subjects", "orders", "orders.2", "--json").json == [{"subject": "orders.2"}]


def test_info_tells_of_the_server(waymaker: Command) -> None:
    info = waymaker("info", "--json").json[0]
    assert (info["version"], info["sync"]) == ("fake", "always")


# ------------------------------------------------------------------------------------------- archives


def test_a_backup_appears_whole_or_not_at_all(orders: FakeServer, waymaker: Command, tmp_path: Path) -> None:
    ran = waymaker("backup", "orders", "o.wma", "--json")
    assert ran.code == 0
    assert ran.json[0]["messages"] == 2
    assert (tmp_path / "o.wma").read_bytes() == b"".join(orders.archive)
    ran = waymaker("backup", "orders", "o.wma")
    assert ran.code == exits.USAGE
    assert "--force" in ran.err
    orders.archive_total = 1
    ran = waymaker("backup", "orders", "o.wma", "--force")
    assert ran.code == exits.DAMAGED
    assert (tmp_path / "o.wma").read_bytes() == b"".join(orders.archive)
    assert waymaker("backup", "nowhere", "n.wma").code == exits.NOT_FOUND
    assert [path.name for path in tmp_path.iterdir()] == ["o.wma"]


def test_a_backup_can_go_through_a_pipe(orders: FakeServer, waymaker: Command) -> None:
    ran = waymaker("backup", "orders", "-")
    assert ran.out == b"".join(orders.archive).decode()
    assert waymaker("restore", "-", "--name", "copy", input=ran.out).code == 0
    assert orders.restored.decode() == ran.out


def test_a_restore_never_touches_what_exists(orders: FakeServer, waymaker: Command, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    ran = waymaker("restore", "a", "--name", "orders")
    assert ran.code == exits.REFUSED
    assert "already_exists" in ran.err
    assert waymaker("restore", "a", "--json").json == [{"stream": "archived", "messages": 2, "last_seq": 2}]
    assert waymaker("restore", "not-here").code == exits.NOT_FOUND


# ----------------------------------------------------------------------------------------- everything


def test_no_server_is_said_with_what_to_do(waymaker: Command) -> None:
    ran = waymaker("stream", "ls", target="127.0.0.1:1")
    assert ran.code == exits.UNAVAILABLE
    assert "nobody listens there" in ran.err
    assert "`waymaker dev` starts one" in ran.err


def test_an_answer_that_does_not_come_may_have_happened(server: FakeServer, waymaker: Command) -> None:
    server.on_frame = lambda _, frame: bool(frame.calls)
    ran = waymaker("stream", "add", "s", "--timeout", "0.2")
    assert ran.code == exits.UNKNOWN
    assert "outcome: unknown" in ran.err
    assert "look first" in ran.err


def test_a_wrong_token_has_its_exit_code(server: FakeServer, waymaker: Command) -> None:
    import grpc

    server.refuse_sessions = grpc.StatusCode.UNAUTHENTICATED
    ran = waymaker("stream", "ls", "--token", "wrong")
    assert ran.code == exits.FORBIDDEN
    assert "WAYMAKER_TOKEN" in ran.err
    ran = waymaker("stream", "ls", "--token", "t", target="example.org:1")
    assert ran.code == exits.USAGE
    assert "in the clear" in ran.err


def test_a_certificate_file_that_is_not_there_is_named(waymaker: Command) -> None:
    ran = waymaker("stream", "ls", "--ca", "no-such.pem")
    assert ran.code == exits.USAGE
    assert "no-such.pem" in ran.err


def test_a_bug_is_said_to_be_one_with_its_traceback(waymaker: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("waymaker.cli.output.record", broken)
    ran = waymaker("version")
    assert ran.code == exits.FAILED
    assert "unexpected ZeroDivisionError: by zero" in ran.err
    assert "please report it" in ran.err
    assert "Traceback" in ran.err


def test_a_command_that_does_not_exist_is_corrected(waymaker: Command) -> None:
    ran = waymaker("straem", "ls")
    assert ran.code == exits.USAGE
    assert "Did you mean 'stream'?" in ran.err


def test_a_wrong_option_with_json_is_json(waymaker: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["waymaker", "stream", "ls", "--json", "--nonsense"])
    ran = waymaker("stream", "ls", "--json", "--nonsense")
    assert ran.code == exits.USAGE
    assert json.loads(ran.err)["error"]["code"] == "usage"


@pytest.mark.parametrize("command", [["--help"], ["stream", "--help"], ["serve", "--help"], ["pub", "-h"], []])
def test_help_is_there(waymaker: Command, command: list[str]) -> None:
    ran = waymaker(*command)
    assert ran.code in {exits.OK, exits.USAGE}
    assert "Usage: waymaker" in ran.out + ran.err


def test_the_root_lists_every_command_with_its_help(waymaker: Command) -> None:
    out = waymaker("--help").out
    first = "dev serve stream consumer pub sub fetch get subjects watch check backup restore sim version completion"
    for name in first.split(" "):
        assert f"\n  {name} " in out, name


def test_versions_and_completions(waymaker: Command) -> None:
    from importlib.metadata import version

    assert waymaker("version", "--json").json[0]["waymaker"] == version("waymaker-streams")
    assert waymaker("--version").out == f"waymaker {version('waymaker-streams')}\n"
    for shell in ("bash", "zsh", "fish"):
        assert "_WAYMAKER_COMPLETE" in waymaker("completion", shell).out


def test_a_token_is_made_with_the_line_that_lets_it_in(waymaker: Command, tmp_path: Path) -> None:
    from waymaker.server.tokens import Tokens

    made = waymaker("token", "ci", "--json").json[0]
    (tmp_path / "tokens").write_text(f"{made['line']}\n")
    assert len(Tokens.load(tmp_path / "tokens")) == 1
    assert waymaker("token", "two words").code == exits.USAGE


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--listen", "nowhere"), "listen"),
        (("--limit", "no_such_limit=1"), "no_such_limit"),
        (("--sync", "never"), "sync"),
        (("--config", "not-here.toml"), "not-here.toml"),
        (("--listen", "0.0.0.0:0"), "--insecure-listen-anywhere"),
    ],
)
def test_a_bad_setting_is_refused_by_name(waymaker: Command, arguments: tuple[str, ...], problem: str) -> None:
    ran = waymaker("serve", "--data-dir", "d", *arguments, target="")
    assert ran.code == exits.USAGE
    assert problem in ran.err


def test_every_exit_code_is_documented() -> None:
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert codes == set(exits.MEANINGS)
    documented = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for code, meaning in exits.MEANINGS.items():
        assert f"| {code} | {meaning} |" in documented


def test_the_command_line_starts_without_what_it_does_not_need() -> None:
    code = (
        "import sys; from waymaker.cli import main; main(['version']); "
        "heavy = {'grpc', 'rich', 'google.protobuf', 'asyncio', 'structlog', 'uvicorn', 'waymaker_core'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_variable_that_nearly_is_one_is_named_and_another_program_s_are_left_alone(
    orders: FakeServer, waymaker: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WAYMAKER_PORT", "WAYMAKER_SERVER_SERVICE_HOST", "WAYMAKER_TOKENS", "WAYMAKER_WHATEVER"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:7411")
    assert waymaker("stream", "ls").err == ""
    monkeypatch.setenv("WAYMAKER_SEVER", "x:1")
    assert "WAYMAKER_SEVER is not known and ignored; did you mean WAYMAKER_SERVER?" in waymaker("stream", "ls").err
