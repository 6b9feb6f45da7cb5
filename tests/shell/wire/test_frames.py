"""Frames made by hand are the frames that the generated code would make."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from waymaker.wire import frames
from waymaker.wire.objects import data_frame
from waymaker_core.api.requests import Messages, Published, Run
from waymaker_core.model.disk_ops import Chunk
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body
from waymaker_core.model.result_codes import NO_SUCH_STREAM, OK, WRONG_REVISION, Answer, Outcome, Refusal, Status
from waymaker_proto import pipeline_pb2 as pipe
from waymaker_proto import waymaker_streams_pb2 as pb

LIMITS = Limits()
REFUSAL = Refusal(Status.UNAVAILABLE, "not now", Outcome.NOT_APPLIED, "some_code")
REFUSED = pipe.Refused(status=14, message="not now", outcome="not-applied", code="some_code")
u64 = st.integers(0, 2**64 - 1)


def frame(data: bytes) -> pipe.Frame:
    return pipe.Frame.FromString(data)


@given(st.binary(min_size=1, max_size=300))
def test_a_frame_of_data_is_the_one_of_an_upload_and_of_a_download(data: bytes) -> None:
    assert data_frame(data) == pb.PutObjectStreamFrame(data=data).SerializeToString()
    assert data_frame(memoryview(data)) == pb.GetObjectStreamFrame(data=data).SerializeToString()


@given(u64, u64, st.integers(0, 2**32 - 1))
def test_a_publish_answer_reads_back(id_: int, first_seq: int, count: int) -> None:
    data = frames.published(id_, Answer(OK, "", Published(first_seq, count, None)))
    expected = pipe.Published(id=id_, first_seq=first_seq, count=count, result_code="ok")
    assert frame(data) == pipe.Frame(published=[expected])


def test_failures_codes_and_refusals_of_publishes_read_back() -> None:
    failures = {2: (WRONG_REVISION, "it is 9", 9), 0: ("oversize", "big", 0)}
    partly = frame(frames.published(1, Answer(OK, "", Published(5, 1, failures)))).published[0]
    assert [(f.index, f.result_code, f.message, f.seq) for f in partly.failures] == [
        (0, "oversize", "big", 0),
        (2, WRONG_REVISION, "it is 9", 9),
    ]
    coded = frame(frames.published(1, Answer(NO_SUCH_STREAM, "none"))).published[0]
    assert (coded.result_code, coded.message, coded.HasField("refused")) == (NO_SUCH_STREAM, "none", False)
    assert frame(frames.published(1, REFUSAL)).published[0].refused == REFUSED


def test_sequences_that_are_not_consecutive_read_back_as_ranges() -> None:
    value = Published(4, 5, {1: ("oversize", "big", 0)}, array("Q", [4, 5, 9, 3, 4]))
    read = frame(frames.published(1, Answer(OK, "", value))).published[0]
    assert [(run.first, run.last) for run in read.stored] == [(4, 5), (9, 9), (3, 4)]
    assert (read.first_seq, read.count, len(read.failures)) == (4, 5, 1)


@given(st.lists(st.sampled_from(["ok", "malformed", "refused"]), min_size=1, max_size=40))
def test_malformed_messages_keep_the_indexes_of_the_batch(fates: list[str]) -> None:
    seen = [fate for fate in fates if fate != "malformed"]
    failures = {index: (WRONG_REVISION, "", 9) for index, fate in enumerate(seen) if fate == "refused"}
    malformed = {index: REFUSAL for index, fate in enumerate(fates) if fate == "malformed"}
    answer = Answer(OK, "", Published(5, seen.count("ok"), failures or None))
    read = frame(frames.published(1, answer, malformed)).published[0]
    assert (read.count, read.result_code) == (fates.count("ok"), "ok")
    told = {failure.index: "malformed" if failure.status == 14 else "refused" for failure in read.failures}
    assert [failure.index for failure in read.failures] == sorted(told)
    assert told == {index: fate for index, fate in enumerate(fates) if fate != "ok"}


def test_answers_to_acknowledgements_read_back() -> None:
    assert frame(frames.acked(3, Answer(OK))).acked == [pipe.Acked(id=3, result_code="ok")]
    assert frame(frames.acked(3, REFUSAL)).acked == [pipe.Acked(id=3, refused=REFUSED)]
    coded = frames.acked(3, Answer(NO_SUCH_STREAM, "none"))
    assert frame(coded).acked == [pipe.Acked(id=3, result_code=NO_SUCH_STREAM, message="none")]


@given(u64, st.binary(max_size=300), st.text(max_size=20))
def test_a_call_s_result_reads_back_with_an_empty_response_present(id_: int, response: bytes, cursor: str) -> None:
    result = frame(frames.call_result(id_, response, cursor)).results[0]
    assert (result.id, result.response, result.next) == (id_, response, cursor)
    assert result.HasField("response")
    refused = frame(frames.call_refused(id_, REFUSAL)).results[0]
    assert not refused.HasField("response")
    assert refused.refused == REFUSED


def test_the_end_of_a_subscription_reads_back() -> None:
    assert frame(frames.ended(8, "empty", None)).ended == [pipe.Ended(subscription=8, reason="empty")]
    assert frame(frames.ended(8, "", REFUSAL)).ended[0].refused == REFUSED


@given(
    st.lists(
        st.tuples(
            st.integers(1, 2**63 - 100),
            st.integers(0, 2**32 - 1),
            st.lists(st.tuples(st.integers(-(2**62), 2**62), st.binary(max_size=20)), min_size=1, max_size=5),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_delivery_reads_back_column_by_column(
    drawn: list[tuple[int, int, list[tuple[int, bytes]]]],
) -> None:
    runs, bodies = [], []
    for first_seq, count, messages in drawn:
        stored = [encode_body("a.b", [], payload, LIMITS)[0] for _, payload in messages]
        lengths = array("I", map(len, stored))
        bodies.append(b"".join(stored))
        runs.append(Run(Chunk("p", 0, 0, 0), 0, lengths, first_seq, array("q", [t for t, _ in messages]), count))
    data = frames.delivery(77, Messages(runs, 0, 0), bodies)
    (batch,) = frame(data).deliveries
    assert batch.subscription == 77
    for run, body, got in zip(runs, bodies, batch.runs, strict=True):
        assert (got.first_seq, got.deliver_count, got.bodies) == (run.first_seq, run.deliver_count, body)
        assert list(got.ts_ms) == list(run.times_ms)
        assert list(got.lengths) == list(run.lengths)


def test_scattered_messages_leave_as_stretches_of_consecutive_sequences() -> None:
    lengths, times = array("I", [2, 3, 2]), array("q", [5, 6, 7])
    run = Run(Chunk("p", 0, 9, 0), 0, lengths, 3, times, 2, array("Q", [3, 4, 9]), array("Q", [0, 2, 7]))
    (batch,) = frame(frames.delivery(1, Messages([run], 3, 0), [b"aabbbcc"])).deliveries
    got = [(one.first_seq, one.deliver_count, list(one.ts_ms), list(one.lengths), one.bodies) for one in batch.runs]
    assert got == [(3, 2, [5, 6], [2, 3], b"aabbb"), (9, 2, [7], [2], b"cc")]


def test_fragments_of_one_frame_are_simply_joined() -> None:
    data = frames.welcome(pipe.Welcome(version=1)) + frames.acked(1, Answer(OK)) + frames.acked(2, Answer(OK))
    joined = frame(data + frames.closing("server_shutdown"))
    assert joined.welcome.version == 1
    assert [a.id for a in joined.acked] == [1, 2]
    assert joined.closing.reason == "server_shutdown"
