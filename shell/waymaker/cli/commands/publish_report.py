"""The fate of many published lines, told so that a loader can go on: what was stored, which lines were not, and why.

Responsible for the words of `waymaker pub` about many messages. Every line that was taken and not stored is named, so that
nothing has to be guessed; everything behind the last stored line is still to be published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from waymaker.cli import exits, output
from waymaker.cli.failure import CommandError, exit_code_of

if TYPE_CHECKING:
    from waymaker.cli.input.line_messages import LineMessages
    from waymaker.client.errors import WaymakerError
    from waymaker.client.producer.results import PublishResults

GROUPS_SHOWN = 100


class Report:
    """The outcome of publishing lines. `stopped`: what ended it before the last line."""

    def __init__(
        self, stream: str, source: LineMessages, results: PublishResults, stopped: WaymakerError | CommandError | None
    ) -> None:
        self.stream = stream
        self.source = source
        self.results = results
        self.failures = results.failures
        self.stopped = stopped

    @property
    def next_line(self) -> int:
        """Return the line behind the last one that was stored: where to go on."""
        last = len(self.results) - 1
        while last >= 0 and last in self.failures:
            last -= 1
        return self.source.line_of(last) + 1 if last >= 0 else self.source.line_of(0)

    @property
    def exit_code(self) -> int:
        return exits.OK if not self.failures else exit_code_of(self.failures[min(self.failures)])

    def tell(self, as_json: bool) -> None:
        """Print it: the last sequence or the JSON to standard output, the rest to standard error."""
        last = f", the last as {self.results.last_seq:,}" if self.stopped and self.results.stored else ""
        output.note(f"{self.results.stored:,} message(s) stored in {self.stream}{last}")
        if as_json:
            click.echo(output.to_json(self._summary()))
        elif self.results.stored:
            click.echo(str(self.results.last_seq))
        groups = self._groups()
        for first, end, error in groups[:GROUPS_SHOWN]:
            lines = f"line {first}" if first == end else f"lines {first} to {end}"
            unknown = "; it may be stored all the same" if error.outcome == "unknown" else ""
            output.note(f"{lines} not stored: {error.message} ({error.code}){unknown}")
        if len(groups) > GROUPS_SHOWN:
            output.note(f"... and {len(groups) - GROUPS_SHOWN:,} more; --json names them all")

    def _groups(self) -> list[tuple[int, int, WaymakerError]]:
        """Group messages that failed alike: first line, last line, error."""
        groups: list[tuple[int, int, WaymakerError]] = []
        previous = -2
        for index in sorted(self.failures):
            error, line = self.failures[index], self.source.line_of(index)
            alike = groups and index == previous + 1 and _same(groups[-1][2], error)
            if alike:
                groups[-1] = (groups[-1][0], line, error)
            else:
                groups.append((line, line, error))
            previous = index
        return groups

    def _summary(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "stream": self.stream,
            "stored": self.results.stored,
            "failed": len(self.failures),
            "last_seq": self.results.last_seq,
        }
        if self.failures:
            out["failures"] = [self._failure(index) for index in sorted(self.failures)]
        if self.stopped is not None:
            out["next_line"] = self.next_line
        return out

    def _failure(self, index: int) -> dict[str, Any]:
        error = self.failures[index]
        told = {"message": index + 1, "line": self.source.line_of(index), "code": error.code, "text": error.message}
        return told | ({"outcome": error.outcome} if error.outcome == "unknown" else {})


def _same(one: WaymakerError, other: WaymakerError) -> bool:
    return (one.code, one.message, one.outcome) == (other.code, other.message, other.outcome)
