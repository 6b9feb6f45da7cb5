"""Puts that are decided as columns leave exactly what they leave when they are decided one by one."""

from __future__ import annotations

from random import Random

import pytest

from tests.kit.kv_kit import Bucket, Change
from tests.kit.node_kit import SMALL
from waymaker_core.api.kv_requests import KvOp
from waymaker_core.kv import decisions


def request(random: Random) -> list[Change]:
    """Draw changes of a few keys: puts alone most of the time, sometimes with a lifetime, a fault or another change."""
    keys = [random.choice(["a", "b", "c.d", "e"]) for _ in range(random.randint(1, 8))]
    changes = [Change(KvOp.PUT, key, b"v" * random.choice((0, 1, 130))) for key in keys]
    if random.random() < 0.4:
        place = random.randrange(len(changes))
        changes[place] = random.choice(
            [
                changes[place]._replace(ttl_ms=random.choice((1, 5_000))),
                changes[place]._replace(key="no key"),
                changes[place]._replace(value=bytes(3_000)),
                Change(KvOp.DELETE, keys[place]),
                Change(KvOp.TOUCH, keys[place], ttl_ms=2_000),
            ]
        )
    return changes


def files(bucket: Bucket) -> dict[str, bytes]:
    """Return what the bucket's node has written."""
    return {name: bytes(file.content) for name, file in bucket.server.disk.names.items()}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("settings", [{}, {"history": 3}, {"max_age_ms": 3_000}])
def test_columns_or_one_by_one_is_the_same(
    monkeypatch: pytest.MonkeyPatch, seed: int, settings: dict[str, int]
) -> None:
    columns, singles = (Bucket(None, "b", SMALL, max_value_size=2_000, **settings) for _ in range(2))
    are_plain = decisions._Write._are_plain_puts
    judged: list[bool] = []

    def are_plain_puts(write: decisions._Write) -> bool:
        judged.append(are_plain(write))
        return judged[-1]

    random = Random(seed)
    for _ in range(40):
        changes = request(random)
        monkeypatch.setattr(decisions._Write, "_are_plain_puts", are_plain_puts)
        found = [columns.write(*changes)]
        monkeypatch.setattr(decisions._Write, "_are_plain_puts", lambda _: False)
        found.append(singles.write(*changes))
        assert str(found[0]) == str(found[1])
        pause_ms = random.choice((0, 0, 1, 700))
        for bucket in (columns, singles):
            bucket.server.pass_ms(pause_ms)
    assert ("max_age_ms" in settings) == (True not in judged)
    assert files(columns) == files(singles)
    assert columns.server.node.stats.kv_puts == singles.server.node.stats.kv_puts
