"""A long random sequence of calls to both brokers: `python -m waymaker_sim.compare.compare --steps 100000 --seed 1`.

Requests are drawn so that conditions hold about half of the time, names collide, limits are reached and a few inputs
are wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import click

from waymaker_core.api.requests import (
    Ack,
    AckKind,
    CreateConsumer,
    CreateStream,
    DeleteConsumer,
    DeleteStream,
    Fetch,
    GetConsumerInfo,
    GetStreamInfo,
    ListConsumers,
    ListStreams,
    ListSubjects,
    Publish,
    ReadLatest,
    ReadRange,
    ScanSubject,
    Subscribe,
    UpdateStream,
)
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy, Retention, StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.message_codec import encode_body
from waymaker_sim.compare.pair import PAIR_LIMITS, Disagreement, Pair
from waymaker_sim.kernel.tape import Tape, Track

STREAMS = ("one", "two", "three")
CONSUMERS = ("c", "d", "e")
SUBJECTS = ("a", "a.b", "a.c", "b.x.y", "dead.a")
ODD_SUBJECTS = ("", "a..b", ".a", "a.", "a b", "a.*", ">", "a\x00b", "x" * 1025, "other")
ODD_NAMES = ("", "a.b", "a b", "*", "a/b", "n" * 256, "tab\t")
FILTERS = ("", "a", "a.>", "*.b", ">", "b.*.y", "dead.*")


class RandomCalls:
    """Draws requests and sends them to a pair."""

    def __init__(self, track: Track, limits: Limits = PAIR_LIMITS) -> None:
        self.track = track
        self.pair = Pair(track, limits)
        self.limits = limits
        self.counts: dict[str, int] = {}
        self._number = 0
        self._acts: list[tuple[int, Callable[[], None]]] = [
            (30, self.publish),
            (25, self.fetch),
            (25, self.answer),
            (10, self.read),
            (8, self.pass_time),
            (4, self.create_consumer),
            (3, self.create_stream),
            (2, self.delete_consumer),
            (1, self.delete_stream),
            (3, self.update),
            (4, self.subscription),
            (1, self.restart),
            (1, self.set_clock),
        ]

    def step(self) -> None:
        """Make one call on both brokers."""
        self.track.begin()
        act = self.track.weighted("act", self._acts)
        self.counts[act.__name__] = self.counts.get(act.__name__, 0) + 1
        act()

    def _stream(self) -> str:
        if self.track.draw("odd name", 60) == 59:
            return self.track.pick("name", ODD_NAMES)
        return self.track.pick("stream", STREAMS)

    def _subject(self) -> str:
        odd = self.track.draw("odd subject", 25) == 24
        return self.track.pick("subject", ODD_SUBJECTS if odd else SUBJECTS)

    def _consumer(self) -> str:
        return self.track.pick("consumer", CONSUMERS)

    # ------------------------------------------------------------ acts

    def publish(self) -> None:
        """Publish a batch, sometimes with conditions, own times and odd subjects."""
        track, name = self.track, self._stream()
        count = 1 if track.draw("batch", 3) < 2 else 1 + track.draw("messages", 12)
        subjects, sizes, bodies, times, expected = [], [], [], [], []
        conditional = track.draw("conditional", 4) == 3
        stream = self.pair.naive.streams.get(name)
        if conditional and stream is not None and stream.is_loose():
            count = 1  # what a batch's first messages push out, its last ones may or may not find
        timed = track.draw("timed", 6) == 5
        for _ in range(count):
            self._number += 1
            odd = track.draw("odd subject", 25) == 24
            subject = track.pick("subject", ODD_SUBJECTS if odd else SUBJECTS)
            headers = [("k", "v" * track.draw("value", 5))] if track.draw("headers", 5) == 4 else []
            payload = b"%d:" % self._number + b"." * track.magnitude("payload", 300)
            body, size = encode_body(subject, headers, payload, self.limits)
            subjects.append(subject)
            sizes.append(size)
            bodies.append(body)
            wall_ms = self.pair.now.wall_ms
            times.append(wall_ms - 3_000 + track.draw("time", 6_000) if timed and track.draw("own", 2) else 0)
            expected.append(self._expected(name, subject) if conditional else -1)
        if timed and track.draw("negative", 30) == 29:
            times[0] = -1
        request = Publish(
            name, subjects, sizes, [len(body) for body in bodies], b"".join(bodies), times if timed else None,
            expected if conditional else None,
        )  # fmt: skip
        self.pair.ask(request)

    def _expected(self, name: str, subject: str) -> int:
        stream = self.pair.naive.streams.get(name)
        guess = self.track.draw("guess", 4)
        if guess == 3 or stream is None:
            return self.track.draw("expected", 30)
        if guess == 2:
            return -1
        there = stream.at_subject(subject)
        return there[-1].seq if there else 0

    def fetch(self) -> None:
        """Fetch messages of a consumer."""
        self.pair.ask(Fetch(self._stream(), self._consumer(), self.track.draw("batch size", 25)))

    def answer(self) -> None:
        """Ack, nak, term or extend pending messages, and sometimes others."""
        track, name, consumer_name = self.track, self._stream(), self._consumer()
        stream = self.pair.naive.streams.get(name)
        consumer = stream.consumers.get(consumer_name) if stream else None
        pending = sorted(consumer.group.pending) if consumer else []
        some = [seq for seq in pending if track.draw("this", 2) == 0] if track.draw("many", 2) else pending[:1]
        if track.draw("odd seq", 10) == 9:
            some.append(1 + track.draw("seq", 60))
        if not some:
            return
        kind = track.weighted("kind", ((6, AckKind.ACK), (4, AckKind.NAK), (1, AckKind.TERM), (1, AckKind.IN_PROGRESS)))
        if kind is AckKind.IN_PROGRESS and stream is not None and stream.is_work_queue():
            return  # whether an extended delivery is held again is left open
        delay_ms = track.magnitude("delay", 3_000) if kind is AckKind.NAK and track.draw("delayed", 2) else 0
        self.pair.ask(Ack(name, consumer_name, kind, sorted(set(some)), delay_ms))

    def read(self) -> None:
        """Make one kind of read."""
        track, name = self.track, self._stream()
        match track.draw("look", 8):
            case 0:
                self.pair.ask(GetStreamInfo(name))
            case 1:
                self.pair.ask(GetConsumerInfo(name, self._consumer()))
            case 2:
                self.pair.ask(ReadLatest(name, self._subject()))
            case 3:
                from_seq, limit = track.draw("from", 60), track.draw("limit", 7)
                self.pair.ask(ScanSubject(name, self._subject(), from_seq, limit))
            case 4:
                after = track.pick("after", ("", "a", "a.b", "z"))
                self.pair.ask(ListSubjects(name, track.pick("prefix", ("", "a", "a.", "b")), after, track.draw("n", 4)))
            case 5:
                self.pair.ask(ListStreams(track.pick("after", ("", "one", "x")), track.draw("limit", 4)))
            case 6:
                self.pair.ask(ListConsumers(name, track.pick("after", ("", "c")), track.draw("limit", 3)))
            case _:
                self.pair.ask(ReadRange(name, 1 + track.draw("from", 60), 1 + track.draw("limit", 6)))

    def pass_time(self) -> None:
        """Let time pass."""
        self.pair.pass_time(self.track.magnitude("for", 4_000))

    def set_clock(self) -> None:
        """Set the wall clock, far ahead and back, or a little."""
        self.pair.set_clock(self.track.pick("clock by", (0, 5_000, -5_000, 100_000, -100_000, 1_500, -1_500)))

    def create_stream(self) -> None:
        """Create a stream of a random kind."""
        track = self.track
        retention = track.pick("retention", tuple(Retention))
        filters = ((), (), ("a", "a.*", "b.>", "dead.>"), ("a.>", "a.b"), ("*", ">"), ("a..b",), (">",))
        config = StreamConfig(
            self._stream(),
            subjects_filter=track.pick("filter", filters),
            retention=retention,
            block_size=track.pick("block size", (0, 1, 3, 10)),
            max_msg_bytes=track.pick("message bytes", (0, 0, 150)),
            max_msgs_per_subject=track.pick("per subject", (0, 0, 1, 3)),
            ephemeral=track.draw("ephemeral", 15) == 14,
        )
        if retention is Retention.LIMITS:
            config = replace(
                config,
                max_age_ms=track.pick("age", (0, 0, 1_000, 3_000)),
                max_msgs=track.pick("count", (0, 0, 1, 7, 25)),
                max_bytes=track.pick("bytes", (0, 0, 400, 2_000)),
                strict_limits=track.draw("strict", 2) == 1,
            )
        self.pair.ask(CreateStream(config))

    def delete_stream(self) -> None:
        """Delete a stream."""
        self.pair.ask(DeleteStream(self._stream()))

    def update(self) -> None:
        """Change bounds."""
        track = self.track

        def maybe(label: str, options: tuple[int, ...]) -> int | None:
            return track.pick(label, options) if track.draw(f"{label}?", 3) == 2 else None

        strict = track.draw("strict", 3)
        request = UpdateStream(
            self._stream(),
            maybe("age", (0, 500, 2_000)),
            maybe("count", (0, 1, 5, 20)),
            maybe("bytes", (0, 300, 3_000)),
            maybe("message bytes", (0, 100, 1_000)),
            None,
            dry_run=track.draw("dry", 3) == 2,
        )
        stream = self.pair.naive.streams.get(request.name)
        if strict and stream is not None and stream.config.retention is Retention.LIMITS:
            request.strict_limits = strict == 2
        self.pair.ask(request)

    def create_consumer(self) -> None:
        """Create a consumer, sometimes in a group."""
        track = self.track
        name = self._consumer() if track.draw("odd name", 40) < 39 else track.pick("name", ODD_NAMES)
        stream_name = self._stream()
        stream = self.pair.naive.streams.get(stream_name)
        group = "g" if track.draw("group", 3) == 2 else ""
        if group and stream is not None and track.draw("agree", 4):
            for other in stream.consumers.values():
                if other.config.deliver_group == group:
                    self.pair.ask(CreateConsumer(stream_name, replace(other.config, name=name)))
                    return
        policy = track.pick("policy", (DeliveryPolicy.ALL, *DeliveryPolicy))
        config = ConsumerConfig(
            name,
            filter_subject=track.pick("filter", FILTERS),
            policy=policy,
            start_seq=track.draw("start", 40) if policy is DeliveryPolicy.BY_START_SEQ else 0,
            start_time_ms=self.pair.now.wall_ms - 3_000 + track.draw("start time", 5_000)
            if policy is DeliveryPolicy.BY_START_TIME
            else 0,
            ack_wait_ms=track.pick("ack wait", (0, 100, 3_000)),
            max_deliver=track.pick("max deliver", (0, 1, 2)),
            deliver_group=group,
            dead_letter_subject=track.pick("letters", ("", "", "dead.a", "nowhere")),
        )
        self.pair.ask(CreateConsumer(stream_name, config))

    def delete_consumer(self) -> None:
        """Delete a consumer."""
        self.pair.ask(DeleteConsumer(self._stream(), self._consumer()))

    def subscription(self) -> None:
        """Open, credit or end a subscription."""
        track, pair = self.track, self.pair
        tokens = sorted(pair.open)
        if not tokens or (len(tokens) < 3 and track.draw("another", 3) == 2):
            stop = track.draw("stop", 3) == 2
            request = Subscribe(self._stream(), self._consumer(), track.draw("batch", 5), stop)
            pair.subscribe(request, 1 + track.draw("room", 20))
        elif track.draw("hang up", 3) == 2:
            pair.hang_up(track.pick("subscription", tokens))
        else:
            pair.grant_credit(track.pick("subscription", tokens), 1 + track.draw("room", 20))

    def restart(self) -> None:
        """Restart the node where no client would notice."""
        if self.pair.may_restart():
            self.pair.restart(clean=self.track.draw("clean", 2) == 0)


def compare_brokers(seed: int, steps: int, progress: Callable[[int], None] | None = None) -> RandomCalls:
    """Make so many calls. Raises `Disagreement` with the number of the step."""
    conversation = RandomCalls(Tape(seed).track("conversation"))
    for number in range(1, steps + 1):
        try:
            conversation.step()
        except AssertionError as error:
            raise Disagreement(f"seed {seed}, step {number}: {error}") from error
        if progress is not None and number % 1000 == 0:
            progress(number)
    return conversation


@click.command()
@click.option("--steps", default=10_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(steps: int, seed: int) -> None:
    """Compare the node with the naive broker, answer by answer."""
    try:
        conversation = compare_brokers(seed, steps, lambda number: click.echo(f"{number} steps", err=True))
    except Disagreement as error:
        click.echo(str(error))
        sys.exit(1)
    click.echo(f"{steps} steps, {conversation.pair.compared} answers compared, all the same: {conversation.counts}")


if __name__ == "__main__":
    main()
