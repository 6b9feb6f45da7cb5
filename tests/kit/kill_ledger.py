"""The answers that the callers of a server got before it was killed, and the judgement of what it then holds.

The idea: a ledger of promises. Whatever was confirmed must be there; whatever was refused must not; whatever was
under way when the server died may be either, once. The ledger never looks at the server: it is given what callers
sent and received, and what a later read found, and says which promise was broken.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class History:
    """Promises of one stream, over all lives of its server."""

    attempted: dict[str, set[bytes]] = field(default_factory=dict)
    """By subject: every payload that was sent."""
    confirmed: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """By subject: what was confirmed, at which sequence."""
    holder: dict[int, bytes] = field(default_factory=dict)
    """By sequence: the payload that was ever confirmed or read there."""
    ack_confirmed_at: dict[int, int] = field(default_factory=dict)
    """By sequence: the moment at which its acknowledgement was confirmed."""
    ack_attempted: set[int] = field(default_factory=set)
    delivered: set[int] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    moment: int = 0

    def tick(self) -> int:
        """Return a moment later than every one before: callers stamp what they start and what they learn."""
        self.moment += 1
        return self.moment

    def publish_attempted(self, subject: str, payload: bytes) -> None:
        payloads = self.attempted.setdefault(subject, set())
        assert payload not in payloads, "payloads tell attempts apart"
        payloads.add(payload)

    def publish_confirmed(self, subject: str, seq: int, payload: bytes) -> None:
        self.confirmed.setdefault(subject, {})[seq] = payload
        self._holds(seq, payload)

    def acked(self, seq: int) -> None:
        self.ack_confirmed_at.setdefault(seq, self.tick())

    def received(self, seq: int, payload: bytes, asked_at: int) -> None:
        """Note a delivery that answers a request made at moment ``asked_at``."""
        self.delivered.add(seq)
        self._holds(seq, payload)
        if self.ack_confirmed_at.get(seq, asked_at) < asked_at:
            self.broken.append(f"sequence {seq} was delivered after its acknowledgement had been confirmed")

    def found(self, subject: str, messages: list[tuple[int, bytes]], *, removed: frozenset[int] = frozenset()) -> None:
        """Check a complete read of a subject. ``removed``: sequences that may be gone, a work queue's acknowledged ones."""
        stored = dict(messages)
        if len(stored) != len(messages) or [seq for seq, _ in messages] != sorted(stored):
            self.broken.append(f"{subject}: sequences repeat or are out of order")
        for seq, payload in self.confirmed.get(subject, {}).items():
            if seq not in stored and seq not in removed:
                self.broken.append(f"{subject}: sequence {seq} was confirmed and is missing")
            elif seq in stored and stored[seq] != payload:
                self.broken.append(f"{subject}: sequence {seq} holds something else than was confirmed")
        payloads = [payload for _, payload in messages]
        if len(set(payloads)) != len(payloads):
            self.broken.append(f"{subject}: something that was published once is stored twice")
        for seq, payload in messages:
            self._holds(seq, payload)
            if payload not in self.attempted.get(subject, set()):
                self.broken.append(f"{subject}: sequence {seq} holds what nobody published")

    def gone_for_good(self, stored: list[int]) -> None:
        """Require, for a work queue, that nothing acknowledged is still stored."""
        for seq in stored:
            if seq in self.ack_confirmed_at:
                self.broken.append(f"sequence {seq} is stored although its acknowledgement was confirmed")

    def all_delivered(self) -> None:
        """Require, after a consumer has drained the stream, that it got all that was confirmed."""
        for subject, messages in self.confirmed.items():
            for seq in messages:
                if seq not in self.delivered and seq not in self.ack_attempted:
                    self.broken.append(f"{subject}: sequence {seq} was confirmed and never delivered")

    def _holds(self, seq: int, payload: bytes) -> None:
        if self.holder.setdefault(seq, payload) != payload:
            self.broken.append(f"sequence {seq} was given twice: {self.holder[seq][:40]!r} and {payload[:40]!r}")
