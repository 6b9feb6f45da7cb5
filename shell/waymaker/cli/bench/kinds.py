"""The kinds of work that `waymaker bench` measures: each makes what it needs under a name of its own, then works on it."""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from waymaker.cli.bench.measuring import Measurement, together, until_first

if TYPE_CHECKING:
    from waymaker.client.consumer.subscription import Subscription

MESSAGE_BYTES: Final = 128
OBJECT_BYTES: Final = 1 << 20
LOADED: Final = 100_000
"""Messages that are stored beforehand, where they are read and no count is given."""
LOADED_BYTES_MAX: Final = 256 << 20
KEYS: Final = 1_000
OBJECTS: Final = 16
PART: Final = 1_000
"""Values pushed at once, before they are measured."""
LAST_S: Final = 30.0
"""The time that the last messages may take to arrive once nothing more is published."""
SUBJECT: Final = "bench"
CONSUMER: Final = "bench"
_STAMP: Final = struct.Struct("<q")


class Kind(NamedTuple):
    """A kind of work: what it does, the usual size of a payload, and the work."""

    text: str
    size: int
    run: Callable[[Measurement], Awaitable[None]]
    size_min: int = 0


# ---------------------------------------------------------------- streams


async def _streams(m: Measurement) -> list[str]:
    names = [f"{m.name}-{number}" for number in range(m.load.streams)]
    for name in names:
        m.made(f"the stream {name}", partial(m.client.delete_stream, name))
        await m.client.create_stream(name)
    return names


