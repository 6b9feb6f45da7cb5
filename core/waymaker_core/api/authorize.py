"""Authorization: the one hook that sees every call before anything else does.

A hook is a pure function of principal, action and stream name. It answers None to admit or the refusal to send. It must not
look at state: a name that does not exist is as forbidden as one that does, so that refusals reveal nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from waymaker_core.api import authority_requests as authority
from waymaker_core.api import cluster_requests as cluster
from waymaker_core.api import collection_requests as cq
from waymaker_core.api import kv_requests as kv
from waymaker_core.api import object_requests as objects
from waymaker_core.api import requests as rq
from waymaker_core.api import sketch_requests as sq
from waymaker_core.model.result_codes import Refusal, Status
from waymaker_core.model.types import Principal


class Action(Enum):
    """The kind of a call, for which a principal needs permission."""

    READ = "read"
    """See names, settings, figures and messages."""
    PUBLISH = "publish"
    """Append messages."""
    CONSUME = "consume"
    """Receive deliveries and answer them."""
    MANAGE = "manage"
    """Create, change and delete streams and consumers, import archives."""


ACTIONS: dict[type[rq.Request], Action] = {
    rq.Publish: Action.PUBLISH,
    rq.Fetch: Action.CONSUME,
    rq.Ack: Action.CONSUME,
    rq.Subscribe: Action.CONSUME,
    rq.WatchStreams: Action.READ,
    rq.ReadLatest: Action.READ,
    rq.ListSubjects: Action.READ,
    rq.ScanSubject: Action.READ,
    rq.ReadRange: Action.READ,
    rq.CreateStream: Action.MANAGE,
    rq.DeleteStream: Action.MANAGE,
    rq.GetStreamInfo: Action.READ,
    rq.ListStreams: Action.READ,
    rq.GetStreamSources: Action.READ,
    rq.UpdateStream: Action.MANAGE,
    rq.CreateConsumer: Action.MANAGE,
    rq.DeleteConsumer: Action.MANAGE,
    rq.ListConsumers: Action.READ,
    rq.GetConsumerInfo: Action.READ,
    rq.ExportStream: Action.READ,
    rq.ImportBegin: Action.MANAGE,
    rq.ImportBatch: Action.MANAGE,
    rq.ImportEnd: Action.MANAGE,
    objects.BeginUpload: Action.PUBLISH,
    objects.UploadChunks: Action.PUBLISH,
    objects.FinishUpload: Action.PUBLISH,
    objects.DeleteObject: Action.PUBLISH,
    objects.OpenObject: Action.READ,
    objects.ReadChunks: Action.READ,
    objects.FindObject: Action.READ,
    objects.ListObjects: Action.READ,
    objects.ListObjectRevisions: Action.READ,
    objects.HoldBucket: Action.READ,
    cq.PutEntries: Action.PUBLISH,
    cq.RemoveEntries: Action.PUBLISH,
    cq.GetEntries: Action.READ,
    cq.HasEntries: Action.READ,
    cq.ListEntries: Action.READ,
    cq.ReadEntries: Action.READ,
    cq.CountEntries: Action.READ,
    cq.PushValues: Action.PUBLISH,
    cq.PopValues: Action.CONSUME,
    cq.PeekValues: Action.READ,
    cq.CountValues: Action.READ,
    sq.AddToSketch: Action.PUBLISH,
    sq.MergeIntoSketch: Action.PUBLISH,
    sq.QuerySketch: Action.READ,
    sq.GetSketchSnapshot: Action.READ,
    sq.GetSketchInfo: Action.READ,
    kv.KvCreateBucket: Action.MANAGE,
    kv.KvDeleteBucket: Action.MANAGE,
    kv.KvWrite: Action.PUBLISH,
    kv.KvGet: Action.READ,
    kv.KvKeys: Action.READ,
    kv.KvHistory: Action.READ,
    kv.KvWatch: Action.READ,
    cluster.ClaimStream: Action.MANAGE,
    cluster.OpenAuthority: Action.MANAGE,
    cluster.ClaimStreams: Action.MANAGE,
    cluster.OpenAuthorities: Action.MANAGE,
    authority.SetStreamPinned: Action.MANAGE,
    authority.ClearStreamAuthority: Action.MANAGE,
    authority.ListOverrides: Action.READ,
    authority.GetClusterStats: Action.READ,
}
"""Every request's action; a request that is missing here is a bug that a test finds."""

Authorize = Callable[[Principal, Action, str], Refusal | None]
"""(principal, action, stream name or "") -> None to admit, else the refusal."""


def stream_of(request: rq.Request) -> str:
    """Return the name of the stream that a request is about, or "" where it is about none or all."""
    match request:
        case rq.CreateStream():
            return request.config.name
        case rq.DeleteStream() | rq.GetStreamInfo() | rq.UpdateStream() | rq.ExportStream() | rq.ImportBegin():
            return request.name
        case rq.WatchStreams() | rq.ListStreams() | rq.GetStreamSources() | rq.ImportBatch() | rq.ImportEnd():
            return ""
        case cluster.ClaimStream() | cluster.OpenAuthority() | cluster.ClaimStreams() | cluster.OpenAuthorities():
            return ""
        case authority.ListOverrides() | authority.GetClusterStats():
            return ""
        case _:
            return request.stream


def allow_known_accounts(principal: Principal, action: Action, stream: str) -> Refusal | None:
    """Admit every principal of the one account that exists, and no other."""
    if principal.account == "":
        return None
    return Refusal(
        Status.PERMISSION_DENIED,
        f"account {principal.account!r} may not {action.value} here: only the default account exists",
    )
