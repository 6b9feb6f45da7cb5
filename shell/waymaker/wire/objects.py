"""Objects as the contract's messages, from the metadata that the node stores."""

from __future__ import annotations

from typing import Final, NamedTuple

from waymaker_core.model.message_codec import decode_body, varint
from waymaker_core.objects.metadata import Metadata, decode_metadata
from waymaker_core.objects.names import name_of
from waymaker_proto import waymaker_streams_pb2 as pb

_DATA_TAG: Final = varint(pb.GetObjectStreamFrame.DESCRIPTOR.fields_by_name["data"].number << 3 | 2)
assert (
    pb.PutObjectStreamFrame.DESCRIPTOR.fields_by_name["data"].number
    == pb.GetObjectStreamFrame.DESCRIPTOR.fields_by_name["data"].number
)


class Found(NamedTuple):
    """One revision of an object, as it was read."""

    name: str
    revision: int
    time_ms: int
    headers: list[tuple[str, str]]
    metadata: Metadata

    @property
    def total_bytes(self) -> int:
        """Return the length of the payload."""
        return self.metadata.chunks.total_bytes


def data_frame(data: bytes | memoryview) -> bytes:
    """Encode a frame of an upload or a download that carries data; a message would copy it once more."""
    return b"".join((_DATA_TAG, varint(len(data)), data))


def found_object(message: tuple[int, int, bytes]) -> Found:
    """Return what a metadata message says, given as sequence, time and stored body. ValueError where it says nothing."""
    seq, time_ms, body = message
    subject, headers, payload = decode_body(body)
    return Found(name_of(subject), seq, time_ms, headers, decode_metadata(payload))


def object_info_pb(found: Found) -> pb.ObjectInfo:
    """Return an object without its payload."""
    metadata = found.metadata
    return pb.ObjectInfo(
        name=found.name,
        total_bytes=metadata.chunks.total_bytes,
        chunk_size=metadata.chunk_size if metadata.chunks.count else 0,
        chunk_count=metadata.chunks.count,
        sha256=metadata.sha256.hex(),
        ts_ms=found.time_ms,
        headers=[pb.MessageHeader(key=key, value=value) for key, value in found.headers],
        metadata_seq=found.revision,
        deduped=metadata.shared,
    )


def revision_pb(found: Found) -> pb.ObjectRevisionEntry:
    """Return one revision in the list of an object's revisions."""
    metadata = found.metadata
    if metadata.deleted:
        return pb.ObjectRevisionEntry(metadata_seq=found.revision, deleted=True)
    return pb.ObjectRevisionEntry(
        metadata_seq=found.revision,
        total_bytes=metadata.chunks.total_bytes,
        chunk_count=metadata.chunks.count,
        sha256=metadata.sha256.hex(),
        ts_ms=found.time_ms,
    )
