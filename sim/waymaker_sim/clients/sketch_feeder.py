"""The feeder of sketches: publishes to a stream of its own, which two sketches count, and compares them with one process.

Nothing is ever removed from its stream, and no other client knows it. So the messages up to a position never change, and
a sketch must be, to the byte, the one that adds the items of these messages. What an item is, is said here a second time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from waymaker_core.api.requests import CreateStream, GetStreamInfo, Publish, Published, ReadRange, Request, StreamInfo
from waymaker_core.api.sketch_requests import GetSketchInfo, GetSketchSnapshot, SketchInfo
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.config import SourceConfig, StreamConfig
from waymaker_core.model.message_codec import decode_body, payload_field, subject_field
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_core.sketches.parameters import parameters_of
from waymaker_core.sketches.t_digest import TDigest
from waymaker_sim.clients.client_view import Ask, ClientView
from waymaker_sim.history.copying import NO_REPLICA
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.observations import Asker, Seen, SeenStream
from waymaker_sim.machine.process import ReceivedMessage, StepId

SOURCE: Final = "e0"
SKETCHES: Final = ("sketch:e1", "sketch:e2")
SETTINGS: Final = (
    b"count_min.100000000.100000000",
    b"t_digest.20/payload",
    b"count_min.100000000.100000000/token.2",
    b"t_digest.20/token.2",
    b"count_min.100000000.100000000/payload",
    b"hyperloglog.4/payload",
    b"bloom.20.100000000/token.1",
)
SUBJECTS: Final = ("a.1", "a.b", "a", "a.22.x")
PAYLOADS: Final = (b"7", b"", b"-0.5e1", b"none", b"1e999", b"12")
MESSAGES_MAX: Final = 400
PAGE: Final = 5
"""Messages read at once: no world's page is smaller."""


