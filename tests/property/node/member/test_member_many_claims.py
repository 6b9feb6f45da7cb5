"""Claims and openings of many streams: one record for all of them, each decided as if it were alone."""

from __future__ import annotations

import cbor2
import pytest

from tests.kit.member_kit import Cluster, Member
from waymaker_core.api.cluster_requests import ClaimStream, ClaimStreams, OpenAuthorities, OpenAuthority
from waymaker_core.catalog.authority import Claim
from waymaker_core.model.records import AuthorityOpened, StreamsClaimed
from waymaker_core.model.types import CATALOG
from waymaker_core.node.claims import STREAMS_PER_RECORD_MAX
from waymaker_core.node.group_commit import GroupCommit
from waymaker_core.node.stream_log import StreamLog
from waymaker_core.storage import record_codec
from waymaker_core.storage.errors import CorruptRecord


def newest(cluster: Cluster, stream_id: int) -> Claim:
    """Return the newest claim, which is the same on all members."""
    (found,) = {member.node.conf(stream_id) for member in cluster.members}
    assert found is not None
    return found.newest


def claims_of(cluster: Cluster, stream_ids: list[int], primary: int) -> list[ClaimStream]:
    return [ClaimStream(each, primary, [1, 2, 3], newest(cluster, each).epoch) for each in stream_ids]


def kinds_behind(member: Member, position: int) -> list[int]:
    return [each.kind for each in member.records(first=position + 1)]


def test_many_streams_are_claimed_and_opened_by_a_record_each() -> None:
    cluster = Cluster()
    stream_ids = [cluster.create(f"s{number}") for number in range(40)]
    end = cluster.leader.log().end
    epochs = cluster.call(ClaimStreams(claims_of(cluster, stream_ids, 2)))
    assert epochs == [end + 1] * 40
    assert all(newest(cluster, each)[:3] == (end + 1, 2, (1, 2, 3)) for each in stream_ids)
    assert cluster.call(OpenAuthorities([OpenAuthority(each, end + 1) for each in stream_ids])) == 40
    assert kinds_behind(cluster.leader, end) == [StreamsClaimed.KIND, AuthorityOpened.KIND]
    for member in cluster.members:
        assert all(member.node.conf(each).opened.epoch == end + 1 for each in stream_ids)  # type: ignore[union-attr]
        assert member.conf_changes[-80:] == stream_ids * 2
    before = cluster.leader.log().end
    assert cluster.call(OpenAuthorities([OpenAuthority(each, end + 1) for each in stream_ids])) == 0
    assert cluster.leader.log().end == before, "what is open is not opened again"
    for member in cluster.members:
        member.lose_power()
        member.commit()
        assert all(member.node.conf(each).opened.epoch == end + 1 for each in stream_ids)  # type: ignore[union-attr]


def test_each_of_many_is_decided_as_if_it_were_alone() -> None:
    cluster = Cluster()
    stream_ids = [cluster.create(f"s{number}") for number in range(4)]
    claims = claims_of(cluster, stream_ids, 3)
    claims[1].expected_epoch += 1
    claims[2].replicas = [1, 2]
    claims.append(ClaimStream(99, 1, [1], 0))
    before = [newest(cluster, each) for each in stream_ids]
    epochs = cluster.call(ClaimStreams(claims))
    end = cluster.leader.log().end
    assert epochs == [end, 0, 0, end, 0]
    assert [newest(cluster, each).epoch for each in stream_ids] == [end, before[1].epoch, before[2].epoch, end]
    wishes = [OpenAuthority(stream_ids[0], end), OpenAuthority(stream_ids[1], end), OpenAuthority(99, end)]
    assert cluster.call(OpenAuthorities(wishes)) == 1
    assert cluster.call(OpenAuthorities([OpenAuthority(stream_ids[3], 0)])) == 0


def test_an_opening_that_is_decided_and_not_committed_is_not_decided_again() -> None:
    cluster = Cluster()
    stream_ids = [cluster.create(f"s{number}") for number in range(3)]
    epochs = {each: newest(cluster, each).epoch for each in stream_ids}
    request = OpenAuthorities([OpenAuthority(each, epoch) for each, epoch in epochs.items()])
    leader, end = cluster.leader, cluster.leader.log().end
    tokens = [leader.ask(request), leader.ask(request), leader.ask(OpenAuthority(stream_ids[0], epochs[stream_ids[0]]))]
    assert leader.log().end == end + 1
    assert not any(token in leader.replies for token in tokens), "each answer rests on the opening"
    cluster.copy(leader)
    assert [leader.replies[token].value for token in tokens] == [3, 0, None]  # type: ignore[union-attr]


