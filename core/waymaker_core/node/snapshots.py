"""Snapshots: the catalogue's and a stream's whole state as the meta of a checkpoint's frame, and back.

The catalogue's state is the records that would make its lives, in the one encoding that records have.
"""

from __future__ import annotations

from waymaker_core.catalogue import Catalogue
from waymaker_core.node.hosted import Hosted
from waymaker_core.records import StreamCreated
from waymaker_core.store import record_codec
from waymaker_core.store.checkpoint import decode_state, encode_state
from waymaker_core.store.errors import CorruptRecord
from waymaker_core.types import Now


def encode_catalogue(catalogue: Catalogue) -> bytes:
    """Committed lives, and the next id of one."""
    lives = [[life.account, record_codec.encode(record)] for life, record in catalogue.snapshot()]
    return encode_state([catalogue.next_id, record_codec.VERSION, lives])


def decode_catalogue(meta: bytes, into: Catalogue) -> None:
    """Fill an empty catalogue. `CorruptRecord` where the bytes are no such state."""
    match decode_state(meta):
        case [int(next_id), int(version), list(lives)]:
            for life in lives:
                match life:
                    case [str(account), bytes(encoded)]:
                        record = record_codec.decode(StreamCreated.KIND, version, encoded)
                        assert isinstance(record, StreamCreated), "its own kind's codec gives it"
                        into.apply(record, account)
                    case _:
                        raise CorruptRecord("not a life of a stream")
            into.next_id = max(into.next_id, next_id)
        case _:
            raise CorruptRecord("not a state of the catalogue")


def encode_stream(hosted: Hosted, now: Now) -> bytes:
    """A stream and its consumers, at the stream's position."""
    return encode_state([hosted.stream.snapshot(), hosted.consumers.snapshot(now)])


def decode_stream(meta: bytes) -> tuple[object, object]:
    """The snapshots of a stream and of its consumers; `CorruptRecord` where the bytes are no such state."""
    match decode_state(meta):
        case [stream, consumers]:
            return stream, consumers
    raise CorruptRecord("not a state of a stream")
