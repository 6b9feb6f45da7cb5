"""Targets for what a bucket of keys reads: keys and patterns of clients, facts in records, and its state in snapshots."""

from __future__ import annotations

from array import array
from functools import cache

from tests.fuzz.format_targets import CBOR_TOKENS
from tests.fuzz.target import Target
from tests.kit.kv_kit import Bucket
from waymaker_core.kv.bodies import value_body
from waymaker_core.kv.facts import KvFact, encode_fact
from waymaker_core.kv.keys import key_fault, key_of, key_subject, keys_pattern, pattern_fault
from waymaker_core.kv.layer import KvLayer
from waymaker_core.kv.settings import BucketSettings, decode_settings, encode_settings
from waymaker_core.kv.snapshot import encode_snapshot
from waymaker_core.layers.layer import KV
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import LayerRecord, PublishRecord
from waymaker_core.model.subjects import Pattern, is_pattern, subject_bytes
from waymaker_core.model.types import Now
from waymaker_core.storage.config_codec import decode_plain, encode_plain
from waymaker_core.storage.errors import CorruptRecord, UnknownVersion
from waymaker_core.stream.stream import Stream

LIMITS = Limits()

# ---------------------------------------------------------------- keys


def key_seeds() -> list[bytes]:
    """A bucket, a key and a pattern of keys, a line each."""
    return [
        text.encode()
        for text in (
            "b\na.b/c\na.*",
            "é:%\n-_=/\n>",
            "b.c\nA.0.z\nA.>",
            "*\na\n",
            "b\na..b\n*.*",
            "b\na.*\na.>.b",
            "\n.\n>",
        )
    ]


def run_key(data: bytes) -> None:
    """A key is refused with a sentence, or its subject is one, means this key alone, and patterns select it as they say."""
    bucket, key, pattern = (*data.decode(errors="surrogateescape").split("\n"), "", "", "")[:3]
    if not is_name(bucket) or key_fault(bucket, key, LIMITS):
        return
    subject = key_subject(bucket, key)
    assert 0 < subject_bytes(subject, LIMITS) <= LIMITS.subject_bytes_max
    assert key_of(bucket, subject) == key
    assert Pattern(keys_pattern(bucket, "")).matches(subject)
    assert not Pattern(keys_pattern(bucket + "x", "")).matches(subject), "a bucket's keys are its own"
    if not pattern_fault(bucket, pattern, LIMITS):
        assert is_pattern(keys_pattern(bucket, pattern), LIMITS)
        if pattern:
            assert Pattern(keys_pattern(bucket, pattern)).matches(subject) == Pattern(pattern).matches(key)


def is_name(bucket: str) -> bool:
    """Return True if a text can be encoded, as the names of streams have to be."""
    try:
        return 0 < len(bucket.encode()) <= 200
    except UnicodeEncodeError:
        return False


# ---------------------------------------------------------------- facts, snapshots, settings


@cache
def _stream() -> Stream:
    """Return the stream of a bucket with one value, at subject `b.a` and sequence 1. Layers only look at it."""
    bucket = Bucket()
    bucket.put("a")
    return bucket.layer.stream


def _record(fact: bytes) -> LayerRecord:
    """Return a record of two messages at one subject, with a fact."""
    bodies = [value_body(subject, b"v") for subject in ("b.a", "b.a")]
    messages = PublishRecord(
        2, array("q", [7, 8]), array("I", [4, 4]), array("I", list(map(len, bodies))), ["b.a", "b.a"]
    )
    return LayerRecord(messages, facts=[(KV, fact)])


def layer_seeds() -> list[bytes]:
    """Facts of a record with messages, of one without, states, and settings: behind the number of their form."""
    facts = [
        KvFact(tombstones=[0]),
        KvFact(expiries=[(0, 9_000, 50), (1, 9_000, 50)]),
        KvFact(touched=[("b.a", 1, 9_000, 50)], purged=["b.a"]),
        KvFact(restored_tombstones=[("b.a", 1, 7)]),
        KvFact(restored_expiries=[("b.a", 1, 9_000, 50)]),
    ]
    encoded = list(map(encode_fact, facts))
    states = [
        encode_snapshot([], []),
        encode_snapshot([("b.a", 1, 7)], []),
        encode_snapshot([], [("b.a", 1, 9_000, 50)]),
    ]
    settings = [encode_settings(BucketSettings()), encode_settings(BucketSettings(1, 2, 3, 4))]
    seeds = [bytes([form]) + fact for form in (0, 1) for fact in encoded]
    return seeds + [b"\2" + encode_plain(state) for state in states] + [b"\3" + each for each in settings]


def run_layer(data: bytes) -> None:
    """A fact, a state or settings are refused (CorruptRecord, UnknownVersion), or the bucket goes on and can be stored."""
    form, data = (data[0] % 4 if data else 0), data[1:]
    layer = KvLayer(_stream())
    try:
        match form:
            case 0:
                layer.apply(_record(data))
            case 1:
                layer.apply(LayerRecord(None, facts=[(KV, data)]))
            case 2:
                for fact in layer.import_facts(decode_plain(data)):
                    layer.apply(LayerRecord(None, facts=[(KV, fact)]))
                layer.check()
            case _:
                settings = decode_settings(data)
                assert decode_settings(encode_settings(settings)) == settings
    except (CorruptRecord, UnknownVersion):
        return
    layer.next_due(Now(1, 1))
    again = KvLayer(_stream())
    again.restore(decode_plain(encode_plain(layer.snapshot())))
    assert encode_plain(again.snapshot()) == encode_plain(layer.snapshot()), "what was taken is taken again"


TARGETS = (
    Target("kv-key", key_seeds, run_key, (b".", b"*", b">", b"\n", b"%", b"=", b"\0", b"a.b", b"\xc3\xa9")),
    Target("kv-layer", layer_seeds, run_layer, (*CBOR_TOKENS, b"b.a")),
)
