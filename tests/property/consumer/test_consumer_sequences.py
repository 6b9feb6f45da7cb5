"""Sets of sequences against Python's own sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.consumer.sequences import SeqSet, is_run, lowest, mask_at, ones, positions

SEQS = st.integers(1, 4000) | st.integers(1, 60)
MASKS = st.integers(0, (1 << 70) - 1) | st.integers(0, (1 << 3000) - 1)


def _of_mask(first: int, mask: int) -> set[int]:
    return {first + index for index in range(mask.bit_length()) if mask >> index & 1}


@given(mask=MASKS)
def test_positions_and_masks_are_two_ways_to_say_the_same(mask: int) -> None:
    found = positions(mask)
    assert found == sorted(_of_mask(0, mask))
    assert mask_at(found) == mask


@given(mask=MASKS, count=st.integers(0, 80))
def test_the_lowest_bits_of_a_mask_are_a_prefix_of_its_positions(mask: int, count: int) -> None:
    assert positions(lowest(mask, count)) == positions(mask)[:count]


@given(seqs=st.lists(SEQS, min_size=1, unique=True).map(sorted))
def test_a_run_has_no_gap(seqs: list[int]) -> None:
    assert is_run(seqs) == (seqs == list(range(seqs[0], seqs[-1] + 1)))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["add", "discard", "below"]), SEQS, st.just(0)),
        st.tuples(st.sampled_from(["add_mask", "discard_mask"]), SEQS, MASKS),
    ),
    max_size=30,
)


@given(steps=STEPS, other=st.sets(SEQS, max_size=40), at=SEQS, count=st.integers(1, 3000), limit=st.integers(1, 50))
def test_a_set_of_sequences_is_a_set(
    steps: list[tuple[str, int, int]], other: set[int], at: int, count: int, limit: int
) -> None:
    model: set[int] = set()
    real = SeqSet()
    for name, seq, mask in steps:
        if name == "add":
            real.add(seq)
            model.add(seq)
        elif name == "discard":
            real.discard(seq)
            model.discard(seq)
        elif name == "below":
            real.drop_below(seq)
            model = {member for member in model if member >= seq}
        elif name == "add_mask":
            real.add_mask(seq, mask)
            model |= _of_mask(seq, mask)
        else:
            real.discard_mask(seq, mask)
            model -= _of_mask(seq, mask)
        real.check()
        assert len(real) == len(model)
    assert real.to_list() == sorted(model)
    assert bool(real) == bool(model)
    assert not model or real.least() == min(model)
    assert real.first(limit, SeqSet(sorted(other))) == sorted(model - other)[:limit]
    assert real.mask_of(at, count) == sum(1 << (seq - at) for seq in model if at <= seq < at + count)
    for some in (sorted(other), list(range(at, at + limit))):
        assert real.among(some) == [seq for seq in some if seq in model]
        copy = SeqSet(sorted(model))
        copy.add_all(some)
        assert copy.to_list() == sorted(model | set(some))
        copy.discard_all(some)
        assert copy.to_list() == sorted(model - set(some))
        copy.check()
    assert all((seq in real) == (seq in model) for seq in [at, at + count, *other])
    assert ones(count).bit_count() == count
