"""`max_msgs_per_subject`: which message goes when a subject has one too many.

For the subjects in use it remembers the live sequences of the projection, oldest first. That is a cache: it is made anew
from postings and tail, and forgotten whenever something it was not told of changes.
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
        """Something changed that was not told here."""
        if self.queues:
            self.queues = {}

    def evict_oldest(self) -> None:
        """Called between decisions."""
        if len(self.queues) > SUBJECTS_MAX:
            self.queues = {}

    def push(
        self, subject: str, seq: int, cap: int, live_at: Callable[[str], list[int]], is_live: Callable[[int], bool]
    ) -> list[int] | None:
        """A message is appended: the sequences it pushes out, oldest first, or None.

        `live_at` lists what lives at a subject, without this message; `is_live` judges one of those.
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
        """A message was deleted out of order (a work queue's)."""
        queue = self.queues.get(subject)
        if queue is not None and seq in queue:
            queue.remove(seq)
