"""A stream against the naive model: every decision, every read, through delayed commits, moves, evictions and restarts."""

from __future__ import annotations

from array import array

import cbor2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.kit.stream_model import Failure, Message, Model, ToyDisk, ack_record, relocate_blocks, resident, view
from waymaker_core.api.requests import ImportBatch, Publish, UpdateStream
from waymaker_core.model.config import Retention, StreamConfig
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import AckRecord, DropRecord, PruneRecord, PublishRecord, SettingsRecord
from waymaker_core.model.subjects import Pattern
from waymaker_core.stream import Stream, admission, join_publishes, reads, updated, validate
from waymaker_core.stream.answers import MESSAGE_OVERHEAD_BYTES, Displaced
from waymaker_core.stream.invariants import check_stream
from waymaker_core.stream.join import joinable
from waymaker_core.stream.relocation import relocation as relocating
from waymaker_core.stream.retention import decisions as retention
from waymaker_core.stream.snapshot import decode_snapshot, encode_snapshot

LIMITS = Limits()
SUBJECTS = ["a", "b", "c.x", "c.y", "d.x.z"]
PATTERNS = [None, ">", "a", "b", "c.*", "c.>", "*", "d.x.z", "nothing.here"]
bound = st.one_of(st.just(0), st.integers(1, 12))

configs = st.builds(
    StreamConfig,
    name=st.just("s"),
    retention=st.just(Retention.LIMITS),
    max_age_ms=st.one_of(st.just(0), st.integers(1, 40)),
    max_msgs=bound,
    max_bytes=st.one_of(st.just(0), st.integers(8, 90)),
    strict_limits=st.booleans(),
    block_size=st.integers(1, 7),
    max_msg_bytes=st.sampled_from([0, 0, 0, 12]),
    max_msgs_per_subject=st.sampled_from([0, 0, 1, 2, 3]),
) | st.builds(
    StreamConfig,
    name=st.just("s"),
    retention=st.sampled_from([Retention.WORK_QUEUE, Retention.INTEREST]),
    block_size=st.integers(1, 7),
    max_msgs_per_subject=st.sampled_from([0, 0, 2]),
)


