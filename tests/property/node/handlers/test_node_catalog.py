"""The catalogue against two dictionaries: committed names, and what they will mean."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.api import requests as rq
from waymaker_core.api.authorize import ACTIONS, Action, allow_known_accounts, stream_of
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import CatalogRecord, StreamDeleted, StreamUpdated
from waymaker_core.model.result_codes import CodeError, RefusedError
from waymaker_core.model.types import Principal, StreamId
from waymaker_core.node.checkpoint.snapshots import decode_catalog, encode_catalog
from waymaker_core.storage.errors import CorruptRecord

ACTS = st.lists(
    st.tuples(st.sampled_from(["create", "delete", "update", "commit", "commit"]), st.sampled_from("abc")), max_size=80
)


@given(ACTS)
def test_decisions_see_what_is_under_way_and_lookups_only_what_is_committed(acts: list[tuple[str, str]]) -> None:
    catalog = Catalog(Limits())
    committed: dict[str, int] = {}
    decided: dict[str, int] = {}
    under_way: deque[CatalogRecord] = deque()
    ids: list[int] = []
    for act, name in acts:
        record: CatalogRecord | None = None
        if act == "create":
            if name in decided:
                with pytest.raises(CodeError):
                    catalog.decide_create("", StreamConfig(name), 5)
                continue
            record = catalog.decide_create("", StreamConfig(name), 5)
            ids.append(record.stream_id)
            decided[name] = record.stream_id
        elif act == "commit":
            if under_way:
                first = under_way.popleft()
                catalog.apply(first)
                if isinstance(first, StreamDeleted):
                    committed = {name: id_ for name, id_ in committed.items() if id_ != first.stream_id}
                elif not isinstance(first, StreamUpdated):
                    committed[first.config.name] = first.stream_id  # type: ignore[union-attr]
        elif name in committed and decided.get(name) == committed[name]:
            if act == "delete":
                record = StreamDeleted(committed[name])
                del decided[name]
            else:
                record = StreamUpdated(committed[name], StreamConfig(name, max_msgs=9))
        if record is not None:
            catalog.stage(record)
            under_way.append(record)
        catalog.check()
        for one in "abc":
            life = catalog.find("", one)
            assert (None if life is None else life.stream_id) == committed.get(one)
            assert catalog.projected_id("", one) == decided.get(one)
            if life is not None:
                assert catalog.is_deletion_staged(life) == (decided.get(one) != life.stream_id)
        assert catalog.page("", "", 10, 1_000).entries == sorted(committed)
    assert ids == sorted(set(ids)), "no life's id comes twice"


def test_a_snapshot_brings_everything_back_and_nonsense_is_refused() -> None:
    catalog = Catalog(Limits())
    for name in ("b", "a", "c"):
        record = catalog.decide_create("", StreamConfig(name, max_msgs=3, subjects_filter=("x.>", "y")), 7)
        catalog.apply(record)
    catalog.apply(StreamDeleted(StreamId(2)))
    catalog.draw_id()
    twin = Catalog(Limits())
    decode_catalog(encode_catalog(catalog), twin, 0)
    twin.check()
    assert twin.next_id == catalog.next_id
    assert {id_: (life.config, life.created_ms) for id_, life in twin.entries.items()} == {
        id_: (life.config, life.created_ms) for id_, life in catalog.entries.items()
    }
    for nonsense in (b"", b"\x00", b"\x83\x01\x01\x01", b"\x83\x01\x01\x81\x82\x60\x41x"):
        with pytest.raises(CorruptRecord):
            decode_catalog(nonsense, Catalog(Limits()), 0)


def test_a_node_holds_a_bounded_number_of_streams() -> None:
    catalog = Catalog(Limits(streams_max=2))
    for name in "ab":
        catalog.apply(catalog.decide_create("", StreamConfig(name), 1))
    with pytest.raises(RefusedError):
        catalog.decide_create("", StreamConfig("c"), 1)


def test_every_request_says_what_it_needs_to_be_allowed() -> None:
    assert set(ACTIONS) == set(rq.Request.__args__)
    assert stream_of(rq.DeleteStream("s")) == stream_of(rq.Fetch("s", "c")) == "s"
    assert stream_of(rq.ListStreams()) == stream_of(rq.ImportEnd(1, True)) == ""
    assert allow_known_accounts(Principal(), Action.MANAGE, "s") is None
    assert allow_known_accounts(Principal("x"), Action.READ, "s") is not None