def test_claims_that_do_not_fit_a_record_take_several_and_those_without_room_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert STREAMS_PER_RECORD_MAX > 20
    cluster = Cluster()
    stream_ids = [cluster.create(f"s{number}") for number in range(20)]
    wishes = claims_of(cluster, stream_ids, 1)
    room = 7
    has_room_for = GroupCommit.has_room_for

    def scarce(self: GroupCommit, log: StreamLog, bound: int, *, ordinary: bool) -> bool:
        nonlocal room
        if self is not cluster.leader.node._group_commit:
            return has_room_for(self, log, bound, ordinary=ordinary)
        if bound > 400 or not room:
            return False
        room -= 1
        return True

    monkeypatch.setattr(GroupCommit, "has_room_for", scarce)
    end = cluster.leader.log().end
    epochs = cluster.call(ClaimStreams(wishes))
    assert isinstance(epochs, list)
    made = [epoch for epoch in epochs if epoch]
    assert sorted({*made}) == list(range(end + 1, end + 8)), "as many records as there was room for"
    assert 7 < len(made) < 20
    assert epochs == made + [0] * (20 - len(made)), "the first streams come first"
    for stream_id, epoch in zip(stream_ids, epochs, strict=True):
        assert (newest(cluster, stream_id).epoch == epoch) == bool(epoch)
    room = 1
    openings = [OpenAuthority(stream_id, epoch) for stream_id, epoch in zip(stream_ids, made, strict=False)]
    opened = cluster.call(OpenAuthorities(openings))
    assert isinstance(opened, int) and 1 < opened < len(made)
    assert cluster.leader.log().end == end + 8


@pytest.mark.parametrize(
    "value",
    [
        [[], [], [], []], [[1], [1], [0], []], [[1], [1], [1], [[1]]], [[2, 1], [1, 1], [0, 0], [[1]]],
        [[1, 1], [1, 1], [0, 0], [[1]]], [[1], [1], [0], [[1], [2]]], [[1, 2], [1, 1], [1, 0], [[1], [1, 2]]],
        [[1, 2], [1, 1], [0, 1], [[1], [1]]], [[1], [2], [0], [[1]]], [[1], [], [0], [[1]]], [[1], [1], [], [[1]]],
        [[1], [1], [True], [[1]]], [[1], [1], [0], [[1, 1]]], [[1], [1], [0], 1], [[-1], [1], [0], [[1]]],
        [[1], [1], [0], [1]],
    ],
)  # fmt: skip
def test_columns_that_are_no_claims_are_corrupt(value: object) -> None:
    good = StreamsClaimed([1, 4], [2, 3], [[2, 3, 1], [3, 1]])
    meta = cbor2.dumps([[1, 4], [2, 3], [0, 1], [[2, 3, 1], [3, 1]]])
    assert record_codec.encode(good) == meta
    with pytest.raises(CorruptRecord):
        record_codec.decode(StreamsClaimed.KIND, 1, cbor2.dumps(value))


@pytest.mark.parametrize("value", [[[], []], [[1], []], [[2, 1], [1, 1]], [[1], [True]], [[1], 1], [1, [1]]])
def test_columns_that_are_no_openings_are_corrupt(value: object) -> None:
    with pytest.raises(CorruptRecord):
        record_codec.decode(AuthorityOpened.KIND, 1, cbor2.dumps(value))


def test_the_catalogs_log_has_one_entry_for_the_claims_that_a_new_leader_makes_up_for() -> None:
    cluster = Cluster()
    leader = cluster.leader
    for member in cluster.members:
        member.node._state.catalog.authority.confs.clear()
    stream_ids = [cluster.create(f"s{number}") for number in range(30)]
    for member in cluster.members:
        member.node._state.catalog.authority.confs.clear()
    end = leader.log().end
    cluster.lead_catalog(cluster.members[1], 2)
    assert kinds_behind(cluster.leader, end).count(StreamsClaimed.KIND) == 1
    assert all(newest(cluster, each).epoch > end for each in stream_ids)
    assert cluster.leader.log(CATALOG).applied == cluster.leader.log(CATALOG).end
