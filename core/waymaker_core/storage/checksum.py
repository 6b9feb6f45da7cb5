"""CRC32C, the one checksum of every format (Castagnoli's polynomial; hardware computes it).

`crc32c(data)` of whole bytes, `extend(crc, data)` to continue with more. Both take `bytes` only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import google_crc32c

crc32c: Final[Callable[[bytes], int]] = google_crc32c.value
extend: Final[Callable[[int, bytes], int]] = google_crc32c.extend
