"""The table of epochs of a log: with which record each began. A function of the log, so that replicas have the same one.

Two logs agree up to the last record of the last epoch that both know. The table is bounded. A replica whose last epoch is older
than all of it cannot be compared, and is given a snapshot.
"""

from __future__ import annotations

from typing import Final

from waymaker_core.storage.errors import CorruptRecord

EPOCHS_KEPT: Final = 64
"""Epochs that a table remembers. With another one it forgets the oldest, for a longer absence is rare."""


class Epochs:
    """Epochs in order, each with the position of its first record."""

    __slots__ = ("starts",)

    def __init__(self) -> None:
        self.starts: list[tuple[int, int]] = []
        """(epoch, position of its first record); both ascend."""

    def begin(self, epoch: int, position: int) -> None:
        """Note that an epoch begins with the record at a position. ValueError where it is not later than the last one."""
        if self.starts and epoch <= self.starts[-1][0]:
            raise ValueError(f"epoch {epoch} follows epoch {self.starts[-1][0]}")
        self.starts.append((epoch, position))
        del self.starts[:-EPOCHS_KEPT]

    @property
    def last(self) -> int:
        """Return the epoch of the log's last record; 0 where no epoch was ever noted."""
        return self.starts[-1][0] if self.starts else 0

    def of(self, position: int) -> int | None:
        """Return the epoch of a record; None where it is older than all that the table remembers."""
        for epoch, start in reversed(self.starts):
            if start <= position:
                return epoch
        return None

    def end_of(self, epoch: int, last_position: int) -> int | None:
        """Return the position of the last record whose epoch is not later than this one; None where that is unknown."""
        if not self.starts or epoch < self.starts[0][0]:
            return None
        later = (start for known, start in self.starts if known > epoch)
        return next(later, last_position + 1) - 1

    def encode(self) -> object:
        """Encode the table as plain values."""
        return [list(each) for each in self.starts]

    def restore(self, value: object) -> None:
        """Fill an empty table from `encode`. `CorruptRecord` where it is none."""
        if not isinstance(value, list) or len(value) > EPOCHS_KEPT:
            raise CorruptRecord("not a table of epochs")
        for each in value:
            match each:
                case [int(epoch), int(position)] if epoch > self.last and position > self._last_start():
                    self.starts.append((epoch, position))
                case _:
                    raise CorruptRecord("not the beginning of an epoch")

    def _last_start(self) -> int:
        return self.starts[-1][1] if self.starts else 0
