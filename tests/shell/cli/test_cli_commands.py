"""Every command against a fake server: what it prints where, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import cli_kit
from tests.kit.cli_kit import Command, Ran
from tests.kit.client_fake_server import FakeServer
from waymaker.cli import exits
from waymaker_proto import pipeline_pb2 as pl
from waymaker_proto import waymaker_streams_pb2 as pb

server, waymaker, orders = cli_kit.server, cli_kit.waymaker, cli_kit.orders


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
    assert "max_age_ms            unlimited" in plain
    assert "messages              3" in plain
    info = waymaker("stream", "info", "orders", "--json").json[0]
    assert (info["name"], info["subjects"], info["messages"], info["max_msgs"]) == ("orders", ["orders.>"], 3, 0)


def test_info_says_in_capitals_where_an_interest_stream_keeps_nothing(waymaker: Command) -> None:
    assert waymaker("stream", "add", "i", "--retention", "interest").code == 0
    assert "KEEPS NOTHING" in waymaker("stream", "info", "i").err
    assert waymaker("consumer", "add", "i", "c").code == 0
    assert "KEEPS NOTHING" not in waymaker("stream", "info", "i").err


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
    assert "max_msgs: unlimited -> 1" in refused.err
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


def test_looking_at_a_work_queue_takes_nothing_out(server: FakeServer, waymaker: Command) -> None:
    assert waymaker("stream", "add", "jobs", "--retention", "work-queue").code == 0
    assert waymaker("pub", "jobs", "a", "work").code == 0
    ran = waymaker("sub", "jobs", "--stop-when-empty")
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert "next: waymaker sub jobs CONSUMER consumes" in ran.err
    assert "waymaker get jobs SUBJECT --all only looks" in ran.err
    assert server.streams["jobs"].consumers == {}
    looks = (("get", "jobs", "a"), ("get", "jobs", "a", "--all"), ("subjects", "jobs"), ("stream", "info", "jobs"),
             ("consumer", "ls", "jobs"), ("stream", "edit", "jobs", "--max-msg-bytes", "9", "--dry-run"),
             ("backup", "jobs", "-"))  # fmt: skip
    for look in looks:
        assert waymaker(*look).code == 0, look
    assert waymaker("consumer", "add", "jobs", "worker").code == 0
    assert waymaker("sub", "jobs", "worker", "--stop-when-empty").out == "1\ta\twork\n"


@pytest.mark.parametrize(
    ("arguments", "stored"),
    [((), 0), (("--max-deliver", "7"), 7), (("--max-deliver", "unlimited"), (1 << 32) - 1),
     (("--max-deliver", "0"), "write 'unlimited'"), (("--max-deliver", "-1"), "write unlimited for none"),
     (("--max-deliver", "many"), "or unlimited"), (("--ack-wait", "0"), "leave it out for the server's default"),
     (("--deliver", "last", "--start-seq", "5"), "excludes")],
)  # fmt: skip
def test_a_number_of_deliveries_is_what_was_said(
    orders: FakeServer, waymaker: Command, arguments: tuple[str, ...], stored: int | str
) -> None:
    ran = waymaker("consumer", "add", "orders", "c", *arguments)
    if isinstance(stored, str):
        assert ran.code == exits.USAGE
        assert stored in ran.err
        assert "c" not in orders.streams["orders"].consumers
    else:
        assert waymaker("consumer", "info", "orders", "c", "--json").json[0]["max_deliver"] == stored
        shown = waymaker("consumer", "info", "orders", "c").out
        assert ("unlimited" in shown) == (stored > 7)


def test_bounds_are_lifted_with_the_same_word(server: FakeServer, waymaker: Command) -> None:
    assert waymaker("stream", "add", "s", "--max-msgs", "5", "--max-age", "unlimited").code == 0
    assert waymaker("stream", "edit", "s", "--max-msgs", "unlimited").code == 0
    info = waymaker("stream", "info", "s", "--json").json[0]
    assert (info["max_msgs"], info["max_age_ms"]) == (0, 0)
    assert "max_msgs              unlimited" in waymaker("stream", "info", "s").out
    ran = waymaker("stream", "edit", "s", "--max-bytes", "-1")
    assert (ran.code, "write unlimited for none" in ran.err) == (exits.USAGE, True)


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


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "orders", "orders.1", "--limit", "3"),
        ("get", "orders", "orders.1", "--from-seq", "3"),
        ("sub", "orders", "reader", "-e", "--json", "--raw"),
        ("fetch", "orders", "reader", "--json", "--raw"),
        ("sub", "orders", "reader", "-e", "--filter", "a"),
        ("pub", "orders", "--envelope", "--time", "2h"),
    ],
)
def test_an_option_without_effect_is_a_mistake(
    orders: FakeServer, waymaker: Command, arguments: tuple[str, ...]
) -> None:
    ran = waymaker(*arguments)
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert acked(orders) == []


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
    assert "next: waymaker restore a --name ANOTHER" in ran.err
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
    from waymaker.server.auth.tokens import Tokens

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
    documented = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
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
