"""Logs: one event a line on standard error, JSON for machines or coloured text for people.

Events have stable names (`server_ready`, `drained`, `internal_error`) and plain fields. The libraries below us log through
the same writer. Payloads, subjects and tokens are never logged.

Writing a line never fails and never waits: a thread of its own writes to the descriptor, and a line that cannot be rendered,
queued or written is dropped and counted. A closed pipe, a full disk or a reader that stopped reading costs log lines and
nothing else.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog

_LEVELS: Final = {
    "debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR,
}  # fmt: skip
_WAITING_BYTES_MAX: Final = 4 << 20
"""Lines that wait for a slow reader of the log; further ones are dropped."""
_FLUSH_S: Final = 1.0


class Lost:
    """The count of log lines that were dropped, for the metrics."""

    def __init__(self) -> None:
        self.lines = 0

    def count(self, lines: int = 1) -> None:
        """Count dropped lines."""
        self.lines += lines


lost: Final = Lost()


class LogWriter:
    """A text stream for loggers that queues lines; a thread writes them to the descriptor of `stream`.

    A stream without a descriptor is written to at once. None stands for a standard error that was closed before the start.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._fd = _descriptor(stream)
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        if self._fd >= 0:
            threading.Thread(target=self._work, name="log", daemon=True).start()

    def isatty(self) -> bool:
        """Return True if people read along."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def write(self, text: str) -> int:
        """Take a line over."""
        try:
            if self._fd >= 0:
                self._queue(text.encode(errors="backslashreplace"))
            elif self._stream is not None:
                self._stream.write(text)
            else:
                lost.count()
        except Exception:  # whatever a log cannot do, its caller has more important things to do
            lost.count()
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread writes as fast as it can."""

    def wait_until_written(self, within_s: float = _FLUSH_S) -> None:
        """Wait for the queued lines, at the end of the process, as long as a reader may reasonably take."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while self._waiting_bytes and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _queue(self, line: bytes) -> None:
        with self._changed:
            if self._waiting_bytes + len(line) > _WAITING_BYTES_MAX:
                lost.count()
                return
            self._lines.append(line)
            self._waiting_bytes += len(line)
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._lines:
                    self._changed.wait()
                line = self._lines.popleft()
            try:
                _write_all(self._fd, line)
            except Exception:
                lost.count()
            with self._changed:
                self._waiting_bytes -= len(line)
                self._changed.notify_all()


def _descriptor(stream: TextIO | None) -> int:
    try:
        return stream.fileno() if stream is not None else -1
    except (OSError, ValueError):
        return -1


def _write_all(fd: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        try:
            written += os.write(fd, memoryview(data)[written:])
        except BlockingIOError:  # another process made the descriptor so
            time.sleep(0.01)


class _Guarded:
    """A chain of processors that drops and counts the event it cannot render."""

    def __init__(self, processors: list[Any]) -> None:
        self._processors = processors

    def __call__(self, logger: Any, name: str, event: MutableMapping[str, Any]) -> Any:
        done: Any = event
        try:
            for processor in self._processors:
                done = processor(logger, name, done)
        except structlog.DropEvent:
            raise
        except Exception:
            lost.count()
            raise structlog.DropEvent from None
        return done


class _Handler(logging.StreamHandler[Any]):
    """The handler of the libraries' events, save gRPC's account of a caller that left while its answer was being sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if the event is one."""
        kind = record.exc_info[0] if record.exc_info else None
        return (kind is None or kind.__name__ != "ExecuteBatchError") and bool(super().filter(record))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Count what could not be rendered, instead of printing about it."""
        lost.count()


def configure_logs(log_format: str, level: str, stream: TextIO | None = None) -> LogWriter:
    """Send our events and those of the libraries to `stream` (standard error)."""
    out = LogWriter(stream if stream is not None else sys.stderr)
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if console:
        render: list[Any] = [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # the richer one prints payloads among the locals
            )
        ]
    else:
        render = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=True)]
    structlog.configure(
        processors=[_Guarded([*shared, *render])],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(out),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    handler = _Handler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(_LEVELS[level], logging.WARNING))
    return out
