"""A server as a process: from its configuration to its exit code.

Start: credentials and ports first, because they are the quickest to be wrong; then the data directory, its lock and its
recovery, off the event loop; then calls are served. Stop: on SIGTERM or SIGINT the server drains within its grace period; a
second signal ends the process at once, which loses nothing that was confirmed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from waymaker import event_loop
from waymaker.server.auth.tokens import Tokens, TokensError
from waymaker.server.config import AUTO, Address, ServerConfig, unknown_settings
from waymaker.server.grpc.listener import StartError
from waymaker.server.logs import configure_logs
from waymaker.server.node_runner import NodeRunner
from waymaker.server.server import Listeners, Server
from waymaker.storage.lock import DirectoryLocked
from waymaker.storage.store import FileStore
from waymaker_core import is_compiled
from waymaker_core.api.effects import Halt
from waymaker_core.cluster.member import Member, open_member
from waymaker_core.model.disk_ops import DiskFailure
from waymaker_core.model.types import Now
from waymaker_core.node import Node, NodeConfig, open_node
from waymaker_core.storage.errors import StoreRefused

EXIT_DRAINED: Final = 0
EXIT_UNFINISHED: Final = 1
"""The drain did not end within the grace period: what was not answered may or may not have happened."""
EXIT_FAILED: Final = 3
"""The node stopped by itself, because it could not promise durability any more."""

__all__ = ["EXIT_DRAINED", "EXIT_FAILED", "EXIT_UNFINISHED", "Running", "StartError", "serve", "serve_blocking"]

_WATCH_S: Final = 1.0
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger("waymaker.server")


_ARENA_MAX: Final = -8
"""The name of glibc's parameter, from its malloc.h."""


class Running(NamedTuple):
    """A server that is ready: where it listens and where it keeps its data."""

    address: Address
    metrics_address: Address | None
    data_dir: Path
    version: str


def serve_blocking(config: ServerConfig, on_ready: Callable[[Running], None] | None = None) -> int:
    """Serve until told to stop; the exit code. Raises `StartError` with a message for people."""
    _keep_standard_descriptors()
    _bound_arenas()
    return event_loop.run(serve(config, on_ready), config.event_loop == AUTO)


async def serve(config: ServerConfig, on_ready: Callable[[Running], None] | None = None) -> int:
    """Serve on this event loop, of the main thread, until a signal; the exit code. Raises `StartError`."""
    log_writer = configure_logs(config.log_format, config.log_level)
    try:
        return await _serve(config, on_ready)
    finally:
        log_writer.wait_until_written()


def _keep_standard_descriptors() -> None:
    """Fill what was closed before we began: else a file of data, or a connection, would get a number that is printed to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _bound_arenas() -> None:
    """Let all threads share two arenas of glibc's allocator; another one is left alone.

    Bodies of megabytes are made on one thread and freed on another. With an arena for each thread they leave holes that hold a
    hundred megabytes, and no bound of ours counts them.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 2)


def _give_up_broken_outputs() -> None:
    """Throw away what a stream that cannot be written to still holds: the interpreter would fail on it at its exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, stream.fileno())
            os.close(devnull)
            stream.flush()


async def _serve(config: ServerConfig, on_ready: Callable[[Running], None] | None) -> int:
    if ignored := unknown_settings(os.environ):
        log.warning("environment_variables_ignored", names=ignored, meaning="they are not settings of this server")
    stop = _Stop()
    tokens = _load_tokens(config)
    listeners = Listeners(config)
    store: FileStore | None = None
    try:
        store = _open_store(config)
        node = await _recover(config, store)
        server = Server(config, listeners, node, store, tokens, version())
        stop.on_reload(lambda: _reload_tokens(config, server))
        await server.start()
        running = Running(
            listeners.address,
            listeners.operators.address if listeners.operators is not None else None,
            config.data_dir,
            version(),
        )
        _announce(config, running)
        if on_ready is not None:
            try:
                on_ready(running)
            except OSError as error:  # the reader of the announcement has left
                log.warning("not_announced", problem=error.strerror)
                _give_up_broken_outputs()
        watching = asyncio.create_task(_watch_directory(store, server.runner))
        try:
            return await _until_stopped(config, server, stop)
        finally:
            watching.cancel()
    finally:
        stop.restore()
        await listeners.close()
        if store is not None:
            await asyncio.get_running_loop().run_in_executor(None, store.close)


def version() -> str:
    """Return the version of this distribution, with `+compiled` where its core is."""
    try:
        return distribution_version("waymaker-streams") + ("+compiled" if is_compiled() else "")
    except PackageNotFoundError:
        return "unknown"


# ---------------------------------------------------------------- starting


def _load_tokens(config: ServerConfig) -> Tokens | None:
    if config.tokens is None:
        return None
    try:
        return Tokens.load(config.tokens)
    except TokensError as error:
        raise StartError(f"tokens: {error}") from None


def _reload_tokens(config: ServerConfig, server: Server) -> None:
    """Reload the token file. One that cannot be used changes nothing: better yesterday's tokens than none."""
    if config.tokens is None:
        return
    try:
        tokens = Tokens.load(config.tokens)
    except TokensError as error:
        log.error("tokens_not_reloaded", problem=str(error))
    else:
        server.authenticator.change_tokens(tokens)
        log.info("tokens_reloaded", tokens=len(tokens))