class StreamMachine(RuleBasedStateMachine):
    """Decisions are queued as records and committed later, in order, some joined."""

    @initialize(config=configs, client_times=st.booleans(), reserve=st.sampled_from([0, 0, 100]))
    def begin(self, config: StreamConfig, client_times: bool, reserve: int) -> None:
        self.config = validate(config, LIMITS)
        self.stream = Stream(7, self.config, 1, LIMITS)
        self.stream.reserve_interval_ms = reserve
        self.model = Model(self.config)
        self.disk = ToyDisk()
        self.client_times = client_times
        self.wall_ms = 100
        self.queue: list[PublishRecord | PruneRecord | AckRecord | DropRecord | SettingsRecord] = []
        self.log: list[tuple[int, PublishRecord | PruneRecord | AckRecord | DropRecord | SettingsRecord, object]] = []
        self.bodies: dict[int, bytes] = {}
        self.serial = 0
        self.number = 0
        self.snapshot: tuple[object, StreamConfig] | None = None
        self.first_config = self.config

    # ------------------------------------------------------------ decisions

    @rule(
        entries=st.lists(
            st.tuples(st.sampled_from(SUBJECTS), st.integers(0, 20), st.integers(-1, 3), st.integers(-60, 30)),
            min_size=1,
            max_size=9,
        ),
        compare=st.booleans(),
        own_times=st.booleans(),
    )
    def publish(self, entries: list[tuple[str, int, int, int]], compare: bool, own_times: bool) -> None:
        own_times = own_times and self.client_times
        bodies = []
        for _ in entries:
            self.serial += 1
            bodies.append(b"%d|" % self.serial + bytes(self.serial % 5))
        # Expectations that sometimes hold: a small step back from what the projection has.
        expected = [-1 if guess < 0 else self._guess(subject, guess) for subject, _, guess, _ in entries]
        times = [max(0, self.wall_ms + shift) if shift % 3 else 0 for _, _, _, shift in entries]
        request = Publish(
            "s",
            [subject for subject, _, _, _ in entries],
            [size for _, size, _, _ in entries],
            [len(body) for body in bodies],
            b"".join(bodies),
            times_ms=times if own_times else None,
            expected=expected if compare else None,
        )
        settled = self.stream.is_settled()
        decision = resident(
            self.stream, self.disk, lambda: admission.decide_publish(self.stream, request, self.wall_ms)
        )
        answers = [
            self.model.publish(
                subject, size, bodies[entry], times[entry] if own_times else 0, expected[entry] if compare else -1,
                self.wall_ms,
            )
            for entry, (subject, size, _, _) in enumerate(entries)
        ]  # fmt: skip
        accepted = [answer for answer in answers if isinstance(answer, Message)]
        failures = {entry: answer for entry, answer in enumerate(answers) if isinstance(answer, Failure)}
        got = decision.published.failures or {}
        assert {entry: (code, seq) for entry, (code, _, seq) in got.items()} == {
            entry: (failure.code, failure.seq) for entry, failure in failures.items()
        }
        assert decision.published.count == len(accepted)
        assert b"".join(decision.parts) == b"".join(message.body for message in accepted)
        if any(failure.code == "wrong_revision" for failure in failures.values()) and not accepted:
            assert decision.depends_on_uncommitted == (not settled)
        if not accepted:
            assert decision.record is None
            return
        record = decision.record
        assert record is not None
        assert decision.published.first_seq == record.first_seq == accepted[0].seq
        assert list(record.times_ms) == [message.time_ms for message in accepted]
        assert list(record.sizes) == [message.size for message in accepted]
        for message in accepted:
            self.bodies[message.seq] = message.body
        self.queue.append(record)

    def _guess(self, subject: str, guess: int) -> int:
        newest = max((message.seq for message in self.model.decided if message.subject == subject), default=0)
        return max(0, newest - guess // 2)

    @rule(seqs=st.lists(st.integers(1, 60), max_size=8))
    def acknowledge(self, seqs: list[int]) -> None:
        if self.config.retention is not Retention.WORK_QUEUE:
            return
        drops, sizes = resident(self.stream, self.disk, lambda: retention.decide_drops(self.stream, seqs))
        decided = {message.seq: message for message in self.model.decided}
        committed = {message.seq for message in self.model.committed}
        expected = [seq for seq in dict.fromkeys(seqs) if seq in decided and seq in committed]
        assert list(drops) == expected
        assert list(sizes) == [decided[seq].size for seq in expected]
        self.model.forget(set(drops))
        self.queue.append(ack_record(drops, sizes))

    @rule(seqs=st.lists(st.integers(1, 40), unique=True, min_size=1, max_size=5))
    def dead_letter(self, seqs: list[int]) -> None:
        """Copies, and for a work queue the end of the originals, in one record."""
        decided = {message.seq: message for message in self.model.decided}
        committed = {message.seq for message in self.model.committed}
        seqs = sorted(seq for seq in seqs if seq in decided and seq in committed)
        if not seqs or (self.config.max_msgs_per_subject and self.config.max_bytes):
            return
        bodies = [b"dead %d" % seq for seq in seqs]
        stream = self.stream
        replace = self.config.retention is Retention.WORK_QUEUE
        try:
            decision = resident(
                stream, self.disk, lambda: admission.decide_copies(stream, "dead", seqs, bodies, self.wall_ms, replace)
            )
        except Displaced:
            # The copies would push each other out: nothing is changed, as `figures_agree` sees.
            assert self.config.max_msgs or self.config.max_bytes or self.config.max_msgs_per_subject
            return
        assert list(decision.drop_seqs) == (seqs if replace else [])
        self.model.forget(set(decision.drop_seqs))
        limits = (self.model.config.max_bytes, self.model.config.max_msg_bytes)
        for seq, body in zip(seqs, bodies, strict=True):
            original = decided[seq]
            copy = self.model.publish(
                "dead", original.size - len(original.subject), body, 0, -1, self.wall_ms, free=True
            )
            assert isinstance(copy, Message), limits
            self.bodies[copy.seq] = body
        drops = decision.drop_seqs, decision.drop_sizes
        self.queue.append(DropRecord(1, array("Q", seqs), decision.copies, *drops))

    @rule(passed=st.integers(0, 25))
    def time_passes(self, passed: int) -> None:
        self.wall_ms += passed
        if self.config.retention is not Retention.LIMITS or not self.config.max_age_ms:
            assert retention.decide_retention(self.stream, self.wall_ms, None) is None
            return
        cutoff = self.wall_ms - self.config.max_age_ms
        expiry = retention.next_expiry_ms(self.stream)
        before = len(self.queue)
        committed = {message.seq for message in self.model.committed}
        exact = {message.seq for message in self.model.expired(self.model.decided, cutoff) if message.seq in committed}
        gone: set[int] = set()
        while True:
            record = resident(
                self.stream, self.disk, lambda: retention.decide_retention(self.stream, self.wall_ms, None)
            )
            if record is None:
                break
            gone |= self._removed(record)
            self.queue.append(record)
        if expiry is None or expiry > self.wall_ms:
            assert len(self.queue) == before
        crowded: set[int] = set()
        if self.client_times:
            # Where times came out of order, age and the other limits are exact together.
            kept = {message.seq for message in self.model.within_bounds(self.model.decided, self.config)}
            crowded = {message.seq for message in self.model.decided} - kept
        assert gone <= exact | crowded, "only what exact pruning removes"
        left = exact - gone
        if self.config.strict_limits:
            assert not left
        else:
            assert len(left) < self.config.block_size
            self._no_block_wholly_expired(left)
        self.model.forget(gone)

    def _no_block_wholly_expired(self, left: set[int]) -> None:
        if self.config.max_msgs_per_subject:
            return  # a cap may have taken the youngest message of a block; the bound on how many are left still holds
        for number in {self.model.block(seq) for seq in left}:
            if self._is_shared(number):
                continue
            there = {m.seq for m in self.model.decided if self.model.block(m.seq) == number}
            assert not there <= left

    def _removed(self, record: PruneRecord) -> set[int]:
        truncated = {message.seq for message in self.model.decided if message.seq < record.truncate_to}
        return truncated | set(record.drop_seqs)

    @rule(behind=st.integers(0, 12))
    def interest_passes(self, behind: int) -> None:
        if self.config.retention is not Retention.INTEREST:
            return
        floor = max(0, self.stream.last_seq - behind)
        gone: set[int] = set()
        while True:
            record = retention.decide_retention(self.stream, self.wall_ms, floor)
            if record is None:
                break
            gone |= self._removed(record)
            self.queue.append(record)
        expected: set[int] = set()
        for message in self.model.decided:
            number = self.model.block(message.seq)
            if self.model.newest.get(number, floor + 1) <= floor and not self._is_shared(number):
                expected.add(message.seq)
        assert gone == expected
        self.model.forget(gone)

    def _is_shared(self, number: int) -> bool:
        """Whether messages that wait for their commit fall into a block."""
        return any(
            self.model.block(seq) == number
            for queued in self.queue
            if (record := queued.copies if isinstance(queued, DropRecord) else queued) is not None
            and isinstance(record, PublishRecord)
            for seq in record.seqs or range(record.first_seq, record.first_seq + len(record.subjects))
        )

    @rule(age=st.none() | st.integers(0, 50), msgs=st.none() | bound, octets=st.none() | st.integers(10, 80),
          strict=st.none() | st.booleans(), dry=st.booleans())  # fmt: skip
    def update(self, age: int | None, msgs: int | None, octets: int | None, strict: bool | None, dry: bool) -> None:
        if self.config.retention is not Retention.LIMITS:
            return
        config = updated(
            self.config,
            UpdateStream("s", max_age_ms=age, max_msgs=msgs, max_bytes=octets, strict_limits=strict),
            LIMITS,
        )
        decision = resident(
            self.stream, self.disk, lambda: retention.decide_update(self.stream, config, self.wall_ms, dry)
        )
        kept = list(self.model.decided)
        if config.max_age_ms:
            committed = {message.seq for message in self.model.committed}
            for message in self.model.expired(kept, self.wall_ms - config.max_age_ms):
                if message.seq in committed:
                    kept.remove(message)
        kept = self.model.within_bounds(kept, config)
        gone: set[int] = set()
        for record in decision.records:
            if isinstance(record, PruneRecord):
                gone |= self._removed(record)
        assert {message.seq for message in self.model.decided} - gone == {message.seq for message in kept}
        assert decision.pruned == len(self.model.decided) - len(kept)
        if not dry:
            self.model.decided = kept
            self.config = self.model.config = config
            self.queue += decision.records

    @precondition(lambda self: self.stream.overlay.is_empty() and not self.queue)
    @rule(gaps=st.lists(st.integers(0, 9), min_size=1, max_size=6), subject=st.sampled_from(SUBJECTS))
    def import_messages(self, gaps: list[int], subject: str) -> None:
        if self.config.max_msgs_per_subject:
            return  # an archive holds no more at a subject than its stream may; this one could
        seqs, at = [], self.stream.overlay.last_seq
        for gap in gaps:
            at += 1 + gap
            seqs.append(at)
        bodies = [b"i%d" % seq for seq in seqs]
        times = [self.wall_ms - 3 * len(gaps) + place for place in range(len(gaps))]
        request = ImportBatch(
            7, seqs, times, [subject] * len(seqs), [4] * len(seqs), [len(body) for body in bodies], b"".join(bodies)
        )
        decision = admission.decide_import(self.stream, request, self.wall_ms)
        assert decision.record is not None
        for seq, body, time_ms in zip(seqs, bodies, times, strict=True):
            self.bodies[seq] = body
            self.model.decided.append(Message(seq, subject, 4 + len(subject), time_ms, body))
        self.model.last_decided = seqs[-1]
        self.model.clock_ms = max(self.model.clock_ms, min(max(times), self.wall_ms))
        self.queue.append(decision.record)

    # ------------------------------------------------------------ commits

    @rule(count=st.integers(1, 6), join=st.booleans())
    def commit(self, count: int, join: bool) -> None:
        batch, self.queue = self.queue[:count], self.queue[count:]
        while batch:
            record = batch.pop(0)
            if not isinstance(record, PublishRecord):
                self._apply(record)
                continue
            together = [record]
            while join and batch and isinstance(batch[0], PublishRecord) and joinable(together[-1], batch[0]):
                together.append(batch.pop(0))  # type: ignore[arg-type]
            self._apply(join_publishes(together))

    def _apply(self, record: PublishRecord | PruneRecord | AckRecord | DropRecord | SettingsRecord) -> None:
        chunk = None
        published = record.copies if isinstance(record, DropRecord) else record
        if isinstance(published, PublishRecord):
            seqs = published.seqs or range(published.first_seq, published.first_seq + len(published.subjects))
            data = b"".join(self.bodies[seq] for seq in seqs)
            chunk = self.disk.append(f"journal/{len(self.log) // 4:016d}.seg", data)
        position = self.stream.position + 1
        self.stream.apply(position, record, chunk)
        self.log.append((position, record, chunk))
        if not isinstance(record, SettingsRecord):
            self.model.commit(record, self.bodies)

    # ------------------------------------------------------------ storage

    @rule(everything=st.booleans())
    def move(self, everything: bool) -> None:
        newest = f"journal/{len(self.log) // 4:016d}.seg"
        before = view(self.stream, self.disk)
        self.number += 100
        relocate_blocks(
            self.stream,
            self.disk,
            lambda path: path.startswith("journal/") and (everything or path < newest),
            self.number,
        )
        if everything:
            for block in self.stream.blocks.values():
                assert block.columns is None or not any(path.startswith("journal/") for path in block.columns.paths)
        assert view(self.stream, self.disk) == before

    @rule()
    def evict(self) -> None:
        for number in list(self.stream.blocks):
            relocating.evict_index(self.stream, number)

    @rule()
    def take_snapshot(self) -> None:
        self.snapshot = (cbor2.loads(cbor2.dumps(encode_snapshot(self.stream))), self.stream.config)

    @rule()
    def restart(self) -> None:
        """What is committed comes back from the log alone, and from the last snapshot with the rest of the log."""
        now = view(self.stream, self.disk)
        if self.snapshot is not None:
            again = decode_snapshot(self.snapshot[0], LIMITS)
            for position, record, chunk in self.log:
                if position > again.position:
                    again.apply(position, record, chunk)  # type: ignore[arg-type]
            assert again.config == self.stream.config
            check_stream(again)
            assert view(again, self.disk) == now
            check_stream(again)
        replayed = Stream(7, self.first_config, 1, LIMITS)
        for position, record, chunk in self.log:
            replayed.apply(position, record, chunk)  # type: ignore[arg-type]
        assert replayed.config == self.stream.config
        check_stream(replayed)
        assert view(replayed, self.disk) == now

    @rule(back=st.booleans())
    def crash(self, back: bool) -> None:
        """What is not committed is lost; the stream goes on from a snapshot, or by cutting its tail."""
        self.queue.clear()
        reserve, config = self.stream.reserve_interval_ms, self.stream.config
        if back:
            self.stream = decode_snapshot(cbor2.loads(cbor2.dumps(encode_snapshot(self.stream))), LIMITS)
            self.stream.reserve_interval_ms = reserve
        else:
            self.stream.discard_uncommitted()
        self.stream.skip_reserved()
        self.config = self.model.config = config
        self.model.decided = list(self.model.committed)
        self.model.last_decided = max(self.model.last_committed, self.stream.reserved_to)
        self.model.clock_ms = self.stream.clock_ms

    # ------------------------------------------------------------ reads

    @rule(
        from_seq=st.integers(0, 40), pattern=st.sampled_from(PATTERNS), limit=st.integers(1, 12),
        byte_max=st.sampled_from([1, 80, 200, 10**9]),
    )  # fmt: skip
    def select(self, from_seq: int, pattern: str | None, limit: int, byte_max: int) -> None:
        compiled = Pattern(pattern) if pattern is not None else None
        found = resident(self.stream, self.disk, lambda: reads.select(self.stream, from_seq, compiled, limit, byte_max))
        lengths = {message.seq: len(message.body) + MESSAGE_OVERHEAD_BYTES for message in self.model.committed}
        expected: list[int] = []
        full = False
        for seq in self.model.select(from_seq, pattern):
            if len(expected) == limit or (expected and sum(map(lengths.__getitem__, [*expected, seq])) > byte_max):
                full = True
                break
            expected.append(seq)
        got = [seq for first, last in found.ranges for seq in range(first, last + 1)]
        assert got == expected
        assert found.count == len(expected)
        assert found.byte_count == sum(map(lengths.__getitem__, expected))
        if full or len(expected) == limit:
            assert found.next_seq == expected[-1] + 1
        elif expected and found.next_seq == expected[-1] + 1:
            assert sum(map(lengths.__getitem__, expected)) >= byte_max or expected[-1] == self.stream.last_seq
        else:
            assert found.next_seq == self.stream.last_seq + 1
        messages = resident(self.stream, self.disk, lambda: reads.messages_in(self.stream, found.ranges, 3))
        times = {message.seq: (message.time_ms, message.body) for message in self.model.committed}
        assert self.disk.bodies(messages) == [(seq, times[seq][0], 3, times[seq][1]) for seq in expected]
        assert messages.byte_count == found.byte_count

    @rule(seqs=st.lists(st.integers(1, 40), unique=True, max_size=10))
    def redeliver(self, seqs: list[int]) -> None:
        seqs.sort()
        counts = [1 + seq % 3 for seq in seqs]
        messages = resident(self.stream, self.disk, lambda: reads.messages_at(self.stream, seqs, counts))
        there = {message.seq: message for message in self.model.committed}
        assert self.disk.bodies(messages) == [
            (seq, there[seq].time_ms, count, there[seq].body)
            for seq, count in zip(seqs, counts, strict=True)
            if seq in there
        ]
        assert [seq for seq in seqs if self.stream.is_live(seq)] == [seq for seq in seqs if seq in there]

    @rule(subject=st.sampled_from([*SUBJECTS, "c.*", "nobody"]), prefix=st.sampled_from(["", "a", "c", "c.", "d.x.z0"]))
    def look_up(self, subject: str, prefix: str) -> None:
        stream, model = self.stream, self.model
        latest = model.latest(subject)
        found = self.disk.bodies(resident(stream, self.disk, lambda: reads.read_latest(stream, subject)))
        assert [seq for seq, _, _, _ in found] == ([latest] if latest else [])
        scanned = self.disk.bodies(
            resident(stream, self.disk, lambda: reads.scan_subject(stream, subject, 2, 5, 10**9))
        )
        assert [seq for seq, _, _, _ in scanned] == [
            m.seq for m in model.committed if m.subject == subject and m.seq > 1
        ][:5]
        listed = resident(stream, self.disk, lambda: reads.list_subjects(stream, prefix, "", 0))
        names = sorted({message.subject for message in model.committed if message.subject.startswith(prefix)})
        assert listed.entries == names
        paged: list[object] = []
        after = ""
        while True:
            page = resident(stream, self.disk, lambda after=after: reads.list_subjects(stream, prefix, after, 2))  # type: ignore[misc]
            paged += page.entries
            after = page.next_after
            if not after:
                break
        assert paged == names

    @rule(pattern=st.sampled_from(PATTERNS), time_ms=st.integers(0, 300), seq=st.integers(0, 40))
    def policies(self, pattern: str | None, time_ms: int, seq: int) -> None:
        stream, model = self.stream, self.model
        compiled = Pattern(pattern) if pattern is not None else None
        assert resident(stream, self.disk, lambda: reads.last_matching(stream, compiled)) == max(
            model.select(0, pattern), default=0
        )
        first = next((m.seq for m in model.committed if m.time_ms >= time_ms), stream.last_seq + 1)
        assert resident(stream, self.disk, lambda: reads.first_seq_at_or_after_time(stream, time_ms)) == first
        assert stream.live_count_from(seq) == len(model.select(seq, None))

    # ------------------------------------------------------------ always

    @invariant()
    def figures_agree(self) -> None:
        if not hasattr(self, "stream"):
            return
        stats, committed = self.stream.stats(), self.model.committed
        assert stats.last_seq == self.model.last_committed
        assert stats.first_seq == (committed[0].seq if committed else stats.last_seq + 1)
        assert stats.msg_count == len(committed)
        assert stats.bytes == sum(message.size for message in committed)
        assert stats.block_count == len({self.model.block(message.seq) for message in committed})
        assert stats.first_block == (self.model.block(committed[0].seq) if committed else 0)
        overlay = self.stream.overlay
        assert (overlay.last_seq, overlay.count) == (self.model.last_decided, len(self.model.decided))
        assert overlay.bytes == sum(message.size for message in self.model.decided)
        assert overlay.clock_ms == self.model.clock_ms
        check_stream(self.stream)

    @invariant()
    def notes_of_files_agree(self) -> None:
        if not hasattr(self, "stream"):
            return
        for path in relocating.files(self.stream):
            assert path in self.disk.files
        for path in self.stream.take_released():
            assert path not in relocating.files(self.stream)


TestStream = StreamMachine.TestCase
TestStream.settings = settings(max_examples=250, stateful_step_count=50)
assert array("I").itemsize == 4
