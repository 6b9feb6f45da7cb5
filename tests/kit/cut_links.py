"""Links between servers that can be cut: a TCP proxy for each direction of each pair, on a thread of its own.

A cut link takes connections and bytes, and delivers neither; healing ends what was cut, as a network that lost it would.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterable
from typing import Any

from tests.kit.real_server import free_port

Pair = tuple[int, int]


class CutLinks:
    """All links of some servers. `targets` are the ports that the servers listen on, by number."""

    def __init__(self, targets: dict[int, int]) -> None:
        self._targets = targets
        pairs = [(a, b) for a in targets for b in targets if a != b]
        self.ports = {pair: free_port() for pair in pairs}
        self._cut: set[Pair] = set()
        self._open: dict[Pair, set[asyncio.StreamWriter]] = {pair: set() for pair in pairs}
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()
        self._run(self._listen())

    def cut(self, pairs: Iterable[Pair]) -> None:
        """Deliver nothing on these directions, until `heal`."""
        self._cut |= set(pairs)

    def isolate(self, node: int) -> None:
        """Cut a server off from all others, in both directions."""
        self.cut(pair for pair in self.ports if node in pair)

    def heal(self) -> None:
        """Let every link work again; what was on a cut one is lost with its connections."""
        self._run(self._heal())

    def close(self) -> None:
        """End all links, and the thread."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ------------------------------------------------------------ on the thread

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        for pair, port in self.ports.items():

            def serve(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: Pair = pair
            ) -> asyncio.Task[None]:
                return self._loop.create_task(self._serve(pair, reader, writer))

            self._servers.append(await asyncio.start_server(serve, "127.0.0.1", port))

    async def _serve(self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = self._open[pair]
        writers.add(writer)
        there = None
        with contextlib.suppress(OSError, asyncio.CancelledError):
            back, there = await asyncio.open_connection("127.0.0.1", self._targets[pair[1]])
            writers.add(there)
            await asyncio.wait(
                [
                    self._loop.create_task(self._pass_on(pair, reader, there)),
                    self._loop.create_task(self._pass_on(pair, back, writer)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        for each in (writer, there):
            if each is not None:
                writers.discard(each)
                each.transport.abort()

    async def _pass_on(self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if pair not in self._cut:
                    writer.write(data)
                    await writer.drain()

    async def _heal(self) -> None:
        for pair in self._cut:
            for writer in list(self._open[pair]):
                writer.transport.abort()
        self._cut.clear()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for writers in self._open.values():
            for writer in list(writers):
                writer.transport.abort()
        for _ in range(3):
            await asyncio.sleep(0.05)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
