"""What becomes of a message after its last delivery; one sentence a test."""

from __future__ import annotations

from array import array

from tests.kit.consumer_world import ConsumerWorld, consumer, queue, world
from waymaker_core.api.requests import AckKind
from waymaker_core.consumer.dead_letter.letter import DeadLetterBuilder
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import decode_body, encode_body, readdress

NAK = AckKind.NAK


def test_after_the_last_delivery_an_expiry_or_a_nak_drops_the_message() -> None:
    w = world()
    w.publish("a", "a")
    c = w.create(consumer(max_deliver=2))
    w.fetch(c, 2)
    w.answer(c, NAK, [1, 2])
    assert w.fetch(c, 2) == [(1, 2), (2, 2)]
    w.answer(c, NAK, [1], 10_000)
    w.give_up()
    assert (w.consumers.info(c).redelivered_dropped, w.consumers.info(c).ack_floor) == (1, 1)
    w.now_ms += 100
    w.give_up()
    assert (w.consumers.info(c).redelivered_dropped, w.consumers.info(c).ack_floor) == (2, 2)
    assert w.fetch(c, 2) == []
    assert w.stream.is_live(1) and w.stream.is_live(2)
    w.check()


def letters(w: ConsumerWorld, first: int) -> list[tuple[str, dict[str, str], bytes]]:
    """Subject, headers and payload of every message from a sequence on."""
    found = []
    for seq in range(first, w.stream.last_seq + 1):
        subject, headers, payload = decode_body(w.bodies[seq])
        found.append((subject, dict(headers), payload))
    return found


def test_a_dead_letter_says_where_it_comes_from() -> None:
    w = world()
    w.publish("a.b", payload=b"hello")
    c = w.create(consumer(max_deliver=1, filter_subject="a.*", dead_letter_subject="dlq.x"))
    w.fetch(c, 1)
    w.now_ms += 100
    w.give_up()
    assert letters(w, 2) == [
        (
            "dlq.x",
            {
                "x-waymaker-dlq-stream": "s",
                "x-waymaker-dlq-consumer": "c",
                "x-waymaker-dlq-seq": "1",
                "x-waymaker-dlq-subject": "a.b",
                "x-waymaker-dlq-deliver-count": "1",
                "x-waymaker-dlq-reason": "max_deliver",
            },
            b"hello",
        )
    ]
    assert w.consumers.info(c).redelivered_dropped == 1
    assert w.stream.is_live(1)


def test_on_a_work_queue_the_original_leaves_with_its_dead_letter_only() -> None:
    w = queue()
    c = w.create(consumer(max_deliver=1, dead_letter_subject="dlq", filter_subject="a"))
    w.fetch(c, 2)
    w.now_ms += 100
    w.give_up()
    assert [w.stream.is_live(seq) for seq in range(1, 8)] == [False, False, True, True, True, True, True]
    w.delete("c")
    plain = w.create(consumer(max_deliver=1, filter_subject="a"))
    w.fetch(plain, 1)
    w.now_ms += 100
    w.give_up()
    assert w.stream.is_live(3)


def test_a_consumer_that_reads_its_own_dead_letters_buries_nothing_twice() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer(max_deliver=1, dead_letter_subject="dlq"))
    for _ in range(6):
        w.fetch(c, 9)
        w.now_ms += 100
        w.give_up()
    assert w.stream.last_seq == 2
    assert w.consumers.info(c).redelivered_dropped == 2
    w.check()


def test_two_consumers_that_bury_each_others_dead_letters_come_to_an_end() -> None:
    w = world()
    w.publish("a")
    one = w.create(consumer("one", max_deliver=1, dead_letter_subject="dlq.one"))
    two = w.create(consumer("two", max_deliver=1, dead_letter_subject="dlq.two"))
    for _ in range(12):
        w.fetch(one, 50)
        w.fetch(two, 50)
        w.now_ms += 100
        w.give_up()
    # Each of the two copies the original once, and the other's copy once.
    assert w.stream.last_seq == 5
    w.check()


def test_members_of_a_group_bury_nothing_that_one_of_them_buried() -> None:
    w = world()
    w.publish("a")
    one = w.create(consumer("one", deliver_group="g", max_deliver=1, dead_letter_subject="dlq"))
    two = w.create(consumer("two", deliver_group="g", max_deliver=1, dead_letter_subject="dlq"))
    w.fetch(one, 1)
    w.now_ms += 100
    w.give_up()
    assert letters(w, 2)[0][1]["x-waymaker-dlq-consumer"] == "one"
    w.delete("one")
    w.fetch(two, 1)
    w.now_ms += 100
    w.give_up()
    assert w.stream.last_seq == 2


def test_a_forged_mark_does_not_reach_the_stream() -> None:
    body, _ = encode_body("a", [("x-waymaker-dlq-consumer", "c")], b"", Limits())
    assert decode_body(body) == ("a", [], b"")


def test_an_ack_while_the_body_is_read_wins_over_the_dead_letter() -> None:
    w = world()
    w.publish("a", "a", "a")
    c = w.create(consumer(max_deliver=1, dead_letter_subject="dlq"))
    w.fetch(c, 3)
    w.now_ms += 100
    w.consumers.expire(w.now)
    (spent,) = w.hand_out()
    assert spent.seqs == array("Q", [1, 2, 3]) and not w.consumers.has_exhausted()
    assert w.ack(c, 2) == 1
    w.prune(2)
    w.drop(spent)
    w.commit()
    assert [headers["x-waymaker-dlq-seq"] for _, headers, _ in letters(w, 4)] == ["3"]
    assert w.consumers.info(c).redelivered_dropped == 1
    w.check()


