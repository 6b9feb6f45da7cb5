"""Settings of a store: the bounds that its service keeps, as the bytes that its stream's settings hold.

The service refuses what would go beyond a bound. The stream's own limits would drop entries or values instead, so a store has
none.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.model.result_codes import INVALID_CONFIG, CodeError
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

VERSION: Final = 1
_LAYOUT: Final = struct.Struct("<BQQ")


class StoreSettings(NamedTuple):
    """Bytes and values that a store holds at most; 0: no bound."""

    max_bytes: int = 0
    max_values: int = 0

    def encode(self) -> bytes:
        """Return the settings as bytes; none where there is no bound. CodeError (`invalid_config`) for an impossible one."""
        for name, bound in (("max_bytes", self.max_bytes), ("max_messages", self.max_values)):
            if not 0 <= bound <= SEQ_MAX:
                raise CodeError(INVALID_CONFIG, f"{name} = {bound}; it must lie between 0 (no bound) and {SEQ_MAX}")
        return _LAYOUT.pack(VERSION, *self) if any(self) else b""


def decode_settings(data: bytes) -> StoreSettings:
    """Return the settings of a store. CorruptRecord, UnknownVersion."""
    if not data:
        return StoreSettings()
    if data[0] != VERSION:
        raise UnknownVersion("the settings of a store", data[0], VERSION)
    if len(data) != _LAYOUT.size:
        raise CorruptRecord(f"the settings of a store have {len(data)} bytes instead of {_LAYOUT.size}")
    _, max_bytes, max_values = _LAYOUT.unpack(data)
    return StoreSettings(max_bytes, max_values)
