"""The client against the real server in a process of its own: what the fake cannot vouch for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import waymaker
from tests.kit.client_fake_server import until
from tests.kit.real_server import LAUNCH, RealServer

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """One server for the tests that do not end it."""
    server = RealServer(tmp_path_factory.mktemp("shared") / "data")
    server.start()
    yield server
    server.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    own = RealServer(tmp_path / "data")
    own.start()
    yield own
    own.close()


@pytest.fixture
async def wm(shared: RealServer) -> AsyncIterator[waymaker.Client]:
    async with waymaker.connect(shared.address, timeout=20.0) as client:
        yield client
        for name in await client.list_streams():
            await client.delete_stream(name)


async def test_what_is_published_is_read_back_as_it_was(wm: waymaker.Client) -> None:
    await wm.create_stream("s", subjects_filter=("a.>",))
    payload = bytes(range(256)) * 100
    assert await wm.publish("s", "a.b", payload, headers=[("k", "1"), ("k", "2")], ts_ms=5) == 1
    latest = await wm.get("s", "a.b")
    assert latest is not None
    assert (latest.seq, latest.payload, latest.ts_ms) == (1, payload, 5)
    assert latest.header_pairs == [("k", "1"), ("k", "2")]
    assert await wm.get("s", "a.c") is None
    with pytest.raises(waymaker.SubjectRejectedError):
        await wm.publish("s", "b", b"")
    with pytest.raises(waymaker.InvalidArgumentError) as forged:
        await wm.publish("s", "a.b", headers={"waymaker-source-seq": "1"})
    assert forged.value.outcome == waymaker.NOT_APPLIED


BAD_HEADERS: dict[str, waymaker.client.values.Headers] = {
    "wmkv.op": {"wmkv.op": "1"}, "waymaker-source-x": {"waymaker-source-x": "1"}, "no-key": {"": "1"},
    "73": {f"k{n}": "" for n in range(73)}, "64KiB": {"k": "x" * (64 << 10)}, "1MiB": {"k": "x" * (1 << 20)},
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_HEADERS)
async def test_one_bad_message_fails_none_of_its_neighbours(wm: waymaker.Client, bad: str) -> None:
    await wm.create_stream(bad.replace(".", "-"))
    stream, headers = bad.replace(".", "-"), BAD_HEADERS[bad]
    outcomes = await asyncio.gather(
        wm.publish(stream, "a", b"0"),
        wm.publish(stream, "a", b"1", headers=headers),
        wm.publish(stream, "a", b"2", headers={"k": "v"}, expected_last_seq=1),
        wm.publish(stream, "a", b"3", expected_last_seq=1),
        wm.publish(stream, "a", b"4", ts_ms=-1),
        wm.publish(stream, "a", b"5", ts_ms=5),
        return_exceptions=True,
    )
    alone = waymaker.InvalidArgumentError if "73" not in bad and "B" not in bad else waymaker.ResourceExhaustedError
    wrong = waymaker.WrongRevisionError
    assert [type(outcome) for outcome in outcomes] == [int, alone, int, wrong, waymaker.UsageError, int]
    assert isinstance(outcomes[1], waymaker.WaymakerError)
    assert outcomes[1].outcome == waymaker.NOT_APPLIED
    results = await wm.publish_many(
        stream,
        [("a", b"6"), ("a", b"7", headers), ("a", "8"), ("a", b"9", {"k": "v"})],  # type: ignore[list-item]
    )
    assert [results[0], results[3], set(results.failures)] == [4, 5, {1, 2}]
    stored = [(m.payload, m.headers) async for m in wm.scan(stream, "a")]
    assert stored == [(b"0", {}), (b"2", {"k": "v"}), (b"5", {}), (b"6", {}), (b"9", {"k": "v"})]


async def test_expected_sequences_race_and_one_wins(wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    outcomes = await asyncio.gather(
        *(wm.publish("s", "a", str(n).encode(), expected_last_seq=0) for n in range(20)), return_exceptions=True
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, int)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, waymaker.WrongRevisionError)]
    assert won == [1]
    assert [error.seq for error in lost] == [1] * 19


async def test_many_messages_go_in_and_come_out_in_order(wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    results = await wm.publish_many("s", ((f"a.{n % 7}", str(n).encode()) for n in range(20_000)))
    results.raise_first()
    assert list(results) == list(range(1, 20_001))
    await wm.create_consumer("s", "c", filter_subject="a.3")
    got = []
    async for message in wm.subscribe("s", "c", stop_when_empty=True):
        got.append(int(message.payload))
        message.ack()
    assert got == list(range(3, 20_000, 7))
    async with asyncio.timeout(10):
        while (await wm.consumer_info("s", "c")).ack_floor < results.last_seq - 7:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await wm.fetch("s", "c") == []


async def test_naks_terms_and_expiries_come_back_as_they_should(wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    await wm.publish_many("s", [b"0", b"1", b"2", b"3"], subject="a")
    await wm.create_consumer("s", "c", ack_wait_ms=1_500)
    first = await wm.fetch("s", "c")
    assert [m.deliver_count for m in first] == [1, 1, 1, 1]
    await first[0].ack()
    await first[1].nak()
    await first[2].term()
    assert [(m.seq, m.deliver_count) for m in await wm.fetch("s", "c")] == [(2, 2)]
    async with wm.subscribe("s", "c") as subscription:
        again = [await subscription.next(timeout=10) for _ in range(2)]
        assert sorted((m.seq, m.deliver_count) for m in again) == [(2, 3), (4, 2)]
        for message in again:
            await message.ack()


async def test_a_waiting_subscriber_is_woken_by_a_publish(wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    await wm.create_consumer("s", "c")
    async with wm.subscribe("s", "c") as subscription:
        waiting = asyncio.ensure_future(subscription.next(timeout=5))
        await asyncio.sleep(0.05)
        await wm.publish("s", "a", b"woken")
        assert (await waiting).payload == b"woken"


async def test_what_a_subscriber_hands_back_is_there_at_once(wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    await wm.publish_many("s", [b"x"] * 50, subject="a")
    await wm.create_consumer("s", "c")
    async with wm.subscribe("s", "c") as subscription:
        (await subscription.next()).ack()
    rest = await wm.fetch("s", "c", 100)
    assert [m.seq for m in rest] == list(range(2, 51))


async def test_deletions_end_subscriptions(wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    await wm.create_consumer("s", "c")
    await wm.create_consumer("s", "d")
    one, two = wm.subscribe("s", "c"), wm.subscribe("s", "d")
    ends = [asyncio.ensure_future(subscription.next()) for subscription in (one, two)]
    await asyncio.sleep(0.1)
    await wm.delete_consumer("s", "c")
    with pytest.raises(waymaker.NoSuchConsumerError):
        await ends[0]
    await wm.delete_stream("s")
    with pytest.raises(waymaker.NoSuchStreamError):
        await ends[1]
    with pytest.raises(waymaker.NoSuchStreamError):
        await wm.subscribe("s", "c").next(timeout=5)


async def test_a_slow_subscriber_holds_bounded_memory(wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    await wm.publish_many("s", [bytes(10_000)] * 2_000, subject="a")
    await wm.create_consumer("s", "c")
    async with wm.subscribe("s", "c", prefetch=1_000, prefetch_bytes=200_000) as subscription:
        for n in range(1, 101):
            message = await subscription.next(timeout=5)
            assert message.seq == n
            assert subscription._queued_bytes <= 200_000 + 20_000
            message.ack()


async def test_lists_page_through_the_real_server(wm: waymaker.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waymaker.client.client.PAGE_ENTRIES", 7)
    names = [f"s{n:02}" for n in range(30)]
    await asyncio.gather(*(wm.create_stream(name) for name in names))
    assert await wm.list_streams() == names
    await asyncio.gather(*(wm.create_consumer("s00", f"c{n:02}") for n in range(20)))
    assert [info.name for info in await wm.list_consumers("s00")] == [f"c{n:02}" for n in range(20)]
    await wm.publish_many("s00", [(f"p.{n:02}", b"") for n in range(40)])
    assert await wm.subjects("s00") == [f"p.{n:02}" for n in range(40)]
    assert await wm.subjects("s00", "p.1") == [f"p.{n}" for n in range(10, 20)]


async def test_scans_read_everything_at_a_subject(wm: waymaker.Client) -> None:
    await wm.create_stream("s", block_size=100)
    await wm.publish_many("s", ((f"a.{n % 2}", str(n).encode()) for n in range(5_000)))
    assert [int(m.payload) async for m in wm.scan("s", "a.1")] == list(range(1, 5_000, 2))
    assert [m.seq async for m in wm.scan("s", "a.0", from_seq=9, limit=3)] == [9, 11, 13]


async def test_an_update_prunes_what_its_preview_said(wm: waymaker.Client) -> None:
    await wm.create_stream("s")
    await wm.publish_many("s", [b"x"] * 500, subject="a")
    preview = await wm.preview_update("s", max_msgs=100)
    assert preview.pruned == 400
    assert (await wm.stream_info("s")).msg_count == 500
    assert (await wm.update_stream("s", max_msgs=100)).pruned == 400
    assert (await wm.stream_info("s")).msg_count == 100


async def test_a_backup_restores_to_the_same_stream(wm: waymaker.Client) -> None:
    await wm.create_stream("s", max_msg_bytes=1_000)
    await wm.publish_many("s", ((f"a.{n % 5}", str(n).encode(), {"n": str(n)}) for n in range(3_000)))
    await wm.create_consumer("s", "c")
    for message in await wm.fetch("s", "c", 10):
        await message.ack()
    archive = b"".join([piece async for piece in wm.backup("s")])
    result = await wm.restore([archive], name="copy")
    assert (result.messages, result.last_seq) == (3_000, 3_000)
    before, after = await wm.stream_info("s"), await wm.stream_info("copy")
    assert (after.msg_count, after.last_seq, after.bytes) == (before.msg_count, before.last_seq, before.bytes)
    assert (await wm.consumer_info("copy", "c")).ack_floor == 10
    one = [(m.seq, m.payload, m.ts_ms, m.header_pairs) async for m in wm.scan("s", "a.3")]
    assert [(m.seq, m.payload, m.ts_ms, m.header_pairs) async for m in wm.scan("copy", "a.3")] == one
    with pytest.raises(waymaker.AlreadyExistsError):
        await wm.restore([archive], name="copy")
    flipped = bytearray(archive)
    flipped[len(flipped) // 2] ^= 1
    with pytest.raises(waymaker.TransferCorruptedError):
        await wm.restore([bytes(flipped)], name="broken")
    with pytest.raises(waymaker.TransferCorruptedError):
        await wm.restore([archive[:-10]], name="short")
    assert await wm.list_streams() == ["copy", "s"]


async def test_a_stream_made_anew_under_its_name_ends_the_backup_of_the_one_before(wm: waymaker.Client) -> None:
    """The copy must not begin with messages of one stream and end with those of another."""
    payload = bytes(100_000)

    async def fill() -> None:
        await wm.create_stream("s")
        for _ in range(4):
            await wm.publish_many("s", [("a", payload)] * 150)

    await fill()
    summaries: list[waymaker.BackupSummary] = []
    whole = [piece async for piece in wm.backup("s", summaries.append)]
    assert sum(map(len, whole)) == summaries[0].total_bytes
    assert (summaries[0].first_seq, summaries[0].last_seq, summaries[0].messages) == (1, 600, 600)
    before = summaries[0].stream_id
    backup = wm.backup("s", summaries.append)
    await anext(backup)
    await wm.delete_stream("s")
    await fill()
    with pytest.raises(waymaker.NoSuchStreamError, match="made anew"):
        _ = [piece async for piece in backup]
    assert len(summaries) == 1
    _ = [piece async for piece in wm.backup("s", summaries.append)]
    assert summaries[1].stream_id > before > 0


async def test_a_watch_tells_of_what_happens(wm: waymaker.Client) -> None:
    events: list[waymaker.WatchEvent] = []

    async def watch() -> None:
        async for event in wm.watch():
            events.append(event)

    task = asyncio.ensure_future(watch())
    created = 0
    while not events:  # what was created before the watch began is not told
        await wm.create_stream(f"before{created}")
        created += 1
        await asyncio.sleep(0.05)
    await until(lambda: events[-1].stream == f"before{created - 1}")
    events.clear()
    await wm.create_stream("s")
    await wm.create_consumer("s", "c")
    await wm.delete_stream("s")
    kinds = waymaker.WatchKind
    await until(lambda: kinds.STREAM_DELETED in [event.kind for event in events])
    assert [event.kind for event in events][:2] == [kinds.STREAM_CREATED, kinds.CONSUMER_CREATED]
    assert (events[1].stream, events[1].consumer) == ("s", "c")
    task.cancel()


async def test_server_info_of_the_real_server(wm: waymaker.Client) -> None:
    info = await wm.server_info()
    assert info.sync == "always"
    assert not info.draining
    assert info.version == wm.server_version


async def test_an_oversized_message_is_refused_and_the_session_lives(wm: waymaker.Client) -> None:
    await wm.create_stream("s", max_msg_bytes=100)
    with pytest.raises(waymaker.OversizeError):
        await wm.publish("s", "a", bytes(101))
    with pytest.raises((waymaker.OversizeError, waymaker.ResourceExhaustedError)):
        await wm.publish("s", "a", bytes(30 << 20))
    await wm.create_stream("big")
    with pytest.raises((waymaker.OversizeError, waymaker.ResourceExhaustedError)):
        await wm.publish("big", "a", bytes((16 << 20) + 1))
    body = bytes(16 << 20)
    assert await wm.publish("big", "a", body) == 1
    latest = await wm.get("big", "a")
    assert latest is not None
    assert latest.payload == body
    await wm.create_consumer("big", "c")
    async with wm.subscribe("big", "c") as subscription:
        assert (await subscription.next(timeout=10)).payload == body
    assert wm._connection.sessions == 1


# ------------------------------------------------------------------------------- the server goes away


async def test_a_killed_server_loses_nothing_confirmed_and_the_client_goes_on(server: RealServer) -> None:
    async with waymaker.connect(server.address, timeout=30.0) as wm:
        await wm.create_stream("s")
        await wm.create_consumer("s", "c")
        confirmed: set[int] = set()
        unknown: list[int] = []
        stop = False

        async def publish(task: int) -> None:
            number = 0
            while not stop:
                number += 1
                value = task * 1_000_000 + number
                try:
                    await wm.publish("s", "a", str(value).encode())
                    confirmed.add(value)
                except waymaker.WaymakerError as error:
                    assert error.outcome == waymaker.UNKNOWN, error
                    unknown.append(value)

        got: list[int] = []

        async def consume() -> None:
            async for message in wm.subscribe("s", "c"):
                got.append(int(message.payload))
                message.ack()

        tasks = [asyncio.ensure_future(publish(n)) for n in range(8)]
        reader = asyncio.ensure_future(consume())
        for _ in range(2):
            before = len(confirmed)
            await until(lambda before=before: len(confirmed) > before + 200, 30)  # type: ignore[misc]
            server.kill()
            await asyncio.to_thread(server.start)
        before = len(confirmed)
        await until(lambda: len(confirmed) > before + 200, 30)
        stop = True
        await asyncio.gather(*tasks)
        await until(lambda: confirmed <= set(got), 60)
        reader.cancel()
        stored = [int(m.payload) async for m in wm.scan("s", "a")]
        assert len(stored) == len(set(stored)), "nothing was published twice"
        assert confirmed <= set(stored)
        assert set(stored) <= confirmed | set(unknown)
        assert wm._connection.sessions == 3


async def test_a_draining_server_ends_nothing_for_good(server: RealServer) -> None:
    async with waymaker.connect(server.address, timeout=30.0) as wm:
        await wm.create_stream("s")
        await wm.create_consumer("s", "c")
        subscription = wm.subscribe("s", "c")
        waiting = asyncio.ensure_future(subscription.next())
        await asyncio.sleep(0.1)
        assert await asyncio.to_thread(server.terminate) == 0
        publishing = asyncio.ensure_future(wm.publish("s", "a", b"after"))
        await asyncio.to_thread(server.start)
        assert await publishing == 1
        assert (await waiting).payload == b"after"


async def test_tokens_and_their_absence(tmp_path: Path) -> None:
    from waymaker.server.auth.tokens import new_token

    token, line = new_token("tester")
    (tmp_path / "tokens").write_text(line + "\n")
    server = RealServer(tmp_path / "data", "--tokens", str(tmp_path / "tokens"))
    server.start()
    try:
        async with waymaker.connect(server.address, token=token) as wm:
            await wm.create_stream("s")
            assert (await wm.server_info()).streams == 1
        for wrong in (None, "wmk_nonsense"):
            with pytest.raises(waymaker.UnauthenticatedError):
                async with waymaker.connect(server.address, token=wrong):
                    pass
    finally:
        server.close()


async def test_an_encrypted_connection_trusts_only_what_it_was_told_to(tmp_path: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=streams.test"]
    command += ["-addext", "subjectAltName=DNS:streams.test"]
    try:
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)  # noqa: ASYNC221 (nothing else runs)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    cert = tmp_path / "cert.pem"
    keys = ["--tls-cert", str(cert), "--tls-key", str(tmp_path / "key.pem")]
    serving = [sys.executable, "-c", LAUNCH, "serve", "--data-dir", "data", "--listen", "127.0.0.1:0", "--json", *keys]
    process = subprocess.Popen(serving, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        trusting = waymaker.TLS(ca=cert, server_name="streams.test")
        async with waymaker.connect(address, tls=trusting) as wm:
            await wm.create_stream("s")
            assert await wm.publish("s", "a") == 1
            assert (await wm.server_info()).streams == 1
        for tls in (True, None, waymaker.TLS(ca=cert, server_name="another.test")):
            with pytest.raises(waymaker.UnavailableError):
                async with waymaker.connect(address, tls=tls):
                    pass
        arguments = ["stream", "ls", "--server", address, "--ca", str(cert), "--tls-name", "streams.test"]
        listed = subprocess.run([sys.executable, "-c", LAUNCH, *arguments], capture_output=True, text=True)  # noqa: ASYNC221
        assert (listed.returncode, listed.stdout) == (0, "s\n")
    finally:
        process.kill()
        process.communicate()


async def test_a_server_that_froze_is_told_from_one_that_answers(server: RealServer) -> None:
    async with waymaker.connect(server.address, timeout=30.0) as wm:
        await wm.create_stream("s")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(waymaker.DeadlineExceededError) as caught:
                await wm.publish("s", "a", b"first", timeout=0.3)
            assert caught.value.outcome == waymaker.UNKNOWN
            with pytest.raises(waymaker.UnavailableError, match="takes connections and says nothing"):
                async with waymaker.connect(server.address, connect_timeout=3):  # the diagnosis has a third of it
                    pass
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert await wm.publish("s", "a", b"second") == 2
        assert wm._connection.sessions == 1


def test_the_synchronous_twin_against_the_real_server(shared: RealServer) -> None:
    with waymaker.connect_sync(shared.address) as wm:
        wm.create_stream("sync")
        wm.create_consumer("sync", "c")
        wm.publish_many("sync", (str(n).encode() for n in range(1_000)), subject="a").raise_first()
        got = []
        for message in wm.subscribe("sync", "c", stop_when_empty=True):
            got.append(int(message.payload))
            message.ack()
        assert got == list(range(1_000))
        wm.delete_stream("sync")


# ---------------------------------------------------------------------------------- the documentation


DOCUMENT = Path(__file__).parents[3] / "docs" / "client.md"


def test_the_examples_of_the_documentation_run(shared: RealServer, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [block.split("```")[0] for block in DOCUMENT.read_text().split("```python\n")[1:]]
    for block in blocks[:2]:
        exec(compile(block.replace("127.0.0.1:7411", shared.address), str(DOCUMENT), "exec"), {})  # noqa: S102
    assert capsys.readouterr().out == "stored as 1\n1 orders.new b'{\"id\": 7}'\n"
    with waymaker.connect_sync(shared.address) as wm:
        assert wm.consumer_info("orders", "billing").ack_floor == 2
        wm.delete_stream("orders")


def test_the_documentation_names_every_code() -> None:
    from waymaker.client import errors

    text = DOCUMENT.read_text()
    for code, kind in errors.RESULT_CODES.items():
        assert f"| `{code}` | `{kind.__name__}` |" in text
    for kind in (*errors.STATUSES.values(), errors.ConnectionLostError):
        if kind.code not in {"cancelled", "unknown", "failed_precondition", "out_of_range"}:
            assert f"| `{kind.code}` | `{kind.__name__}` |" in text, kind


@pytest.mark.parametrize("reconnect", [False, True])
async def test_an_orderly_stop_under_load_answers_or_refuses_everything(
    server: RealServer, reconnect: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """64 tasks publish, fetch and acknowledge while SIGTERM arrives: nothing ends with an unknown outcome, nothing twice."""
    stored: dict[bytes, int] = {}
    not_stored: list[bytes] = []
    stopping = asyncio.Event()

    async def work(wm: waymaker.Client, name: int) -> None:
        for n in itertools.count():
            payload = b"%d %d" % (name, n)
            try:
                stored[payload] = await wm.publish("s", "a", payload)
                for message in await wm.fetch("s", "c", 4):
                    await message.ack()
            except waymaker.WaymakerError as error:
                assert isinstance(error, waymaker.UnavailableError), repr(error)
                assert error.outcome == waymaker.NOT_APPLIED
                assert not reconnect
                if payload not in stored:
                    not_stored.append(payload)
                return
            if stopping.is_set() and reconnect:
                return

    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(waymaker.connect(server.address, reconnect=reconnect, timeout=60))
            for _ in range(4)
        ]
        await clients[0].create_stream("s")
        await clients[0].create_consumer("s", "c")
        working = asyncio.gather(*(work(clients[n % 4], n) for n in range(64)))
        await asyncio.sleep(1.0)
        assert await asyncio.to_thread(server.terminate) == 0
        stopping.set()
        if reconnect:
            await asyncio.to_thread(server.start)
        await working
    if not reconnect:
        await asyncio.to_thread(server.start)
    async with waymaker.connect(server.address) as wm:
        found = {message.seq: message.payload async for message in wm.scan("s", "a")}
    assert found == {seq: payload for payload, seq in stored.items()}
    assert len(stored) > 100
    assert reconnect or len(not_stored) == len(set(not_stored)) > 0
    assert not set(not_stored) & set(stored)
    assert not [line for line in caplog.messages if "Internal" in line or "Core" in line]
