"""One stream: an ordered log of messages, its limits, its indexes and the decisions about both.

`stream` holds the state and applies records. `admission` and `retention` decide and stage, `reads` see what is committed,
`relocation` moves bytes between files, `snapshot` encodes it all.
"""

from waymaker_core.stream.answers import BlockRelocation, CopyDecision, PublishDecision, Selection, UpdateDecision
from waymaker_core.stream.blocks.need_blocks import NeedBlocks
from waymaker_core.stream.config import updated, validate
from waymaker_core.stream.join import join_publishes
from waymaker_core.stream.stream import Stream

__all__ = [
    "BlockRelocation",
    "CopyDecision",
    "NeedBlocks",
    "PublishDecision",
    "Selection",
    "Stream",
    "UpdateDecision",
    "join_publishes",
    "updated",
    "validate",
]
