"""The calls about objects that are one request to the node: how their messages become requests, and answers become messages."""

from __future__ import annotations

from typing import Any

from waymaker.server.grpc.metadata import Metadata
from waymaker.server.objects.asking import bodies_of
from waymaker.storage.store import Bodies
from waymaker.wire.objects import found_object, object_info_pb, revision_pb
from waymaker_core.api import object_requests as core
from waymaker_core.api.requests import Messages, Page
from waymaker_core.model.result_codes import OK, Answer
from waymaker_core.objects.names import stream_name
from waymaker_proto import waymaker_streams_pb2 as pb


def delete_request(r: pb.DeleteObjectRequest, metadata: Metadata, serving: object) -> core.DeleteObject:
    """Return the request of a `DeleteObject`."""
    return core.DeleteObject(stream_name(r.bucket), r.name)


def info_request(r: pb.GetObjectInfoRequest, metadata: Metadata, serving: object) -> core.FindObject:
    """Return the request of a `GetObjectInfo`."""
    return core.FindObject(stream_name(r.bucket), r.name)


def list_request(r: pb.ListObjectsRequest, metadata: Metadata, serving: object) -> core.ListObjects:
    """Return the request of a `ListObjects`."""
    return core.ListObjects(
        stream_name(r.bucket), r.name_prefix, r.include_deleted, metadata.after, metadata.limit
    )  # fmt: skip


def revisions_request(
    r: pb.ListObjectRevisionsRequest, metadata: Metadata, serving: object
) -> core.ListObjectRevisions:
    """Return the request of a `ListObjectRevisions`. Its cursor, like that of a scan, is a sequence."""
    after = metadata.after
    from_seq = int(after) if after.isascii() and after.isdigit() and len(after) <= 20 else r.from_seq
    return core.ListObjectRevisions(stream_name(r.bucket), r.name, from_seq, metadata.limit or r.limit)


def deleted(answer: Answer, bodies: Bodies | None, serving: object) -> bytes:
    """Return the response to a `DeleteObject`."""
    response = pb.DeleteObjectResponse(success=answer.code == OK, result_code=answer.code, message=answer.message)
    if isinstance(answer.value, tuple):
        response.tombstone_seq = answer.value[0]
    return response.SerializeToString()


def info(answer: Answer, bodies: Bodies | None, serving: object) -> bytes:
    """Return the response to a `GetObjectInfo`."""
    response = pb.GetObjectInfoResponse(success=answer.code == OK, result_code=answer.code, message=answer.message)
    if isinstance(answer.value, Messages):
        response.info.CopyFrom(object_info_pb(found_object(bodies_of(answer.value, bodies)[0])))
    elif answer.code == OK:
        response.deleted = True
    return response.SerializeToString()


def listed(answer: Answer, bodies: Bodies | None, serving: object) -> bytes:
    """Return the response to a `ListObjects`."""
    response = pb.ListObjectsResponse(success=answer.code == OK, result_code=answer.code, message=answer.message)
    page: Any = answer.value
    if isinstance(page, Page):
        response.entries.extend(
            pb.ObjectListEntry(name=entry.name, total_bytes=entry.total_bytes, deleted=entry.deleted)
            for entry in page.entries
        )
    return response.SerializeToString()


def revisions(answer: Answer, bodies: Bodies | None, serving: object) -> bytes:
    """Return the response to a `ListObjectRevisions`."""
    response = pb.ListObjectRevisionsResponse(
        success=answer.code == OK, result_code=answer.code, message=answer.message
    )  # fmt: skip
    if isinstance(answer.value, Messages):
        response.revisions.extend(revision_pb(found_object(each)) for each in bodies_of(answer.value, bodies))
    return response.SerializeToString()