def _open_store(config: ServerConfig) -> FileStore:
    try:
        return FileStore(config.data_dir, config.cache_bytes)
    except DirectoryLocked as error:
        raise StartError(str(error)) from None
    except OSError as error:
        raise StartError(f"data directory {config.data_dir} cannot be used: {error.strerror}") from None


async def _recover(config: ServerConfig, store: FileStore) -> Node | Member:
    """Return the node that the directory holds. Recovery reads a lot, so it runs beside the loop."""
    settings = NodeConfig(
        node_id=config.node_id,
        identity=os.urandom(16),
        limits=config.limits,
        sync_interval_ms=config.sync_interval_ms if config.sync == "interval" else 0,
    )
    now = Now(time.monotonic_ns(), time.time_ns() // 1_000_000)
    drive: Callable[[], Node | Member]
    if config.cluster is None:
        drive = partial(store.drive, open_node(settings, now))
    else:
        ids = tuple(each.node_id for each in config.cluster)
        settings = replace(settings, member=True, members=ids, replication_factor=config.replicas)
        drive = partial(store.drive, open_member(settings, now, seed=int.from_bytes(os.urandom(8))))
    started = time.monotonic()
    try:
        opened: Node | Member = await asyncio.get_running_loop().run_in_executor(None, drive)
    except (StoreRefused, DiskFailure) as error:
        raise StartError(
            f"data directory {config.data_dir} cannot be opened: {error}. Nothing was changed. "
            f"`waymaker check {config.data_dir}` tells more"
        ) from None
    node = opened.node if isinstance(opened, Member) else opened
    members = node.catalog_members()
    if config.cluster is None and members is not None and members.position:
        # Alone it would decide what the others never hear of, and its log would part from theirs.
        raise StartError(
            f"data directory {config.data_dir} belongs to a member of a cluster; start it with the cluster's settings "
            "(--cluster, --node-id)"
        )
    log.info(
        "recovered",
        milliseconds=int((time.monotonic() - started) * 1000),
        records=node.stats.recovered_records,
        cut_bytes=node.stats.recovered_bytes_cut,
        streams=node.stats.streams,
        quarantined=node.stats.quarantined_streams,
    )
    return opened


def _announce(config: ServerConfig, running: Running) -> None:
    log.info(
        "server_ready",
        address=str(running.address),
        metrics=str(running.metrics_address or ""),
        data_dir=str(config.data_dir),
        tls=config.tls_cert is not None,
        tokens=config.tokens is not None,
        sync=config.sync,
        version=running.version,
    )
    if config.sync == "interval":
        log.warning(
            "sync_relaxed",
            meaning="what is confirmed may be lost with the machine",
            sync_interval_ms=config.sync_interval_ms,
        )
    if not config.listen.is_loopback and config.insecure_listen_anywhere:
        log.warning(
            "listening_insecurely", meaning="whoever reaches the port owns the data", address=str(running.address)
        )


# ---------------------------------------------------------------- stopping


class _Stop:
    """Signals of this process. The second one that asks to stop is not answered by us but by the system."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.asked: asyncio.Future[str] = self._loop.create_future()
        for number in _STOP_SIGNALS:
            self._loop.add_signal_handler(number, self._ask, number)
        self._loop.add_signal_handler(signal.SIGHUP, lambda: None)

    def _ask(self, number: signal.Signals) -> None:
        if not self.asked.done():
            self.asked.set_result(number.name)
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def on_reload(self, function: Callable[[], None]) -> None:
        """Set what SIGHUP does."""
        self._loop.add_signal_handler(signal.SIGHUP, function)

    def restore(self) -> None:
        """Give the signals back."""
        for number in (*_STOP_SIGNALS, signal.SIGHUP):
            self._loop.remove_signal_handler(number)


async def _watch_directory(store: FileStore, runner: NodeRunner) -> None:
    """Halt where the data directory is not the one that was opened. Each commit looks too; this is for a server at rest."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_WATCH_S)
        if lost := await loop.run_in_executor(None, store.lost):
            runner.fail(lost)
            return


async def _until_stopped(config: ServerConfig, server: Server, stop: _Stop) -> int:
    ends: list[asyncio.Future[Any]] = [stop.asked, server.runner.halted]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if server.runner.halted.done():
        return await _failed(server, server.runner.halted.result())
    log.info("draining", signal=stop.asked.result(), grace_ms=config.grace_ms)
    halt = await server.drain(config.grace_ms / 1000)
    if halt is None:
        log.error("drain_unfinished", grace_ms=config.grace_ms)
        return EXIT_UNFINISHED
    if not halt.clean:
        return await _failed(server, halt)
    log.info("drained")
    return EXIT_DRAINED


async def _failed(server: Server, halt: Halt) -> int:
    log.critical("node_halted", reason=halt.reason)
    server.listeners.condition.not_alive = "the node has stopped: " + halt.reason
    await server.close(0.5)
    return EXIT_FAILED
