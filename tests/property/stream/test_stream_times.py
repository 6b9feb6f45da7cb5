"""Times of mixed batches: given ones are kept, and the server's own never decrease, whatever is refused and however the clock
jumps.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.kit.stream_bench import LIMITS, Bench
from waymaker_core.api.requests import Publish
from waymaker_core.stream import admission
from waymaker_core.stream.snapshot import decode_snapshot, encode_snapshot

ENTRIES = st.lists(
    st.tuples(st.sampled_from(["a", "b", "no"]), st.sampled_from([0, 0, 700, 5_000])), min_size=1, max_size=4
)
BATCHES = st.lists(st.tuples(ENTRIES, st.integers(1, 10_000), st.booleans()), min_size=1, max_size=8)
"""Entries of subject and given time, the wall clock when they come, and whether the stream is restarted before."""


@given(BATCHES)
def test_server_times_never_decrease_behind_a_partly_refused_batch(
    batches: list[tuple[list[tuple[str, int]], int, bool]],
) -> None:
    bench = Bench(subjects_filter=("a", "b"))
    clock_ms = 0
    for entries, wall_ms, restarted in batches:
        if restarted:
            # What is known after a restart comes from the records alone.
            bench.stream = decode_snapshot(encode_snapshot(bench.stream), LIMITS)
        subjects, times = [subject for subject, _ in entries], [time_ms for _, time_ms in entries]
        request = Publish("s", subjects, [3] * len(entries), [2] * len(entries), b"xy" * len(entries), times, None)
        decision = admission.decide_publish(bench.stream, request, wall_ms)
        accepted = [time_ms for subject, time_ms in entries if subject != "no"]
        refused = {at for at, (subject, _) in enumerate(entries) if subject == "no"}
        assert set(decision.published.failures or {}) == refused
        if not accepted:
            assert decision.record is None
            continue
        now_ms = max(clock_ms, wall_ms)
        assert decision.record is not None
        assert list(decision.record.times_ms) == [time_ms or now_ms for time_ms in accepted]
        if 0 in accepted:
            clock_ms = now_ms
        bench.apply(decision)
