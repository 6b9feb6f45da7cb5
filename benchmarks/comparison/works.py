"""The work of a comparison: cells of the table and points of the curves, each measured for a bounded time.

The same code measures every contestant. A cell gives a rate; where calls are waited for it gives their durations, too.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

from benchmarks.comparison.contestant import Contestant

TASKS: Final = 64
FETCH: Final = 1_000
ONE: Final = "publish, one at a time"
MANY: Final = f"publish, {TASKS} tasks that wait"
PIPELINED: Final = "publish, pipelined"
FETCHED: Final = f"fetch {FETCH:,} and ack"
REPLAYED: Final = "replay"
GET: Final = "KV get, one at a time"
PUT: Final = "KV put, one at a time"
STREAM_WORKS: Final = (ONE, MANY, PIPELINED, FETCHED, REPLAYED)
KEY_WORKS: Final = (GET, PUT)
KEYS: Final = 1_000

CURVES: Final[dict[str, tuple[int, ...]]] = {
    "connections": (1, 16, 64),
    "streams": (1, 100, 1_000),
    "subjects": (1, 1_000, 100_000),
    "consumers": (1, 100, 1_000),
}
LARGE_STREAMS: Final = 10_000
CURVE_BYTES: Final = 128
CURVE_STREAM: Final = "curve"
CURVE_FETCH: Final = 10
CURVE_FETCHERS: Final = 16
SUBJECTS_AT_ONCE: Final = 1_000
LARGE_PREPARE_S: Final = 120.0


class Measured(TypedDict):
    """The figures of one cell in one round. Durations are in milliseconds, and None where no single call was waited for."""

    rate: float
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a turn: how long a cell is measured, and how much is stored for it to be read."""

    seconds: float
    sizes: tuple[int, ...]
    key_sizes: tuple[int, ...]
    messages: int
    chunk_bytes: int
    curves: dict[str, tuple[int, ...]]
    curve_messages: int
    prepare_s: float = 20.0
    """The time for the preparation of a point. A point that needs more of a contestant is left out."""

    def chunk(self, size: int) -> int:
        """Return how many messages of this size are stored at least, and published in one pipelined call."""
        return max(1, min(self.messages, self.chunk_bytes // size))


FULL: Final = Load(0.25, (128, 1 << 10, 16 << 10, 256 << 10), (128, 16 << 10), 10_000, 32 << 20, CURVES, 5_000)
QUICK: Final = Load(0.01, (128,), (128,), 50, 1 << 20, dict.fromkeys(CURVES, (1, 4)), 200)
"""A load that shows whether everything runs, not how fast."""


def cell(work: str, size: int) -> str:
    """Return the name of a cell."""
    return f"{work}, {size_text(size)}"


def size_text(size: int) -> str:
    return f"{size} B" if size < 1 << 10 else f"{size >> 10} KiB"


def cells(load: Load) -> Iterator[tuple[str, int]]:
    """Yield the work and the size of each row of the table."""
    for work in STREAM_WORKS:
        yield from ((work, size) for size in load.sizes)
    for work in KEY_WORKS:
        yield from ((work, size) for size in load.key_sizes)


# ------------------------------------------------------------------------------------ measuring


def percentile(times: Sequence[float], percent: int) -> float:
    """Return the least of these durations that so many of a hundred do not exceed."""
    return sorted(times)[-(-len(times) * percent // 100) - 1]


async def drive(call: Callable[[int, int], Awaitable[int]], tasks: int, seconds: float) -> Measured:
    """Let each task make calls `call(number, task)` until the time is over; each makes one at least.

    A call returns for how many messages it was; 0 ends its task.
    """
    clock, numbers, times = time.perf_counter, itertools.count(), list[float]()
    messages = 0
    began = clock()
    ends = began + seconds

    async def each(task: int) -> None:
        nonlocal messages
        while True:
            called = clock()
            done = await call(next(numbers), task)
            now = clock()
            if not done:
                return
            messages += done
            times.append(now - called)
            if now >= ends:
                return

    await asyncio.gather(*(each(task) for task in range(tasks)))
    took = clock() - began
    if not times:
        raise RuntimeError("not a single call was made")
    return {
        "rate": messages / took,
        "p50_ms": percentile(times, 50) * 1_000,
        "p99_ms": percentile(times, 99) * 1_000,
    }


def _rate(messages: int, took_s: float) -> Measured:
    return {"rate": messages / took_s, "p50_ms": None, "p99_ms": None}


async def _together(
    call: Callable[[int], Awaitable[object]], count: int, first: int = 0, ends: float = math.inf, tasks: int = TASKS
) -> bool:
    """Make calls with the numbers below a count, many at a time; return False where the time ended before."""
    numbers = iter(range(first, count))

    async def each() -> bool:
        for number in numbers:
            if time.monotonic() > ends:
                return False
            await call(number)
        return True

    return all(await asyncio.gather(*(each() for _ in range(tasks))))


# ------------------------------------------------------------------------------------ the table


async def table(contestant: Contestant, load: Load) -> dict[str, Measured]:
    """Measure every cell of the table."""
    found: dict[str, Measured] = {}
    for size in load.sizes:
        for work, measured in (await _stream_cells(contestant, load, size)).items():
            found[cell(work, size)] = measured
    for size in load.key_sizes:
        for work, measured in (await _key_cells(contestant, load, size)).items():
            found[cell(work, size)] = measured
    return found


async def _stream_cells(contestant: Contestant, load: Load, size: int) -> dict[str, Measured]:
    stream, payload, clock = f"table{size}", bytes(size), time.perf_counter
    await contestant.make_stream(stream)

    async def publish(number: int, task: int) -> int:
        await contestant.publish(stream, "a", payload)
        return 1

    await drive(publish, TASKS, load.seconds / 10)  # warm up: some libraries open a connection for each task
    found = {ONE: await drive(publish, 1, 2 * load.seconds), MANY: await drive(publish, TASKS, load.seconds)}
    chunk, stored = load.chunk(size), 0
    began = clock()
    while not stored or clock() - began < load.seconds:
        await contestant.publish_all(stream, lambda _: "a", payload, chunk)
        stored += chunk
    found[PIPELINED] = _rate(stored, clock() - began)
    found[FETCHED] = await _fetched(contestant, stream, chunk, load.seconds)
    began, read = clock(), 0
    while not read or clock() - began < load.seconds:
        got = await contestant.replay(stream, chunk)
        if got != chunk * size:
            raise RuntimeError(f"a replay of {chunk} messages gave {got} bytes")
        read += chunk
    found[REPLAYED] = _rate(read, clock() - began)
    await contestant.delete_stream(stream)
    return found


async def _fetched(contestant: Contestant, stream: str, stored: int, seconds: float) -> Measured:
    """Measure fetches alone: a consumer that has seen everything is followed by a new one, off the clock."""
    clock, took, fetched = time.perf_counter, 0.0, 0
    for number in itertools.count():
        consumer, left = f"c{number}", stored
        await contestant.make_consumer(stream, consumer)
        while left:
            began = clock()
            got = await contestant.fetch(stream, consumer, min(FETCH, left))
            took += clock() - began
            if not got:
                raise RuntimeError(f"a fetch of {left} messages that are stored gave none")
            fetched += got
            left -= got
            if took >= seconds:
                return _rate(fetched, took)
    raise AssertionError("unreachable")


async def _key_cells(contestant: Contestant, load: Load, size: int) -> dict[str, Measured]:
    value, keys = bytes(size), min(KEYS, load.chunk(size))
    names = [f"user.{number:06}.name" for number in range(keys)]
    await contestant.make_bucket(f"keys{size}")
    await _together(lambda number: contestant.put(names[number], value), keys)

    async def get(number: int, task: int) -> int:
        got = await contestant.get(names[number % keys])
        if len(got) != size:
            raise RuntimeError(f"a key of {size} bytes was read as {len(got)}")
        return 1

    async def put(number: int, task: int) -> int:
        await contestant.put(names[number % keys], value)
        return 1

    found = {}
    for work, call in ((GET, get), (PUT, put)):
        await drive(call, 1, load.seconds / 10)  # warm up
        found[work] = await drive(call, 1, 2 * load.seconds)
    await contestant.delete_bucket(f"keys{size}")
    return found


# ------------------------------------------------------------------------------------ the curves


async def prepare(contestant: Contestant, curve: str, points: Sequence[int], seconds: float) -> list[int]:
    """Make what the points of a curve need, which stays for all rounds; return those for which the time sufficed."""
    made: list[int] = []
    if curve == "connections":
        await contestant.make_stream(CURVE_STREAM)
        return list(points)
    for point in sorted(points):
        ends = time.monotonic() + seconds
        if curve == "streams":
            first = max(made, default=0)
            is_done = await _together(lambda number: contestant.make_stream(f"s{number}"), point, first, ends)
        else:
            stream = f"{curve}{point}"
            await contestant.make_stream(stream)
            part = _subjects(contestant, stream, point) if curve == "subjects" else _consumer(contestant, stream)
            count = -(-point // SUBJECTS_AT_ONCE) if curve == "subjects" else point
            is_done = await _together(part, count, 0, ends, 1 if curve == "subjects" else TASKS)
        if not is_done:
            break
        made.append(point)
    return made


def _subjects(contestant: Contestant, stream: str, count: int) -> Callable[[int], Awaitable[None]]:
    async def publish(part: int) -> None:
        first = part * SUBJECTS_AT_ONCE
        subject = lambda number: f"n{first + number}"  # noqa: E731
        await contestant.publish_all(stream, subject, bytes(CURVE_BYTES), min(SUBJECTS_AT_ONCE, count - first))

    return publish


def _consumer(contestant: Contestant, stream: str) -> Callable[[int], Awaitable[None]]:
    return lambda number: contestant.make_consumer(stream, f"c{number}")


async def point_of(contestant: Contestant, curve: str, point: int, load: Load, target: str) -> Measured:
    """Measure one point of a curve."""
    payload = bytes(CURVE_BYTES)
    if curve == "connections":
        return await _over_connections(contestant, point, load, target)
    if curve == "consumers":
        return await _of_consumers(contestant, point, load)

    async def publish(number: int, task: int) -> int:
        if curve == "streams":
            await contestant.publish(f"s{number % point}", "a", payload)
        else:
            await contestant.publish(f"subjects{point}", f"n{number * 7_919 % point}", payload)
        return 1

    await drive(publish, TASKS, load.seconds / 10)  # warm up
    return await drive(publish, TASKS, load.seconds)


async def _over_connections(contestant: Contestant, count: int, load: Load, target: str) -> Measured:
    """Measure one publish at a time on each of so many connections."""
    payload, clients = bytes(CURVE_BYTES), [type(contestant)() for _ in range(count)]
    opened = []

    async def publish(number: int, task: int) -> int:
        await clients[task].publish(CURVE_STREAM, "a", payload)
        return 1

    try:
        for client in clients:
            await client.open(target)
            opened.append(client)
        await drive(publish, count, load.seconds / 10)  # warm up
        return await drive(publish, count, load.seconds)
    finally:
        for client in opened:
            await client.close()


async def _of_consumers(contestant: Contestant, count: int, load: Load) -> Measured:
    """Measure small fetches that a few tasks make from so many consumers, each of which sees every message."""
    stream, left = f"consumers{count}", [load.curve_messages] * count
    await contestant.publish_all(stream, lambda _: "a", bytes(CURVE_BYTES), load.curve_messages)
    turns = [itertools.count(task, CURVE_FETCHERS) for task in range(CURVE_FETCHERS)]

    async def fetch(number: int, task: int) -> int:
        consumer = next(turns[task]) % count
        if left[consumer] < CURVE_FETCH:
            return 0
        left[consumer] -= CURVE_FETCH
        return await contestant.fetch(stream, f"c{consumer}", CURVE_FETCH, task)

    return await drive(fetch, CURVE_FETCHERS, load.seconds)
