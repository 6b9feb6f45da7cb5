"""What the simulator makes of copies: the same message of the same place is one copy, of a source created anew another."""

from __future__ import annotations

import pytest

from waymaker_core.model.config import SourceConfig, StreamConfig
from waymaker_core.model.message_codec import header_field, payload_field, subject_field
from waymaker_sim.history.copying import MARK, CopyingName, CopyLog
from waymaker_sim.history.history import History
from waymaker_sim.kernel.checks import Violation
from waymaker_sim.machine.process import ReceivedMessage

MIDDLE = CopyingName("middle")


def copy(seq: int, stored_ms: int) -> ReceivedMessage:
    marks = {"stream": "middle", "seq": "1", "subject": "a", "ts-ms": str(stored_ms)}
    marks |= {"origin-stream": "s", "origin-seq": "9", "origin-subject": "a", "origin-ts-ms": "5"}
    headers = b"".join(header_field(MARK + key, value) for key, value in marks.items())
    return ReceivedMessage(seq, 0, 0, subject_field("a") + headers + payload_field(b"one"))


def log() -> CopyLog:
    return CopyLog("end", StreamConfig("end", sources=(SourceConfig("middle"),)), False)


def test_a_middle_stream_that_is_created_anew_may_copy_the_same_message_to_the_same_place() -> None:
    end = log()
    end.add(copy(1, 10), History(), {"middle": MIDDLE})
    end.add(copy(2, 20), History(), {"middle": MIDDLE})
    assert [each.stored_ms for each in end.copied] == [10, 20]


def test_a_message_of_one_middle_stream_is_copied_once() -> None:
    end = log()
    end.add(copy(1, 10), History(), {"middle": MIDDLE})
    with pytest.raises(Violation, match="seq 2 and 1 are both of 1"):
        end.add(copy(2, 10), History(), {"middle": MIDDLE})
