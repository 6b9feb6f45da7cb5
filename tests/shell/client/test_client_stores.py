"""Collections and sketches through the client and a real server: dict, set and deque on disk, and sketches that answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import waymaker
from tests.kit.real_server import RealServer

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """One server for the tests that do not end it."""
    server = RealServer(tmp_path_factory.mktemp("shared") / "data")
    server.start()
    yield server
    server.close()


@pytest.fixture
async def wm(shared: RealServer) -> AsyncIterator[waymaker.Client]:
    async with waymaker.connect(shared.address, timeout=20.0) as client:
        yield client
        for name in await client.list_streams():
            await client.delete_stream(name)


async def test_a_hash_has_the_manners_of_a_dict(wm: waymaker.Client) -> None:
    store = wm.hash_store("users")
    await store.create(max_bytes=1 << 20)
    with pytest.raises(waymaker.AlreadyExistsError):
        await store.create()
    ada = store["ada"]
    assert await ada.get("name") is None
    assert await ada.get("name", b"?") == b"?"
    assert await ada.set("name", b"Ada") == 1
    assert await ada.set("name", b"Ada L.") == 2
    await ada.update({"": b"empty", "a.b *>": b"odd", "%": b"percent", "born": b"1815"})
    assert await ada.copy() == {"name": b"Ada L.", "": b"empty", "a.b *>": b"odd", "%": b"percent", "born": b"1815"}
    assert [field async for field in ada] == [field async for field, _ in ada.items()]
    assert await ada.get_many(["born", "none", "%"]) == {"born": b"1815", "%": b"percent"}
    assert (await ada.contains("born"), await ada.contains("none")) == (True, False)
    assert await ada.len() == 5
    assert await store["bob"].len() == 0
    assert await ada.delete("born", "none") == 1
    assert await ada.clear() == 4
    assert await ada.copy() == {}
    await store.delete()
    with pytest.raises(waymaker.NoSuchBucketError, match="no hash store is called 'users'"):
        await ada.set("name", b"")


async def test_a_hash_of_many_fields_is_paged(wm: waymaker.Client) -> None:
    store = wm.hash_store("big")
    await store.create()
    wanted = {f"field {number}": b"x" * 1_000 for number in range(12_000)}
    await store["k"].update(wanted)
    assert await store["k"].len() == 12_000
    assert await store["k"].copy() == wanted
    assert {field async for field in store["k"]} == set(wanted)
    assert await store["k"].clear() == 12_000


async def test_a_set_has_the_manners_of_a_set(wm: waymaker.Client) -> None:
    store = wm.set_store("tags")
    await store.create()
    red = store["red"]
    await red.add("apple")
    await red.add("apple")
    assert await red.update(["apple", "rose", "blood"]) == 2
    assert await red.copy() == {"apple", "rose", "blood"}
    assert await red.contains("rose")
    assert await red.discard("rose", "sky") == 1
    with pytest.raises(KeyError):
        await red.remove("rose")
    await red.remove("blood")
    assert await red.len() == 1
    assert await red.clear() == 1
    await store.delete()
    with pytest.raises(waymaker.NoSuchBucketError):
        await red.copy()


async def test_a_queue_has_the_manners_of_a_deque(wm: waymaker.Client) -> None:
    queue = wm.queue("jobs")
    await queue.create(max_messages=5_000)
    with pytest.raises(IndexError):
        await queue.popleft()
    assert await queue.append(b"first") == 1
    await queue.extend([b"", b"third", b"x" * 100_000])
    assert await queue.peek(2) == [b"first", b""]
    assert await queue.len() == 4
    assert [await queue.popleft() for _ in range(2)] == [b"first", b""]
    assert [value async for value in queue] == [b"third", b"x" * 100_000]
    assert await queue.take(10) == [b"third", b"x" * 100_000]
    assert await queue.take(10) == []
    await queue.extend([b""] * 4_000)
    with pytest.raises(waymaker.ResourceExhaustedError, match="max_messages"):
        await queue.extend([b""] * 2_000)
    await queue.delete()
    with pytest.raises(waymaker.NoSuchBucketError):
        await queue.len()


async def test_many_tasks_take_every_value_once(wm: waymaker.Client) -> None:
    queue = wm.queue("shared")
    await queue.create()
    await queue.extend([str(number).encode() for number in range(3_000)])
    taken: list[bytes] = []

    async def work() -> None:
        while True:
            try:
                taken.append(await queue.popleft())
            except IndexError:
                return

    await asyncio.gather(*[work() for _ in range(50)])
    assert sorted(map(int, taken)) == list(range(3_000))


async def test_calls_of_many_tasks_have_the_answers_that_each_would_have_alone(wm: waymaker.Client) -> None:
    store, tags, jobs = wm.hash_store("users"), wm.set_store("tags"), wm.queue("jobs")
    await asyncio.gather(store.create(max_bytes=3_000), tags.create(), jobs.create())
    entries = store["k"]
    revisions = await asyncio.gather(*[entries.set(f"f{n % 20}", b"%d" % n) for n in range(40)])
    assert revisions == sorted(set(revisions)), "in the order in which they were asked for"
    values = await asyncio.gather(*[entries.get(f"f{n}") for n in [*range(22), 0]])
    assert values == [*[b"%d" % (n + 20) for n in range(20)], None, None, b"20"]
    sizes = [10, 2_900, 20, 2_900, 30]
    outcomes = await asyncio.gather(
        *[entries.set(f"g{n}", bytes(size)) for n, size in enumerate(sizes)], return_exceptions=True
    )
    assert [isinstance(each, waymaker.ResourceExhaustedError) for each in outcomes] == [size > 100 for size in sizes]
    await asyncio.gather(entries.set("x", b"1"), entries.delete("x"), entries.set("x", b"2"), entries.delete("f0"))
    assert await asyncio.gather(*[entries.contains(field) for field in ("x", "f0", "x")]) == [True, False, True]
    assert await entries.get("x") == b"2"
    await asyncio.gather(*[tags["t"].add(member) for member in "abcabc"], tags["t"].remove("b"))
    assert await asyncio.gather(*[tags["t"].contains(member) for member in "abc"]) == [True, False, True]
    sequences = await asyncio.gather(*[jobs.append(b"%d" % n) for n in range(50)])
    assert sequences == list(range(1, 51))
    assert await jobs.take(100) == [b"%d" % n for n in range(50)]
    nowhere = await asyncio.gather(*[wm.queue("none").append(b"") for _ in range(3)], return_exceptions=True)
    assert all(isinstance(each, waymaker.NoSuchBucketError) for each in nowhere)


async def test_stores_come_back_after_a_kill_and_from_a_backup(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "data")
    server.start()
    try:
        async with waymaker.connect(server.address, timeout=20.0) as wm:
            await wm.hash_store("h").create()
            await wm.hash_store("h")["k"].update({"a": b"1", "b": b"2"})
            await wm.hash_store("h")["k"].delete("a")
            await wm.queue("q").create()
            await wm.queue("q").extend([b"1", b"2", b"3"])
            assert await wm.queue("q").popleft() == b"1"
            await wm.sketch("s").create_hyperloglog(10)
            await wm.sketch("s").add([str(number) for number in range(1_000)])
            before = await wm.sketch("s").snapshot()
        server.kill()
        server.start()
        async with waymaker.connect(server.address, timeout=20.0) as wm:
            assert await wm.hash_store("h")["k"].copy() == {"b": b"2"}
            assert await wm.queue("q").peek(5) == [b"2", b"3"]
            assert await wm.sketch("s").snapshot() == before
            for name in ("hash:h", "queue:q", "sketch:s"):
                archive = b"".join([piece async for piece in wm.backup(name)])
                await wm.restore([archive], f"{name}2")
            assert await wm.hash_store("h2")["k"].copy() == {"b": b"2"}
            assert await wm.queue("q2").take(5) == [b"2", b"3"]
            assert await wm.sketch("s2").snapshot() == before
            assert (await wm.sketch("s2").info()).added == 1_000
    finally:
        server.close()


async def test_sketches_answer_what_their_kind_answers(wm: waymaker.Client) -> None:
    seen = wm.sketch("seen")
    await seen.create_bloom(1_000, 0.01)
    await seen.add(["a", b"b"])
    assert await seen.contains("a", b"b") == [True, True]
    assert 1.5 < await seen.distinct() < 2.5
    visitors = wm.sketch("visitors")
    await visitors.create_hyperloglog()
    await visitors.add(str(number % 500) for number in range(10_000))
    assert 480 < await visitors.distinct() < 520
    words = wm.sketch("words")
    await words.create_top_k(3)
    await words.add(["to", "be", "or", "not", "to", "be", "to"])
    assert (await words.top(1)) == [(b"to", 3)]
    assert await words.counts("be", "none") == [2, 0]
    times = wm.sketch("times")
    await times.create_t_digest()
    await times.add(range(1, 1_001))
    assert (await times.quantiles(0.0, 1.0)) == [1.0, 1_000.0]
    assert 495 < (await times.quantiles(0.5))[0] < 505
    assert 0.24 < (await times.ranks(250))[0] < 0.26
    counts = wm.sketch("counts")
    await counts.create_count_min()
    info = await words.info()
    assert (info.kind, info.parameters["k"], info.added) == ("top_k", 3, 7)
    with pytest.raises(waymaker.InvalidArgumentError, match="does not answer"):
        await words.distinct()
    with pytest.raises(waymaker.InvalidArgumentError, match="ranks numbers"):
        await times.add(["a"])
    with pytest.raises(waymaker.InvalidConfigError):
        await wm.sketch("odd").create_hyperloglog(3)
    with pytest.raises(waymaker.NoSuchBucketError, match="no sketch is called 'odd'"):
        await wm.sketch("odd").distinct()
    await words.delete()


async def test_what_many_tasks_add_is_counted_once_each_and_a_bad_batch_alone_is_refused(wm: waymaker.Client) -> None:
    words, times = wm.sketch("words"), wm.sketch("times")
    await words.create_count_min()
    await times.create_t_digest()
    good = [words.add([f"w{number % 10}", "all"]) for number in range(300)]
    bad = [words.add([1.5]), times.add(["a"]), wm.sketch("none").add(["a"])]
    found = await asyncio.gather(*good, *bad, *(times.add([number]) for number in range(100)), return_exceptions=True)
    assert [each for each in found if each is not None] == found[300:303]
    assert [type(each) for each in found[300:303]] == [
        waymaker.InvalidArgumentError, waymaker.InvalidArgumentError, waymaker.NoSuchBucketError,
    ]  # fmt: skip
    asked = await asyncio.gather(*(words.counts(f"w{number}", "all") for number in range(10)))
    assert asked == [[30, 300]] * 10
    assert ((await words.info()).added, (await times.info()).added) == (600, 100)
    assert await times.quantiles(0.0, 1.0) == [0.0, 99.0]


async def test_sketches_of_two_programs_are_merged(wm: waymaker.Client) -> None:
    one, two = wm.sketch("one"), wm.sketch("two")
    await one.create_hyperloglog(12)
    await two.create_hyperloglog(12)
    await one.add(map(str, range(1_000)))
    await two.add(map(str, range(500, 1_500)))
    await one.merge(await two.snapshot())
    assert 1_400 < await one.distinct() < 1_600
    with pytest.raises(waymaker.InvalidArgumentError, match="cannot be merged"):
        await one.merge(b"nonsense")


async def test_what_no_server_would_take_is_refused_before_it_is_sent(wm: waymaker.Client) -> None:
    for wrong in (
        wm.hash_store("h")["k"].set("f", "text"),  # type: ignore[arg-type]
        wm.hash_store("h")["k"].set(3, b""),  # type: ignore[arg-type]
        wm.set_store("s")["k"].update("abc"),
        wm.queue("q").extend("abc"),  # type: ignore[arg-type]
        wm.queue("q").take(0),
        wm.sketch("s").add("abc"),
        wm.sketch("s").add([float("nan")]),
        wm.sketch("s").create_bloom(10, 2.0),
    ):
        with pytest.raises(waymaker.UsageError):
            await wrong


async def test_a_value_that_came_for_a_cancelled_task_is_given_to_the_next(wm: waymaker.Client) -> None:
    queue = wm.queue("cancelled")
    await queue.create()
    await queue.extend([b"1", b"2", b"3"])
    tasks = [asyncio.ensure_future(queue.popleft()) for _ in range(2)]
    for _ in range(3):  # the tasks ask; their request is made; it is on its way
        await asyncio.sleep(0)
    tasks[0].cancel()
    assert await tasks[1] == b"1"
    assert [await queue.popleft(), await queue.popleft()] == [b"2", b"3"]
    with pytest.raises(IndexError):
        await queue.popleft(timeout=5.0)


def test_the_synchronous_client_has_the_same_stores(shared: RealServer) -> None:
    with waymaker.connect_sync(shared.address, timeout=20.0) as wm:
        wm.hash_store("sync").create()
        ada = wm.hash_store("sync")["ada"]
        assert ada.set("name", b"Ada") == 1
        ada.update({"born": b"1815", "died": b"1852"})
        assert (ada.get("name"), "born" in ada, "none" in ada, len(ada)) == (b"Ada", True, False, 3)
        assert set(ada) == {"name", "born", "died"}
        assert dict(ada.items()) == ada.copy() == ada.get_many(list(ada))
        assert (ada.delete("name"), ada.clear()) == (1, 2)
        wm.set_store("sync").create()
        red = wm.set_store("sync")["red"]
        red.add("apple")
        assert red.update(["apple", "rose"]) == 1
        assert (red.copy(), "rose" in red, len(red)) == ({"apple", "rose"}, True, 2)
        red.remove("rose")
        assert list(red) == ["apple"]
        wm.queue("sync").create(max_messages=5)
        jobs = wm.queue("sync")
        jobs.extend([b"1", b"2", b"3"])
        assert (jobs.popleft(), jobs.peek(5), list(jobs), len(jobs)) == (b"1", [b"2", b"3"], [b"2", b"3"], 2)
        assert jobs.take(9) == [b"2", b"3"]
        words = wm.sketch("sync")
        words.create_top_k(3)
        words.add(["to", "be", "to"])
        assert (words.top(1), words.counts("be"), words.info().added) == ([(b"to", 2)], [1], 3)
        for name in wm.list_streams():
            wm.delete_stream(name)
