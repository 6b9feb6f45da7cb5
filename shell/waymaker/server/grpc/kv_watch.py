"""The watch of a bucket: one event a gRPC message, as fast as its client reads and no faster.

Credit is given again only for what gRPC has taken over for sending, as in `streaming`.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from waymaker.server.grpc.calls import Context, StreamCall
from waymaker.server.grpc.kv_rpcs import sequence
from waymaker.server.grpc.metadata import metadata_of
from waymaker.server.grpc.streaming import Inbox
from waymaker.server.incidents import internal_error
from waymaker.server.node_runner import NodeRunner
from waymaker.server.refusals import abort
from waymaker.wire.kv import event_pb, revisions
from waymaker_core.api.effects import End
from waymaker_core.api.kv_requests import KvWatch
from waymaker_core.model.result_codes import (
    NO_SUCH_BUCKET,
    Outcome,
    Refusal,
    RefusedError,
    Status,
    invalid,
)
from waymaker_core.model.types import Principal
from waymaker_proto import waymaker_streams_pb2 as pb

_WINDOW_MESSAGES: Final = 1_024
_WINDOW_BYTES: Final = 1 << 20


class KvWatches:
    """The watches of buckets."""

    def __init__(self, runner: NodeRunner) -> None:
        self._runner = runner

    def methods(self) -> dict[str, StreamCall]:
        """Return the handlers by the RPC's name."""
        return {"Watch": self.watch}

    async def watch(self, principal: Principal, data: bytes, context: Context) -> None:
        """Send live values, then every change, until something ends it."""
        try:
            message = pb.KvWatchRequest.FromString(data)
            after = metadata_of(context.invocation_metadata() or ()).after
            request = KvWatch(message.bucket, message.key, sequence(after) if after else None)
        except DecodeError:
            await abort(context, invalid("the request is not a valid KvWatchRequest").refusal)
        except RefusedError as error:
            await abort(context, error.refusal)
        del data, message  # a watch lasts; unknown fields, which may be megabytes, need not
        await self._run(principal, request, context)

    async def _run(self, principal: Principal, request: KvWatch, context: Context) -> None:
        inbox = Inbox()
        token = self._runner.open(principal, request, inbox)
        self._runner.credit(token, _WINDOW_MESSAGES, _WINDOW_BYTES)
        refusal: Refusal | None = None
        begun = False
        try:
            while True:
                item = await inbox.take()
                if isinstance(item, End):
                    refusal = item.refusal or _ended(item)
                    break
                assert isinstance(item, tuple), "a watch of a bucket has messages"
                messages, bodies = item
                if not begun:
                    # Nothing may be there for hours: the headers tell that the watch sees whatever happens from now on.
                    begun = True
                    await context.send_initial_metadata(())
                for revision in revisions(messages, bodies):
                    await context.write(event_pb(revision))
                if messages.count:
                    self._runner.credit(token, messages.count, messages.byte_count)
        except Exception as error:
            refusal = internal_error(error, "Watch", principal, admitted=True)
        finally:
            self._runner.cancel(token)
        if refusal is not None:
            await abort(context, refusal)


def _ended(end: End) -> Refusal:
    if end.reason == "stream_deleted":
        return Refusal(Status.NOT_FOUND, "the bucket was deleted", Outcome.NOT_APPLIED, NO_SUCH_BUCKET)
    return Refusal(Status.UNAVAILABLE, f"the watch is over: {end.reason}", None)
