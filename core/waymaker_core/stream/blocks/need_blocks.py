"""The exception of a search or decision that needs an index which is not resident."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class NeedBlocks(Exception):
    """Some sealed blocks' indexes must be resident before this can be answered; nothing was changed or staged.

    The caller loads every one of `blocks` that is not resident (`index_location`, `load_index`), keeps all
    of them resident until it has asked again, and asks again: it may then need further ones beside these.
    """

    def __init__(self, blocks: list[int]) -> None:
        super().__init__(f"indexes of blocks {blocks[:8]} are not resident")
        self.blocks = blocks
