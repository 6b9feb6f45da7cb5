"""Settings of a bucket, and the stream that they make: limits that refuse are the bucket's own, for a stream's would evict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from waymaker_core.api.kv_requests import BUCKET_PREFIX, KvCreateBucket
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import SEQ_MAX
from waymaker_core.model.result_codes import INVALID_CONFIG, CodeError
from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion

TOMBSTONE_MS_DEFAULT: Final = 24 * 3_600_000
"""Time that a tombstone stays, so that a watcher that was away for less learns of the end of its key."""
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Bounds that refuse, 0 for none; the longest life of a value; the time that a tombstone stays."""

    max_bytes: int = 0
    max_messages: int = 0
    max_age_ms: int = 0
    tombstone_ms: int = TOMBSTONE_MS_DEFAULT


def bucket_config(request: KvCreateBucket) -> StreamConfig:
    """Return the configuration of a new bucket's stream. CodeError (`invalid_config`) for numbers out of range."""
    for name in ("max_bytes", "max_messages", "max_value_size", "max_age_ms", "history", "tombstone_ms"):
        value = getattr(request, name)
        if not 0 <= value <= SEQ_MAX:
            raise CodeError(INVALID_CONFIG, f"{name} = {value}; it must lie between 0 (no bound) and {SEQ_MAX}")
    settings = BucketSettings(
        request.max_bytes, request.max_messages, request.max_age_ms, request.tombstone_ms or TOMBSTONE_MS_DEFAULT
    )
    return StreamConfig(
        BUCKET_PREFIX + request.bucket,
        max_msg_bytes=request.max_value_size,
        ephemeral=request.ephemeral,
        max_msgs_per_subject=request.history,
        service_settings=encode_settings(settings),
    )


def encode_settings(settings: BucketSettings) -> bytes:
    """Encode the settings that are not the stream's; empty for those of a bucket that was created as a stream."""
    if settings == BucketSettings():
        return b""
    values = [settings.max_bytes, settings.max_messages, settings.max_age_ms, settings.tombstone_ms]
    return encode_plain([_VERSION, *values])


def decode_settings(data: bytes) -> BucketSettings:
    """Decode what `encode_settings` returned. ValueError where it is something else."""
    if not data:
        return BucketSettings()
    match decode_plain(data):
        case [1, int(max_bytes), int(max_messages), int(max_age_ms), int(tombstone_ms)] if all(
            0 <= each <= SEQ_MAX for each in (max_bytes, max_messages, max_age_ms, tombstone_ms)
        ):
            return BucketSettings(max_bytes, max_messages, max_age_ms, tombstone_ms)
        case [int(version), *_] if version > _VERSION:
            raise UnknownVersion("the settings of a bucket", version, _VERSION)
    raise CorruptRecord("not the settings of a bucket")
