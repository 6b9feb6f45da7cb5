"""Waymaker streams: durable streams and consumers. What a program imports.

    async with waymaker.connect("127.0.0.1:7411") as wm:
        await wm.create_stream("orders", subjects_filter=("orders.>",))
        await wm.publish("orders", "orders.new", b"{}")

Importing this package is cheap: names are loaded where they are first used. It must be imported before gRPC by whatever
wants its settings, which is why one of them is made here: without the event engine a round trip of the pipeline costs half.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
# gRPC's own log lines are not this program's output: what they tell, exceptions tell. A set variable wins.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

if TYPE_CHECKING:
    from waymaker.client import sync as sync
    from waymaker.client.client import Client as Client
    from waymaker.client.connecting import connect as connect
    from waymaker.client.connecting import connect_sync as connect_sync
    from waymaker.client.consumer.delivery import Batch as Batch
    from waymaker.client.consumer.delivery import Confirmation as Confirmation
    from waymaker.client.consumer.delivery import Message as Message
    from waymaker.client.consumer.subscription import Subscription as Subscription
    from waymaker.client.errors import NOT_APPLIED as NOT_APPLIED
    from waymaker.client.errors import UNKNOWN as UNKNOWN
    from waymaker.client.errors import AbortedError as AbortedError
    from waymaker.client.errors import AlreadyExistsError as AlreadyExistsError
    from waymaker.client.errors import CancelledError as CancelledError
    from waymaker.client.errors import ClosedError as ClosedError
    from waymaker.client.errors import ConnectionLostError as ConnectionLostError
    from waymaker.client.errors import DataLossError as DataLossError
    from waymaker.client.errors import DeadlineExceededError as DeadlineExceededError
    from waymaker.client.errors import FailedPreconditionError as FailedPreconditionError
    from waymaker.client.errors import ForkedError as ForkedError
    from waymaker.client.errors import HandshakeError as HandshakeError
    from waymaker.client.errors import ImmutableFieldError as ImmutableFieldError
    from waymaker.client.errors import IncompleteError as IncompleteError
    from waymaker.client.errors import InternalError as InternalError
    from waymaker.client.errors import InternalResultError as InternalResultError
    from waymaker.client.errors import InvalidArgumentError as InvalidArgumentError
    from waymaker.client.errors import InvalidConfigError as InvalidConfigError
    from waymaker.client.errors import InvalidKeyError as InvalidKeyError
    from waymaker.client.errors import NoLeaderError as NoLeaderError
    from waymaker.client.errors import NoSuchBucketError as NoSuchBucketError
    from waymaker.client.errors import NoSuchConsumerError as NoSuchConsumerError
    from waymaker.client.errors import NoSuchObjectError as NoSuchObjectError
    from waymaker.client.errors import NoSuchStreamError as NoSuchStreamError
    from waymaker.client.errors import NotFoundError as NotFoundError
    from waymaker.client.errors import NotFoundStatusError as NotFoundStatusError
    from waymaker.client.errors import OutcomeUnknownError as OutcomeUnknownError
    from waymaker.client.errors import OutOfRangeError as OutOfRangeError
    from waymaker.client.errors import OversizeError as OversizeError
    from waymaker.client.errors import PermissionDeniedError as PermissionDeniedError
    from waymaker.client.errors import ProducerFencedError as ProducerFencedError
    from waymaker.client.errors import ResourceExhaustedError as ResourceExhaustedError
    from waymaker.client.errors import ResultCodeError as ResultCodeError
    from waymaker.client.errors import ShaMismatchError as ShaMismatchError
    from waymaker.client.errors import StatusError as StatusError
    from waymaker.client.errors import SubjectRejectedError as SubjectRejectedError
    from waymaker.client.errors import TransferCorruptedError as TransferCorruptedError
    from waymaker.client.errors import UnauthenticatedError as UnauthenticatedError
    from waymaker.client.errors import UnavailableError as UnavailableError
    from waymaker.client.errors import UnimplementedError as UnimplementedError
    from waymaker.client.errors import UnknownStatusError as UnknownStatusError
    from waymaker.client.errors import UsageError as UsageError
    from waymaker.client.errors import WaymakerError as WaymakerError
    from waymaker.client.errors import WrongRevisionError as WrongRevisionError
    from waymaker.client.errors import WrongTypeError as WrongTypeError
    from waymaker.client.objects.store import ObjectStore as ObjectStore
    from waymaker.client.options import Options as Options
    from waymaker.client.producer.results import PublishResults as PublishResults
    from waymaker.client.sync import SyncClient as SyncClient
    from waymaker.client.sync import SyncSubscription as SyncSubscription
    from waymaker.client.sync_objects import SyncObjectStore as SyncObjectStore
    from waymaker.client.tls.tls import TLS as TLS
    from waymaker.client.values import AuthorityOverride as AuthorityOverride
    from waymaker.client.values import BackupSummary as BackupSummary
    from waymaker.client.values import ClusterStreams as ClusterStreams
    from waymaker.client.values import ConsumerConfig as ConsumerConfig
    from waymaker.client.values import ConsumerInfo as ConsumerInfo
    from waymaker.client.values import DeliveryPolicy as DeliveryPolicy
    from waymaker.client.values import NodeStreams as NodeStreams
    from waymaker.client.values import ObjectEntry as ObjectEntry
    from waymaker.client.values import ObjectInfo as ObjectInfo
    from waymaker.client.values import ObjectRevision as ObjectRevision
    from waymaker.client.values import OnDrop as OnDrop
    from waymaker.client.values import Outgoing as Outgoing
    from waymaker.client.values import RestoreReport as RestoreReport
    from waymaker.client.values import RestoreResult as RestoreResult
    from waymaker.client.values import Retention as Retention
    from waymaker.client.values import ServerInfo as ServerInfo
    from waymaker.client.values import SourceConfig as SourceConfig
    from waymaker.client.values import SourceStatus as SourceStatus
    from waymaker.client.values import StreamConfig as StreamConfig
    from waymaker.client.values import StreamInfo as StreamInfo
    from waymaker.client.values import StreamUpdate as StreamUpdate
    from waymaker.client.values import SubjectTransform as SubjectTransform
    from waymaker.client.values import WatchEvent as WatchEvent
    from waymaker.client.values import WatchKind as WatchKind

_NAMES = {
    "client": ("Client",),
    "connecting": ("connect", "connect_sync"),
    "consumer.delivery": ("Batch", "Confirmation", "Message"),
    "objects.store": ("ObjectStore",),
    "options": ("Options",),
    "producer.results": ("PublishResults",),
    "consumer.subscription": ("Subscription",),
    "sync": ("SyncClient", "SyncSubscription"),
    "sync_objects": ("SyncObjectStore",),
    "tls.tls": ("TLS",),
    "values": (
        "AuthorityOverride", "BackupSummary", "ClusterStreams", "ConsumerConfig", "ConsumerInfo", "DeliveryPolicy",
        "NodeStreams", "ObjectEntry", "ObjectInfo", "ObjectRevision",
        "OnDrop", "Outgoing", "RestoreReport", "RestoreResult", "Retention", "ServerInfo", "SourceConfig", "SourceStatus",
        "StreamConfig", "StreamInfo", "StreamUpdate", "SubjectTransform", "WatchEvent", "WatchKind",
    ),
    "errors": (
        "NOT_APPLIED", "UNKNOWN", "AbortedError", "AlreadyExistsError", "CancelledError", "ClosedError",
        "ConnectionLostError", "DataLossError", "DeadlineExceededError", "FailedPreconditionError", "ForkedError",
        "HandshakeError", "ImmutableFieldError", "IncompleteError", "InternalError", "InternalResultError",
        "InvalidArgumentError",
        "InvalidConfigError", "InvalidKeyError", "NoSuchBucketError", "NoSuchConsumerError", "NoSuchObjectError",
        "NoSuchStreamError",
        "NotFoundError", "NotFoundStatusError", "OutcomeUnknownError", "OutOfRangeError", "OversizeError",
        "NoLeaderError", "PermissionDeniedError", "ProducerFencedError", "ResourceExhaustedError", "ResultCodeError",
        "ShaMismatchError",
        "StatusError",
        "SubjectRejectedError", "TransferCorruptedError", "UnauthenticatedError", "UnavailableError", "UnimplementedError",
        "UnknownStatusError", "UsageError", "WaymakerError", "WrongRevisionError", "WrongTypeError",
    ),
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [*_HOME, "__version__", "sync"]  # noqa: PLE0604 - names are loaded on first use


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("waymaker-streams")
    elif name == "sync":
        value = importlib.import_module("waymaker.client.sync")
    elif name in _HOME:
        value = getattr(importlib.import_module(f"waymaker.client.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
