"""Claims, terms and places are functions of the log: each rule against a small model, and what is stored against nonsense."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.catalog.authority import NO_CLAIM, NO_CONF, Authority, Claim, Conf
from waymaker_core.catalog.catalog import Catalog
from waymaker_core.catalog.group_history import UNKNOWN, GroupHistory, GroupMembers
from waymaker_core.catalog.placement import hashed_order, place
from waymaker_core.model.config import StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import AuthorityOpened, StreamDeleted, StreamsClaimed
from waymaker_core.model.types import StreamId
from waymaker_core.node.checkpoint.snapshots import decode_catalog, encode_catalog
from waymaker_core.storage.errors import CorruptRecord

LOGS = st.lists(
    st.tuples(st.sampled_from(["claim", "open newest", "open older", "delete"]), st.integers(1, 3), st.integers(1, 5)),
    max_size=30,
)


def catalog_of(log: list[tuple[str, int, int]]) -> tuple[Catalog, dict[int, Conf]]:
    """Apply a log to a catalog of three streams, and to the obvious model of claims."""
    catalog = Catalog(Limits())
    for name in "abc":
        catalog.apply(catalog.decide_create("", StreamConfig(name), 7))
    claims: dict[int, list[Claim]] = {1: [], 2: [], 3: []}
    opened: dict[int, Claim] = {}
    for position, (what, stream_id, node) in enumerate(log, 10):
        made = claims.get(stream_id)
        if what == "claim":
            catalog.apply_cluster(StreamsClaimed([stream_id], [node], [[node, 9]]), position)
            if made is not None:
                made.append(Claim(position, node, (node, 9)))
        elif what == "delete":
            catalog.apply(StreamDeleted(stream_id))
            claims.pop(stream_id, None)
        elif made:
            claim = made[-1] if what == "open newest" else made[0]
            catalog.apply_cluster(AuthorityOpened([stream_id], [claim.epoch]), position)
            if claim == made[-1]:
                opened[stream_id] = claim
    return catalog, {each: Conf(made[-1], opened.get(each, NO_CLAIM)) for each, made in claims.items() if made}


@given(LOGS)
def test_the_newest_claim_and_the_last_opened_one_are_what_the_log_says(log: list[tuple[str, int, int]]) -> None:
    catalog, expected = catalog_of(log)
    assert catalog.authority.confs == expected
    catalog.check()
    again = Catalog(Limits())
    decode_catalog(encode_catalog(catalog), again, 100)
    assert again.authority.confs == expected
    again.check()


def test_a_staged_claim_is_seen_by_decisions_until_it_is_committed_or_discarded() -> None:
    authority = Authority()
    first, second = Claim(3, 1, (1,)), Claim(5, 2, (2,))
    authority.stage_claim(StreamId(1), first)
    authority.stage_claim(StreamId(1), second)
    assert authority.projected_claim(StreamId(1)) == second
    authority.apply_claims(StreamsClaimed([1], [1], [[1]]), 3, {StreamId(1)})
    assert authority.projected_claim(StreamId(1)) == second, "the later one is not committed"
    authority.apply_claims(StreamsClaimed([1], [2], [[2]]), 5, {StreamId(1)})
    authority.discard_uncommitted()
    assert authority.projected_claim(StreamId(1)) == second
    authority.stage_claim(StreamId(1), Claim(9, 3, (3,)))
    authority.discard_uncommitted()
    assert authority.projected_claim(StreamId(1)) == second
    assert authority.confs.get(StreamId(2), NO_CONF).newest == NO_CLAIM


def test_a_staged_opening_counts_until_it_is_committed_or_discarded() -> None:
    authority = Authority()
    authority.apply_claims(StreamsClaimed([1, 2], [1, 1], [[1], [1]]), 3, {StreamId(1), StreamId(2)})
    authority.stage_opening(StreamId(1), 3)
    authority.stage_opening(StreamId(2), 3)
    assert authority.is_opened(StreamId(1), 3) and not authority.is_opened(StreamId(1), 4)
    assert authority.apply_openings(AuthorityOpened([1], [3])) == [1]
    authority.discard_uncommitted()
    assert authority.is_opened(StreamId(1), 3) and not authority.is_opened(StreamId(2), 3)
    authority.stage_opening(StreamId(2), 3)
    authority.forget_claims(StreamId(2))
    assert not authority.is_opened(StreamId(2), 3)


def test_terms_and_members_are_known_from_what_was_released_on() -> None:
    history = GroupHistory()
    history.begin_term(2, 1)
    history.set_members(3, b"three")
    history.begin_term(5, 6)
    history.set_members(8, b"eight")
    assert [history.term_of(at) for at in (0, 1, 5, 6, 99)] == [0, 2, 2, 5, 5]
    assert [history.members_at(at) for at in (2, 3, 7, 8)] == [(0, b""), (3, b"three"), (3, b"three"), (8, b"eight")]
    with pytest.raises(ValueError, match="term 5 follows term 5"):
        history.begin_term(5, 9)
    history.release(7)
    assert [history.term_of(at) for at in (5, 6)] == [UNKNOWN, 5]
    assert [history.members_at(at) for at in (2, 3)] == [None, (3, b"three")]
    again = GroupHistory()
    again.restore(history.history_as_list(), 8)
    assert (again.terms, again.members) == ([(5, 6)], [GroupMembers(8, b"eight")])


@pytest.mark.parametrize(
    "part",
    [
        1, [], [1, 2], [[[0, 0], [0, b""]]], [[[0, 0], [0, b""]], [1]], [[[1, 0], [0, b""]], []], [[[1, 200], [0, b""]], []],
        [[[0, 0], [5, b"x"]], []], [[[0, 0], [0, b"x"]], []], [[[0, 0], [0, b""]], [[9, [5, 1, [1]], [0, 0, []]]]],
        [[[0, 0], [0, b""]], [[1, [0, 0, []], [0, 0, []]]]], [[[0, 0], [0, b""]], [[1, [5, 1, [1]], [6, 1, [1]]]]],
        [[[0, 0], [0, b""]], [[1, [5, 1, [2]], [0, 0, []]]]], [[[0, 0], [0, b""]], [[1, [200, 1, [1]], [0, 0, []]]]],
        [[[0, 0], [0, b""]], [[1, [5, 1, [1, "2"]], [0, 0, []]]]], [[[0, 0], [0, b""]], [[1, [5, 1, [1, 1]], [0, 0, []]]]],
        [[[0, 0], [0, b""]], [[1, [5, 1, [1]], [0, 0, []]], [1, [5, 1, [1]], [0, 0, []]]]],
    ],
)  # fmt: skip
def test_what_is_no_part_of_a_cluster_is_corrupt(part: object) -> None:
    catalog = Catalog(Limits())
    catalog.apply(catalog.decide_create("", StreamConfig("s"), 7))
    fields = cbor2.loads(encode_catalog(catalog))
    decode_catalog(cbor2.dumps([*fields, [[[0, 0], [0, b""]], [[1, [5, 1, [1]], [0, 0, []]]]]]), Catalog(Limits()), 100)
    with pytest.raises(CorruptRecord):
        decode_catalog(cbor2.dumps([*fields, part]), Catalog(Limits()), 100)


# ---------------------------------------------------------------- places


def test_streams_spread_over_all_nodes_about_evenly() -> None:
    counts = dict.fromkeys(range(1, 6), 0)
    for number in range(2_000):
        counts[hashed_order(f"\0stream {number}", (1, 2, 3, 4, 5))[0]] += 1
    assert all(250 < count < 600 for count in counts.values()), counts


@given(st.text(max_size=20), st.lists(st.integers(1, 99), min_size=1, max_size=7, unique=True), st.integers(1, 5))
def test_a_place_has_distinct_nodes_and_one_node_less_moves_only_what_it_had(
    key: str, nodes: list[int], count: int
) -> None:
    order = hashed_order(key, tuple(nodes))
    assert sorted(order) == sorted(nodes)
    assert place(key, tuple(nodes), count) == order[:count]
    for left in nodes[1:]:
        assert hashed_order(key, tuple(node for node in nodes if node != left)) == [n for n in order if n != left]
    first = nodes[-1]
    assert place(key, tuple(nodes), count, first)[0] == first
    assert len(set(place(key, tuple(nodes), count, first))) == min(count, len(nodes))


def test_the_places_of_streams_never_change_by_themselves() -> None:
    assert [hashed_order(f"\0{name}", (1, 2, 3)) for name in ("orders", "jobs", "kv:limits")] == [
        hashed_order(f"\0{name}", (3, 2, 1)) for name in ("orders", "jobs", "kv:limits")
    ]