class SketchFeeder:
    """Makes one call at a time, but for publishes; `busy` while a call is in flight."""

    def __init__(self, view: ClientView, track: Track) -> None:
        self.view = view
        self.track = track
        self.busy = False
        self._made: list[str] = []
        self._settings = {name: track.pick("settings", SETTINGS) for name in SKETCHES}
        self._asked = 0
        self._confirmed: dict[int, bytes] = {}
        """By sequence: messages whose publish was confirmed."""
        self._read: dict[int, bytes] = {}
        """By sequence: messages that were read; all up to the last one."""
        view.others += (SOURCE, *SKETCHES)

    # ------------------------------------------------------------ turns

    def act(self) -> None:
        """Make a call, or rest."""
        track = self.track
        track.begin()
        kind = track.weighted("feed", ((1, "rest"), (6, "publish"), (3, "look")))
        names = (SOURCE, *SKETCHES) if track.draw("source first", 2) == 0 else (*SKETCHES, SOURCE)
        missing = next((name for name in names if name not in self._made), "")
        if missing and not self.busy:
            self._make(missing)
        elif kind == "publish" and SOURCE in self._made and self._asked < MESSAGES_MAX:
            self._publish()
        elif kind == "look" and not self.busy and not missing:
            self._look(track.pick("sketch", SKETCHES))

    def _make(self, name: str) -> None:
        config = StreamConfig(name, block_size=10)
        if name != SOURCE:
            config = StreamConfig(name, service_settings=self._settings[name], sources=(SourceConfig(SOURCE),))

        def made(answer: Answer, got: list[ReceivedMessage]) -> None:
            if answer.code in (outcomes.OK, outcomes.ALREADY_EXISTS):
                self._made.append(name)

        self._ask(CreateStream(config), made)

    def _publish(self) -> None:
        track = self.track
        subjects = [track.pick("subject", SUBJECTS) for _ in range(track.between("messages", 1, 6))]
        payloads = [track.pick("payload", PAYLOADS) for _ in subjects]
        bodies = [subject_field(one) + payload_field(other) for one, other in zip(subjects, payloads, strict=True)]
        request = Publish(SOURCE, subjects, list(map(len, payloads)), list(map(len, bodies)), b"".join(bodies))

        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            if isinstance(answer, Answer):
                stored = isinstance(answer.value, Published) and not answer.value.failures
                require(stored, "answer allowed", f"a publish to the stream of the sketches ended with {answer!r}")
                assert isinstance(answer.value, Published)
                self._confirmed |= dict(enumerate(bodies, answer.value.first_seq))

        if self.view.ask(request, replied, lambda: None) is not None:
            self._asked += len(bodies)

    def _ask(self, request: Request, answered: Callable[[Answer, list[ReceivedMessage]], None]) -> None:
        """Make a call; a refusal and a lost answer end what was begun."""

        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            self.busy = False
            if isinstance(answer, Answer):
                answered(answer, got or [])

        def lost() -> None:
            self.busy = False

        self.busy = self.view.ask(request, replied, lost) is not None

    # ------------------------------------------------------------ comparing

    def _look(self, name: str) -> None:
        """Read a sketch with its figures before and after, and then the messages that it counts."""

        def before(answer: Answer, got: list[ReceivedMessage]) -> None:
            info = answer.value
            assert isinstance(info, SketchInfo)
            self._ask(GetSketchSnapshot(name), lambda answer, got: between(info, answer))

        def between(info: SketchInfo, answer: Answer) -> None:
            snapshot = answer.value
            assert isinstance(snapshot, bytes)
            self._ask(GetSketchInfo(name), lambda answer, got: after(info, snapshot, answer))

        def after(info: SketchInfo, snapshot: bytes, answer: Answer) -> None:
            assert isinstance(answer.value, SketchInfo)
            if _figures(info) == _figures(answer.value):
                self._compare_later(name, info, snapshot)

        self._ask(GetSketchInfo(name), before)

    def _compare_later(self, name: str, info: SketchInfo, snapshot: bytes) -> None:
        """Compare once all messages up to the sketch's position are read."""
        last = max(self._read, default=0)
        if last >= info.sources[0].last_sourced_seq:
            self._compare(name, info, snapshot)
            return

        def read(answer: Answer, got: list[ReceivedMessage]) -> None:
            self._read |= {message.seq: message.body for message in got}
            if got:
                self._compare_later(name, info, snapshot)
            else:
                # A sequence that was skipped may be passed over; one that is read was there when it was counted.
                self._compare(name, info, snapshot)

        self._ask(ReadRange(SOURCE, last + 1, PAGE), read)

    def _compare(self, name: str, info: SketchInfo, snapshot: bytes) -> None:
        position = info.sources[0].last_sourced_seq
        sketch = parameters_of(self._settings[name]).make()
        bodies = [body for seq, body in sorted(self._read.items()) if seq <= position]
        found = [_item(self._settings[name], body) for body in bodies]
        items = [item for item in found if item is not None]
        if isinstance(sketch, TDigest):
            sketch.add(list(map(float, items)))
        else:
            sketch.add(items)
        what = f"{name} at {position} of {SOURCE} has {info.added} values, {info.skipped} skipped"
        figures = (len(items), len(found) - len(items))
        require((info.added, info.skipped) == figures, "sketch sourced", f"{what}, not {figures}")
        require(snapshot == sketch.snapshot(), "sketch sourced", f"{what}, and is another sketch")
        self.view.mark("sketch of a stream compared")
        if info.skipped:
            self.view.mark("message skipped by a sketch")

    # ------------------------------------------------------------ at rest

    def lagging(self, asker: Asker) -> str:
        """Return which sketch has not reached the end of its source; empty if all have, or there is none."""
        answer, _ = asker.ask(GetStreamInfo(SOURCE))
        if not isinstance(answer, Answer) or not isinstance(answer.value, StreamInfo):
            return ""
        for name in SKETCHES if len(self._made) == 1 + len(SKETCHES) else ():
            found, _ = asker.ask(GetSketchInfo(name))
            if isinstance(found, Answer) and isinstance(found.value, SketchInfo):
                status, last = found.value.sources[0], answer.value.stats.last_seq
                if NO_REPLICA in status.last_error:
                    self.view.mark("source without a replica at hand")
                elif status.last_sourced_seq < last:
                    return f"{name} is at {status.last_sourced_seq} of {last}: {status.last_error!r}"
        return ""

    def check(self, seen: Seen, asker: Asker) -> None:
        """Compare the sketches with all messages of their source."""
        there = seen.get(SOURCE)
        if not isinstance(there, SeenStream):
            return
        self._read = {message.seq: message.body for message in there.messages}
        for seq, body in self._confirmed.items():
            require(self._read.get(seq) == body, "acked survives", f"{SOURCE} seq {seq} is not what was published")
        for name in SKETCHES:
            if not isinstance(seen.get(name), SeenStream) or name not in self._made:
                continue
            info, _ = asker.ask(GetSketchInfo(name))
            snapshot, _ = asker.ask(GetSketchSnapshot(name))
            if isinstance(info, Answer) and isinstance(snapshot, Answer):
                assert isinstance(info.value, SketchInfo) and isinstance(snapshot.value, bytes)
                self._compare(name, info.value, snapshot.value)


def _figures(info: SketchInfo) -> tuple[int, int, int]:
    return info.added, info.skipped, info.sources[0].last_sourced_seq


def _item(settings: bytes, body: bytes) -> bytes | None:
    """Return what a sketch of these settings adds of a message; None where it has none."""
    subject, _, payload = decode_body(body)
    text = settings.decode().partition("/")[2]
    tokens = subject.split(".")
    found: bytes | None = subject.encode()
    if text == "payload":
        found = payload
    elif text:
        number = int(text.removeprefix("token."))
        found = tokens[number - 1].encode() if number <= len(tokens) else None
    if found is None or not settings.startswith(b"t_digest"):
        return found
    return found if re.fullmatch(rb"-?[0-9.]+(e[0-9]{1,2})?", found) else None
