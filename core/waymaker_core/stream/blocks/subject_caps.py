"""`max_msgs_per_subject`: which message is deleted when a subject has one too many.

For the subjects in use it remembers the live sequences of the projection, oldest first. That is a cache: it is made
anew from postings and overlay, and forgotten whenever something changes that it does not follow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

SUBJECTS_MAX = 100_000
"""Subjects remembered at once."""


@dataclass(slots=True, eq=False)
class SubjectCaps:
    """Live sequences of the projection by subject."""

    queues: dict[str, deque[int]] = field(default_factory=dict)

    def forget(self) -> None:
        """Forget everything after a change that the cache does not follow."""
        if self.queues:
            self.queues = {}

    def evict_oldest(self) -> None:
        """Evict the oldest subjects; called between decisions."""
        if len(self.queues) > SUBJECTS_MAX:
            self.queues = {}

    def push(
        self, subject: str, seq: int, cap: int, live_at: Callable[[str], list[int]], is_live: Callable[[int], bool]
    ) -> list[int] | None:
        """Add an appended message. Return the sequences that it pushes out, oldest first, or None.

        `live_at` lists what is live at a subject, without this message; `is_live` judges one of those.
        """
        queue = self.queues.get(subject)
        if queue is None:
            queue = self.queues[subject] = deque(live_at(subject))
        queue.append(seq)
        if len(queue) <= cap:
            return None
        # Limits of age, count and bytes remove the oldest at a subject first: what they took is at the front.
        while not is_live(queue[0]):
            queue.popleft()
        return [queue.popleft() for _ in range(len(queue) - cap)]

    def dropped(self, subject: str, seq: int) -> None:
        """Remove a message that was deleted out of order (a work queue's)."""
        queue = self.queues.get(subject)
        if queue is not None and seq in queue:
            queue.remove(seq)