def _loaded(m: Measurement, most: int = LOADED) -> int:
    """Return how many messages are stored beforehand."""
    return m.load.count or max(1, min(most, LOADED_BYTES_MAX // max(m.load.size, 1)))


async def _loaded_streams(m: Measurement) -> list[tuple[str, int]]:
    """Make streams with a consumer, and store what will be read, in equal parts."""
    names = await _streams(m)
    count = _loaded(m)
    parts = [count // len(names) + (number < count % len(names)) for number in range(len(names))]
    for name, part in zip(names, parts, strict=True):
        await m.client.create_consumer(name, CONSUMER)
        results = await m.client.publish_many(name, itertools.repeat(m.payload, part), subject=SUBJECT)
        results.raise_first()
    return list(zip(names, parts, strict=True))


async def publish(m: Measurement) -> None:
    """Publish: a message a call, or `batch` of them."""
    names = itertools.cycle(await _streams(m))

    async def call(most: int, task: int) -> tuple[int, int]:
        name = next(names)
        if m.load.batch == 1:
            await m.client.publish(name, SUBJECT, m.payload)
        else:
            (await m.client.publish_many(name, [m.payload] * most, subject=SUBJECT)).raise_first()
        return most, most * m.load.size

    await m.drive(call, m.load.batch)


async def fetch(m: Measurement) -> None:
    """Fetch and acknowledge: `batch` messages a call; the call ends with the durable acknowledgement."""
    names = [name for name, part in await _loaded_streams(m) if part]

    async def call(most: int, task: int) -> tuple[int, int]:
        for turn in range(len(names)):
            messages = await m.client.fetch(names[(task + turn) % len(names)], CONSUMER, most)
            if messages:
                confirmed = [message.ack() for message in messages]
                await confirmed[-1]
                return len(messages), sum(len(message.payload) for message in messages)
        return 0, 0

    await m.drive(call, m.load.batch)


async def replay(m: Measurement) -> None:
    """Subscribe to streams that are full, and acknowledge as it comes."""
    loaded = await _loaded_streams(m)

    async def read(name: str, part: int) -> None:
        async with m.client.subscribe(name, CONSUMER, prefetch=4_096, limit=part) as subscription:
            async for batch in subscription.batches():
                m.add(len(batch), sum(len(message.payload) for message in batch))
                batch.ack()
                if m.is_over():
                    return

    m.begin()
    await together([read(name, part) for name, part in loaded if part])


async def consume(m: Measurement) -> None:
    """Publish and subscribe at once; a duration is that from the call of the publish to the message."""
    names = await _streams(m)
    for name in names:
        await m.client.create_consumer(name, CONSUMER)
    rest, turns = bytes(m.load.size - _STAMP.size), itertools.cycle(names)
    published, is_all, all_arrived = 0, False, asyncio.Event()

    async def produce() -> None:
        nonlocal published
        while most := m.take(m.load.batch):
            payloads = [_STAMP.pack(time.monotonic_ns()) + rest] * most
            (await m.client.publish_many(next(turns), payloads, subject=SUBJECT)).raise_first()
            published += most

    async def receive(subscription: Subscription) -> None:
        async with subscription:
            async for batch in subscription.batches():
                now_ns = time.monotonic_ns()
                for message in batch:
                    m.figures.durations.add(now_ns - _STAMP.unpack_from(message.payload)[0])
                m.add(len(batch), len(batch) * m.load.size)
                batch.ack()
                if is_all and m.figures.messages >= published:
                    all_arrived.set()

    async def produce_all() -> None:
        nonlocal is_all
        await together([produce() for _ in range(m.load.tasks)])
        is_all = True
        if m.figures.messages < published:
            async with asyncio.timeout(LAST_S):
                await all_arrived.wait()
        m.end()

    m.begin()
    receivers = [receive(m.client.subscribe(name, CONSUMER, prefetch=4_096)) for name in names]
    await until_first(produce_all(), receivers)


# ---------------------------------------------------------------- keys, objects, queues


async def _bucket(m: Measurement) -> Any:
    m.made(f"the bucket {m.name}", lambda: m.client.delete_bucket(m.name))
    return await m.client.kv(m.name, create=True)


async def kv_put(m: Measurement) -> None:
    """Put keys, one a call."""
    bucket, numbers = await _bucket(m), itertools.count()

    async def call(_: int, task: int) -> tuple[int, int]:
        await bucket.put(f"key.{next(numbers) % KEYS}", m.payload)
        return 1, m.load.size

    await m.drive(call)


async def kv_get(m: Measurement) -> None:
    """Get keys, one a call."""
    bucket, numbers = await _bucket(m), itertools.count()
    keys = min(_loaded(m), KEYS)
    await asyncio.gather(*(bucket.put(f"key.{number}", m.payload) for number in range(keys)))

    async def call(_: int, task: int) -> tuple[int, int]:
        entry = await bucket.get(f"key.{next(numbers) % keys}")
        return 1, len(entry.value)

    await m.drive(call)


async def _objects(m: Measurement) -> Any:
    m.made(f"the bucket of objects {m.name}", lambda: m.client.delete_stream(f"obj:{m.name}"))
    return await m.client.objects(m.name, create=True)


async def obj_put(m: Measurement) -> None:
    """Put objects, one a call, in place of older ones."""
    store, numbers = await _objects(m), itertools.count()

    async def call(_: int, task: int) -> tuple[int, int]:
        await store.put(f"object-{next(numbers) % OBJECTS}", m.payload)
        return 1, m.load.size

    await m.drive(call)


async def obj_get(m: Measurement) -> None:
    """Get objects, one a call."""
    store, numbers = await _objects(m), itertools.count()
    objects = min(_loaded(m, OBJECTS), OBJECTS)
    for number in range(objects):
        await store.put(f"object-{number}", m.payload)

    async def call(_: int, task: int) -> tuple[int, int]:
        return 1, len(await store.get(f"object-{next(numbers) % objects}"))

    await m.drive(call)


async def _queue(m: Measurement) -> Any:
    queue = m.client.queue(m.name)
    m.made(f"the queue {m.name}", queue.delete)
    await queue.create()
    return queue


async def push(m: Measurement) -> None:
    """Push values onto a queue: one a call, or `batch` of them."""
    queue = await _queue(m)

    async def call(most: int, task: int) -> tuple[int, int]:
        await (queue.append(m.payload) if m.load.batch == 1 else queue.extend([m.payload] * most))
        return most, most * m.load.size

    await m.drive(call, m.load.batch)


async def pop(m: Measurement) -> None:
    """Pop values from a queue: one a call, or up to `batch` of them."""
    queue = await _queue(m)
    left = _loaded(m)
    while left:
        part = min(left, PART)
        await queue.extend([m.payload] * part)
        left -= part

    async def call(most: int, task: int) -> tuple[int, int]:
        if m.load.batch > 1:
            values = await queue.take(most)
        else:
            try:
                values = [await queue.popleft()]
            except IndexError:
                values = []
        return len(values), sum(map(len, values))

    await m.drive(call, m.load.batch)


KINDS: Final[dict[str, Kind]] = {
    "publish": Kind("publish messages", MESSAGE_BYTES, publish),
    "consume": Kind("publish and receive at once, from publish to message", MESSAGE_BYTES, consume, _STAMP.size),
    "fetch": Kind("fetch and acknowledge what is stored", MESSAGE_BYTES, fetch),
    "replay": Kind("receive what is stored by subscription", MESSAGE_BYTES, replay),
    "kv-put": Kind("put keys", MESSAGE_BYTES, kv_put),
    "kv-get": Kind("get keys", MESSAGE_BYTES, kv_get),
    "obj-put": Kind("put objects", OBJECT_BYTES, obj_put),
    "obj-get": Kind("get objects", OBJECT_BYTES, obj_get),
    "push": Kind("push values onto a queue", MESSAGE_BYTES, push),
    "pop": Kind("pop values from a queue", MESSAGE_BYTES, pop),
}
"""By name, in the order of the help."""
