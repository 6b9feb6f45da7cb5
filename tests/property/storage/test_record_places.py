"""Places of records against the obvious model: by position the last frame, without what a cut or a release took away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.storage.journal.places import Place, RecordPlaces

STREAM = 5
acts = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 3)),
        st.tuples(st.just("roll"), st.just(0)),
        st.tuples(st.just("cut"), st.integers(0, 4)),
        st.tuples(st.just("carry"), st.integers(1, 4)),
        st.tuples(st.just("release"), st.integers(0, 3)),
        st.tuples(st.just("gap"), st.integers(1, 3)),
        st.tuples(st.just("forget"), st.just(0)),
    ),
    max_size=60,
)


@given(acts)
def test_a_record_is_where_its_last_frame_stands(script: list[tuple[str, int]]) -> None:
    places, model = RecordPlaces(), dict[int, Place]()
    end, segment, offset, oldest = 0, 1, 64, 1

    def note(position: int) -> None:
        nonlocal offset
        places.note_place(STREAM, position, segment, offset, 72 + position)
        model[position] = Place(position, segment, offset, 72 + position)
        offset += 80

    for what, count in script:
        if what == "append":
            for _ in range(count):
                end += 1
                note(end)
        elif what == "roll":
            segment, offset = segment + 1, 64
        elif what == "cut":
            end = max(0, end - count)
            places.void_above(STREAM, end)
            model = {position: place for position, place in model.items() if position <= end}
        elif what == "carry":
            held = [position for position in range(max(1, end - count + 1), end + 1) if position in model]
            for position in held:
                note(position)
        elif what == "release":
            oldest = min(segment, oldest + count)
            places.release_below(oldest)
            # What stands behind a released record is kept only where all behind it is.
            gone = max((position for position, place in model.items() if place.segment < oldest), default=0)
            model = {position: place for position, place in model.items() if position > gone}
        elif what == "gap":
            end += count + 1
            model = {}
            note(end)
        else:
            places.forget_log(STREAM)
            model = {}
        assert places.first_of(STREAM) == min(model, default=None)
        for position in range(max(0, end - 8), end + 2):
            found = places.places_from(STREAM, position, end, 1)
            assert found == ([model[position]] if position in model else [])


def test_places_come_within_bytes_and_up_to_a_position_but_at_least_one() -> None:
    places = RecordPlaces()
    for position in range(1, 10):
        places.note_place(STREAM, position, 1, 100 * position, 100)
    assert [place.position for place in places.places_from(STREAM, 3, 9, 250)] == [3, 4]
    assert [place.position for place in places.places_from(STREAM, 3, 9, 1)] == [3]
    assert [place.position for place in places.places_from(STREAM, 7, 8, 10_000)] == [7, 8]
    assert places.places_from(STREAM, 9, 8, 100) == [] == places.places_from(6, 1, 8, 100)


def test_released_places_take_no_memory() -> None:
    places = RecordPlaces()
    for position in range(1, 10_001):
        places.note_place(STREAM, position, position // 100, 64, 72)
        if position % 100 == 0:
            places.release_below(position // 100 - 2)
    assert len(places._logs[STREAM].segments) < 1_000
    places.release_below(1 << 40)
    assert places._logs == {}