def test_bodies_that_could_not_be_read_are_asked_for_again() -> None:
    w = world()
    w.publish("a", "a")
    c = w.create(consumer(max_deliver=1, dead_letter_subject="dlq"))
    w.fetch(c, 2)
    w.now_ms += 100
    w.consumers.expire(w.now)
    (spent,) = w.hand_out(1)
    w.consumers.abort_dead_lettering(spent)
    assert sorted(seq for spent in w.hand_out(9) for seq in spent.seqs) == [1, 2]


def test_what_is_handed_out_is_bounded_in_bytes() -> None:
    w = world()
    w.publish("a", "a", "a", payload=b"x" * 1000)
    c = w.create(consumer(max_deliver=1, dead_letter_subject="dlq"))
    w.fetch(c, 3)
    w.now_ms += 100
    w.consumers.expire(w.now)
    assert [list(spent.seqs) for spent in w.consumers.begin_dead_lettering(9, 10)] == [[1]]
    assert [list(spent.seqs) for spent in w.consumers.begin_dead_lettering(9, 5_000)] == [[2, 3]]


def test_a_group_that_ends_while_bodies_are_read_drops_nothing() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer(max_deliver=1, dead_letter_subject="dlq"))
    w.fetch(c, 1)
    w.now_ms += 100
    w.consumers.expire(w.now)
    (spent,) = w.hand_out()
    w.decide(w.consumers.decide_delete("c"))
    assert w.drop(spent) == [] and not w.consumers.has_exhausted()
    w.commit()
    assert w.drop(spent) == []


def test_what_was_given_back_is_dropped_once_only() -> None:
    w = world()
    w.publish("a")
    c = w.create(consumer(max_deliver=1, dead_letter_subject="dlq"))
    w.fetch(c, 1)
    w.now_ms += 100
    w.consumers.expire(w.now)
    (spent,) = w.hand_out()
    w.consumers.abort_dead_lettering(spent)
    assert w.drop(spent) == []
    w.give_up()
    assert w.stream.last_seq == 2 and w.consumers.info(c).redelivered_dropped == 1


def marks_after(count: int, group: str = "") -> list[dict[str, str]]:
    """The headers that a message has each time that one more of several consumers gives it up."""
    w = world()
    w.publish("a", payload=b"p")
    body = w.bodies[1]
    found: list[dict[str, str]] = []
    for number in range(count):
        builder = DeadLetterBuilder("s", f"c{number}", group if number == 1 else "", [f"c{number}"], f"dead.{number}")
        letter = builder.letter(number + 1, 1, body)
        assert letter is not None
        assert builder.letter(9, 1, letter) is None, "it is its own"
        body = letter
        _, headers, payload = decode_body(body)
        assert payload == b"p" and len(dict(headers)) == len(headers), "each header once"
        found.append({key.removeprefix("x-waymaker-dlq-"): value for key, value in headers})
    for number in range(count):
        back = DeadLetterBuilder("s", f"c{number}", group if number == 1 else "", [f"c{number}"], "dead.again")
        assert back.letter(9, 1, body) is None, "nobody makes a dead letter of its own, however many came between"
    return found


def test_a_dead_letter_of_a_dead_letter_has_one_set_of_marks_and_its_first_origin() -> None:
    first, second, third, fourth = marks_after(4, group="odd, 100 % / group")
    assert first["consumer"] == "c0" and first["subject"] == "a"
    assert not any(key.startswith("origin-") for key in first)
    assert second["consumer"] == "c1" and second["subject"] == "dead.0" and second["seq"] == "2"
    origin = {key: value for key, value in second.items() if key.startswith("origin-")}
    assert origin == {f"origin-{key}": value for key, value in first.items()}
    assert "via" not in second and second["group"] == "odd, 100 % / group"
    for later in (third, fourth):
        assert {key: value for key, value in later.items() if key.startswith("origin-")} == origin
        assert "group" not in later
    assert third["via"] == "s/c1/odd%2C 100 %25 / group"
    assert fourth["via"] == "s/c2, s/c1/odd%2C 100 %25 / group"


def test_a_dead_letter_of_an_earlier_version_is_understood() -> None:
    """It carries whole sets of marks, the latest first."""
    w = world()
    w.publish("a")
    body = w.bodies[1]
    for number in range(3):
        marks = [("stream", "s"), ("consumer", f"c{number}"), ("seq", str(number)), ("group", f"g{number}")]
        body = readdress(body, "dead", [("x-waymaker-dlq-" + key, value) for key, value in marks])
    for own in ("c0", "c1", "c2"):
        assert DeadLetterBuilder("s", own, "", [own], "dead").letter(9, 1, body) is None
    letter = DeadLetterBuilder("s", "c3", "", ["c3"], "dead").letter(9, 1, body)
    assert letter is not None
    headers = dict(decode_body(letter)[1])
    assert headers["x-waymaker-dlq-origin-consumer"] == "c0" and headers["x-waymaker-dlq-origin-group"] == "g0"
    assert headers["x-waymaker-dlq-via"] == "s/c2/g2, s/c1/g1"
