"""Sketches: small summaries of many values on the server, with bounded errors (docs/sketches.md)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypedDict, Unpack

from waymaker.client.checked import UINT32_MAX, UNSET, Timeout, Whole, flag, whole
from waymaker.client.contract import source_status
from waymaker.client.errors import UsageError, WrongTypeError
from waymaker.client.settings import SourceSettings, refuse_unknown, sources
from waymaker.client.stores.calling import Caller, parts, value
from waymaker.client.values import SourceConfig, SourceStatus
from waymaker.wire.configs import source_pb
from waymaker_core.sketches.parameters import FORMS, PREFIX
from waymaker_proto import sketches_pb2 as pk

PART_BYTES: Final = 192 << 10
"""Bytes of one request to add values: they are one record."""
_BILLION: Final = 1_000_000_000


class Candidate(NamedTuple):
    """A frequent value, and an upper bound of how often it was added."""

    value: bytes
    times: int


@dataclass(frozen=True, slots=True)
class SketchInfo:
    """A sketch's kind, parameters and figures. `added` counts the values of all batches, not those of merged sketches.

    With sources: `item` is what is added of a message, as for `SketchSettings`; `skipped` counts messages without such a part,
    or with none that the sketch takes; `sources` are the statuses of the sources.
    """

    kind: str
    parameters: dict[str, int]
    added: int
    memory_bytes: int
    ephemeral: bool
    item: Literal["subject", "payload"] | int | None = None
    skipped: int = 0
    sources: tuple[SourceStatus, ...] = ()


class SketchSettings(TypedDict, total=False):
    """Settings of a new sketch of any kind.

    `sources`: streams whose messages are added, each exactly once, as for `create_stream`. `item`: what is added of a message,
    "subject" (usual), "payload" (usual for a t-digest), or the number of a token of the subject, from 1.
    """

    ephemeral: bool
    sources: Iterable[SourceConfig | str | SourceSettings]
    item: Literal["subject", "payload"] | int
    timeout: Timeout


class Sketch:
    """A sketch. Made by `Client.sketch`; which questions it answers depends on the kind with which it was created."""

    def __init__(self, caller: Caller, name: str) -> None:
        self.name = name
        self._caller = caller

    # ------------------------------------------------------------------------------------------ kinds

    async def create_bloom(self, capacity: Whole, error: float = 0.01, **settings: Unpack[SketchSettings]) -> None:
        """Make a Bloom filter: was this value added? `error` is the rate of false yeses up to `capacity` values."""
        kind = pk.BloomParameters(capacity=whole("capacity", capacity), error_ppb=_ppb("error", error))
        await self._create(pk.SketchParameters(bloom=kind), settings)

    async def create_hyperloglog(self, precision: Whole = 14, **settings: Unpack[SketchSettings]) -> None:
        """Make a HyperLogLog: how many distinct values? Standard error 1.04 / √(2^precision)."""
        kind = pk.HyperLogLogParameters(precision=whole("precision", precision, most=UINT32_MAX))
        await self._create(pk.SketchParameters(hyperloglog=kind), settings)

    async def create_count_min(
        self, error: float = 0.001, failure: float = 0.01, **settings: Unpack[SketchSettings]
    ) -> None:
        """Make a count-min sketch: how often this value? Off by `error` of the total, but for `failure` of the answers."""
        kind = pk.CountMinParameters(error_ppb=_ppb("error", error), failure_ppb=_ppb("failure", failure))
        await self._create(pk.SketchParameters(count_min=kind), settings)

    async def create_top_k(
        self, k: Whole, error: float = 0.001, failure: float = 0.01,
        **settings: Unpack[SketchSettings],
    ) -> None:  # fmt: skip
        """Make a list of the `k` most frequent values, over a count-min sketch."""
        kind = pk.TopKParameters(
            k=whole("k", k, most=UINT32_MAX), error_ppb=_ppb("error", error), failure_ppb=_ppb("failure", failure)
        )
        await self._create(pk.SketchParameters(top_k=kind), settings)

    async def create_t_digest(self, compression: Whole = 100, **settings: Unpack[SketchSettings]) -> None:
        """Make a t-digest: which number at this rank, which rank at this number?"""
        kind = pk.TDigestParameters(compression=whole("compression", compression, most=UINT32_MAX))
        await self._create(pk.SketchParameters(t_digest=kind), settings)

    async def _create(self, parameters: pk.SketchParameters, settings: SketchSettings) -> None:
        unknown = next((name for name in settings if name not in SketchSettings.__annotations__), None)
        if unknown is not None:
            refuse_unknown("a sketch", unknown, SketchSettings.__annotations__)
        item, token = _item(settings.get("item"))
        request = pk.CreateSketchRequest(
            name=self.name,
            parameters=parameters,
            ephemeral=flag("ephemeral", settings.get("ephemeral", False)),
            sources=map(source_pb, sources("sources", settings.get("sources", ()))),
            item=item,
            token=token,
        )
        timeout = settings.get("timeout", UNSET)
        await self._caller._call_service("CreateSketch", request, pk.CreateSketchResponse, timeout, repeatable=False)

    async def delete(self, *, timeout: Timeout = UNSET) -> None:
        """Delete the sketch. NoSuchBucketError."""
        request = pk.DeleteSketchRequest(name=self.name)
        await self._caller._call_service("DeleteSketch", request, pk.DeleteSketchResponse, timeout, repeatable=False)

    # ---------------------------------------------------------------------------------------- changes

    async def add(self, values: Iterable[bytes | str | float], *, timeout: Timeout = UNSET) -> None:
        """Add values: bytes or strings (as UTF-8), numbers to a t-digest. On disk when it returns.

        Up to 4,096 values and 192 KiB are one write, all or none; more go in parts. An added batch is not taken back, so
        one whose answer was lost may have been counted.
        """
        if isinstance(values, str | bytes):
            raise WrongTypeError(f"add takes several values, not {values!r}")
        given = list(values)
        if given and all(isinstance(each, int | float) and not isinstance(each, bool) for each in given):
            numbers = [_number(each) for each in given]
            for part in parts(numbers, lambda _: 8, bytes_max=PART_BYTES):
                await self._add(pk.SketchAddRequest(name=self.name, numbers=part), timeout)
            return
        for some in parts([_bytes(each) for each in given], len, bytes_max=PART_BYTES):
            await self._add(pk.SketchAddRequest(name=self.name, values=some), timeout)

    async def _add(self, request: pk.SketchAddRequest, timeout: Timeout) -> None:
        await self._caller._call_service("SketchAdd", request, pk.SketchAddResponse, timeout, repeatable=False)

    async def merge(self, snapshot: bytes, *, timeout: Timeout = UNSET) -> None:
        """Take in another sketch of the same parameters, as `snapshot` returned it."""
        request = pk.SketchMergeRequest(name=self.name, snapshot=value("a snapshot", snapshot))
        await self._caller._call_service("SketchMerge", request, pk.SketchMergeResponse, timeout, repeatable=False)

    async def snapshot(self, *, timeout: Timeout = UNSET) -> bytes:
        """Return the sketch as bytes (docs/sketches.md, "Stored form")."""
        request = pk.SketchSnapshotRequest(name=self.name)
        response = await self._caller._call_service("SketchSnapshot", request, pk.SketchSnapshotResponse, timeout)
        return response.snapshot

    # -------------------------------------------------------------------------------------- questions

    async def contains(self, *values: bytes | str, timeout: Timeout = UNSET) -> list[bool]:
        """Return for each value whether it may have been added (Bloom filter); False is certain."""
        asked = pk.SketchValues(values=[_bytes(each) for each in values])
        return list((await self._query(pk.SketchQueryRequest(contains=asked), timeout)).contained)

    async def distinct(self, *, timeout: Timeout = UNSET) -> float:
        """Return about how many distinct values were added (HyperLogLog, Bloom filter)."""
        return (await self._query(pk.SketchQueryRequest(distinct=pk.SketchDistinct()), timeout)).distinct

    async def counts(self, *values: bytes | str, timeout: Timeout = UNSET) -> list[int]:
        """Return for each value how often it was added (count-min, top-k), never too few."""
        asked = pk.SketchValues(values=[_bytes(each) for each in values])
        return list((await self._query(pk.SketchQueryRequest(counts=asked), timeout)).counts)

    async def top(self, limit: Whole = 0, *, timeout: Timeout = UNSET) -> list[Candidate]:
        """Return the most frequent values (top-k), the greatest count first; `limit` 0: all that are kept."""
        asked = pk.SketchTop(limit=whole("limit", limit, most=UINT32_MAX))
        answer = await self._query(pk.SketchQueryRequest(top=asked), timeout)
        return [Candidate(each.value, each.count) for each in answer.top]

    async def quantiles(self, *shares: float, timeout: Timeout = UNSET) -> list[float]:
        """Return the number at each share of ranks, 0 to 1 (t-digest)."""
        asked = pk.SketchNumbers(numbers=[_number(each) for each in shares])
        return list((await self._query(pk.SketchQueryRequest(quantiles=asked), timeout)).numbers)

    async def ranks(self, *numbers: float, timeout: Timeout = UNSET) -> list[float]:
        """Return for each number the share of all that are not above it (t-digest)."""
        asked = pk.SketchNumbers(numbers=[_number(each) for each in numbers])
        return list((await self._query(pk.SketchQueryRequest(ranks=asked), timeout)).numbers)

    async def _query(self, request: pk.SketchQueryRequest, timeout: Timeout) -> pk.SketchQueryResponse:
        request.name = self.name
        return await self._caller._call_service("SketchQuery", request, pk.SketchQueryResponse, timeout)

    async def info(self, *, timeout: Timeout = UNSET) -> SketchInfo:
        """Return kind, parameters and figures."""
        request = pk.SketchInfoRequest(name=self.name)
        found = await self._caller._call_service("SketchInfo", request, pk.SketchInfoResponse, timeout)
        kind = found.parameters.WhichOneof("kind") or ""
        inner = getattr(found.parameters, kind, None)
        names = next((form for each, form in FORMS.items() if each.name.lower() == kind), ())
        parameters = {name: int(getattr(inner, name)) for name in names}
        stream = PREFIX + self.name
        return SketchInfo(
            kind, parameters, found.added, found.memory_bytes, found.ephemeral,
            found.token or _ITEMS.get(found.item), found.skipped,
            tuple(source_status(stream, each) for each in found.sources_status),
        )  # fmt: skip


_ITEMS: Final[dict[int, Literal["subject", "payload"]]] = {
    pk.SKETCH_ITEM_SUBJECT: "subject",
    pk.SKETCH_ITEM_PAYLOAD: "payload",
}


def _item(given: object) -> tuple[pk.SketchItem.ValueType, int]:
    """Convert what is added of a message: a word, or the number of a token."""
    if given is None:
        return pk.SKETCH_ITEM_USUAL, 0
    if isinstance(given, str):
        if given == "subject":
            return pk.SKETCH_ITEM_SUBJECT, 0
        if given == "payload":
            return pk.SKETCH_ITEM_PAYLOAD, 0
        raise UsageError(f"item = {given!r}; it is 'subject', 'payload' or the number of a token of the subject")
    return pk.SKETCH_ITEM_TOKEN, whole("item", given, least=1, most=UINT32_MAX)


def _bytes(given: object) -> bytes:
    if isinstance(given, str):
        return given.encode()
    return value("a sketch's value", given)


def _number(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise WrongTypeError(f"a number was expected, not {given!r}")
    if not math.isfinite(given):
        raise UsageError(f"{given!r} is not a finite number")
    return float(given)


def _ppb(name: str, share: object) -> int:
    """Convert a share between 0 and 1 to parts in a billion."""
    number = _number(share)
    if not 0 < number < 1:
        raise UsageError(f"{name} = {share!r}; it is a share between 0 and 1")
    return max(1, round(number * _BILLION))
