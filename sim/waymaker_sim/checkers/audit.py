"""The audit: at rest, when every call is answered and no fault is left, it reads the whole state and compares it with
the history.

Outcomes that were unknown while calls were in flight are known now, so the rules are checked exactly here.
"""

from __future__ import annotations

from dataclasses import replace

from waymaker_core.model.config import DeliveryPolicy, Retention, StreamConfig
from waymaker_sim.checkers.linear import NOTHING, Kind, Operation, Verdict, check_register
from waymaker_sim.checkers.registers import histories, may_vanish
from waymaker_sim.clients.client_view import ClientView
from waymaker_sim.clients.publisher import Refused
from waymaker_sim.history.history import Attempt, Group, History, Letter, StreamIncarnation
from waymaker_sim.kernel.checks import listed, require, violated
from waymaker_sim.kernel.events import MS
from waymaker_sim.machine.observations import (
    Seen,
    SeenConsumer,
    SeenStream,
)
from waymaker_sim.machine.process import ReceivedMessage
from waymaker_sim.reference.naive_consumer import matches

LATE_MS = 2_000
"""Time for which an expired message may still be there: many intervals of retention."""


class Audit:
    """Checks the state that was read at rest."""

    def __init__(self, view: ClientView, history: History, refusals: list[Refused]) -> None:
        self.view = view
        self.history = history
        self.refusals = refusals
        self.now_ns = view.events.now_ns

    def check(self, seen: Seen, drained: bool) -> None:
        """Compare everything that was read with the history. `drained`: consumers had time to reach the end."""
        for name, stream in self.view.streams.items():
            there = seen.get(name)
            if stream.incarnation is None:
                require(there is None, "lives apart", f"{name} does not exist and is listed")
            elif there is None:
                violated("acked survives", f"stream {name} was created and is not there")
            elif isinstance(there, str):
                require(self.view.access.is_rotten(), "recovery honest", f"{name} quarantined: {there}")
                stream.incarnation.damaged = True
            else:
                self._stream(stream.incarnation, there, drained)
        require(all(map(self.view.may_exist, seen)), "lives apart", f"nobody created all of {listed(seen)}")
        self._copies(seen)
        for incarnation in self.history.incarnations:
            if not incarnation.damaged and not incarnation.rolled_back:
                self._registers(incarnation, seen)
        for refused in self.refusals:
            self._refused(refused)

    def _copies(self, seen: Seen) -> None:
        """Require that each restored copy equals its archive."""
        for name, copy in self.view.copies.items():
            there = seen.get(name)
            if isinstance(there, SeenStream):
                copy.check_figures(there.config, *there.stats[1:])
                copy.check_messages(there.messages, whole=True)
                copy.check_consumers((each.config, each.floor, each.dropped) for each in there.consumers.values())
                self.view.mark("copy audited")
            elif there is not None:
                require(self.view.access.is_rotten(), "recovery honest", f"{name} quarantined: {there}")
            else:
                require(not copy.must_exist, "archives", f"{name} was put back and is not there")

    def _registers(self, incarnation: StreamIncarnation, seen: Seen) -> None:
        """Check each subject of an incarnation as a compare-and-set register; the audit is its last reader."""
        stream, there = self.view.streams[incarnation.name], seen.get(incarnation.name)
        newest: dict[str, int] = {}
        if stream.incarnation is incarnation and isinstance(there, SeenStream):
            newest = {incarnation.at[message.seq].subject: message.seq for message in there.messages}
        vanishing = may_vanish(incarnation)
        for subject, operations in histories(incarnation, self.refusals).items():
            if stream.incarnation is incarnation and isinstance(there, SeenStream):
                operations.append(Operation(Kind.READ, newest.get(subject, NOTHING), self.now_ns, self.now_ns))
            finding = check_register(operations, vanishing=vanishing)
            if finding.verdict is Verdict.UNDECIDED:
                self.view.mark("linearizable undecided")
            elif finding.verdict is Verdict.VIOLATED:
                violated(
                    "linearizable", f"{incarnation.name} (life {incarnation.number}) at {subject}: {finding.stuck}"
                )
            else:
                self.view.mark("linearizable")

    def _stream(self, incarnation: StreamIncarnation, seen: SeenStream, drained: bool) -> None:
        self.history.identify(incarnation, seen.stream_id)
        self._settings(incarnation, seen)
        for message in seen.messages:
            incarnation.see(self.history, message.seq, message.time_ms, message.body, self.now_ns)
        there = {message.seq for message in seen.messages}
        if seen.config.ephemeral:
            return
        self.view.access.now()
        wall_max_ms = self.view.access.wall_max_ms
        incarnation.missing(
            [seq for seq in incarnation.live if seq not in there],
            self.now_ns,
            self.now_ns,
            wall_max_ms,
            self.history.mark,
        )
        self._figures(incarnation, seen)
        self._times(incarnation)
        self._sizes(incarnation)
        self._bounds(incarnation, seen)
        self._ages(incarnation, seen)
        self._letters(incarnation, seen)
        for refused in (m for m in incarnation.at.values() if isinstance(m, Attempt) and m.expected >= 0):
            self._condition(incarnation, refused)
        for name, consumer in seen.consumers.items():
            if consumer.config.inactive_ms:
                # Rest lasts longer than the longest timeout of these worlds.
                violated("inactive consumers go", f"{incarnation.name} still has {name}, which nobody uses")
            group = self._group(incarnation, name)
            if group is not None:
                self._consumer(incarnation, seen, group, consumer, drained)
        if drained and incarnation.config.retention is Retention.INTEREST:
            self._interest(incarnation, seen)

    def _settings(self, incarnation: StreamIncarnation, seen: SeenStream) -> None:
        """Require, if every outcome is known, the settings confirmed last and all consumers."""
        stream = self.view.streams[incarnation.name]
        if not stream.steady() or stream.doubt is not None:
            return
        require(
            seen.config == incarnation.config,
            "acked survives",
            f"{incarnation.name} has {seen.config}, not {incarnation.config}",
        )
        for name, consumer in stream.consumers.items():
            if consumer.group is None or not consumer.steady() or consumer.doubt is not None:
                continue
            there = seen.consumers.get(name)
            require(there is not None, "acked survives", f"{incarnation.name}/{name} was created and is not there")
            wanted = replace(consumer.group.config, name=name)
            if there is not None:
                require(
                    there.config == wanted, "acked survives", f"{incarnation.name} has {there.config}, not {wanted}"
                )

    def _group(self, incarnation: StreamIncarnation, name: str) -> Group | None:
        stream = self.view.streams[incarnation.name]
        known = stream.consumers.get(name)
        require(known is not None, "lives apart", f"{incarnation.name} lists consumer {name}, which does not exist")
        return known.group if known is not None else None

    # ------------------------------------------------------------ streams

    def _figures(self, incarnation: StreamIncarnation, seen: SeenStream) -> None:
        first, last, count, byte_count = seen.stats
        what = f"{incarnation.name}: stats {seen.stats}"
        require(count == len(seen.messages), "limits hold", f"{what}, {len(seen.messages)} messages")
        if seen.messages:
            require(first == seen.messages[0].seq, "limits hold", f"{what}, first is {seen.messages[0].seq}")
            require(last >= seen.messages[-1].seq, "limits hold", f"{what}, last is {seen.messages[-1].seq}")
        sure = ((s, m) for s, m in incarnation.at.items() if s not in incarnation.unsynced)
        confirmed = max((s for s, m in sure if isinstance(m, Attempt) and m.confirmed_ns >= 0), default=0)
        require(
            last >= max(confirmed, incarnation.last_seq),
            "ledger grows",
            f"{what} after {confirmed}, {incarnation.last_seq}",
        )
        # By now this is also known of publishes that overlapped a change of the stream and whose messages were never
        # read.
        incarnation.last_seq = last
        self._gaps(incarnation, last)
        subjects = sorted({incarnation.at[message.seq].subject for message in seen.messages})
        require(
            seen.subjects == subjects,
            "limits hold",
            f"{what}: subjects {listed(seen.subjects)}, of messages {listed(subjects)}",
        )
        sizes = [incarnation.at[message.seq].size for message in seen.messages]
        if all(sizes):
            require(byte_count == sum(sizes), "limits hold", f"{what}, {sum(sizes)} bytes found")

    def _gaps(self, incarnation: StreamIncarnation, last: int) -> None:
        """Require that every missing sequence has a cause: a publish whose outcome got lost, or a dead letter that
        was never read."""
        if self.view.access.config.sync_interval_ms:
            return
        unknown = last - sum(seq <= last for seq in incarnation.at)
        attempts = self.history.attempts.values()
        lost = sum(not (each.seq or each.refused) and each.stream == incarnation.name for each in attempts)
        what = f"{incarnation.name} is at {last}: {unknown} sequences nobody knows, {lost} publishes whose outcome is unknown"
        require(unknown <= lost + incarnation.owed(), "no gaps", what)

    def _times(self, incarnation: StreamIncarnation) -> None:
        """Require that the server's times never decrease by sequence, and follow a corrected wall clock."""
        before, latest_ms, right_ns = 0, self._latest_ms(), self.history.clock_right_ns
        for seq, message in sorted(incarnation.at.items()):
            time_ms = incarnation.times[seq]
            if seq in incarnation.unsynced:
                continue
            if time_ms < 0 or (isinstance(message, Attempt) and not message.server_timed):
                continue
            if isinstance(message, Attempt) and 0 <= right_ns < message.asked_ns:
                self.view.mark("stamped behind a correction")
                what = f"{incarnation.name} seq {seq} is of {time_ms} ms, asked for when that was at most {latest_ms} ms ahead"
                require(time_ms <= latest_ms, "server time", what)
            if before > latest_ms:
                before = 0  # of a clock that was wrong
            require(
                time_ms >= before, "monotone", f"{incarnation.name} seq {seq} is of {time_ms} ms, after {before} ms"
            )
            before = time_ms

    def _latest_ms(self) -> int:
        """Return the latest server time that a right clock explains."""
        access = self.view.access
        return access.now().wall_ms + access.config.limits.clock_ahead_max_ms

    @staticmethod
    def _sizes(incarnation: StreamIncarnation) -> None:
        """Require that each stored message was small enough for some settings that were or may have been in force."""
        most = max(config.max_msg_bytes or 1 << 62 for config in incarnation.configs)
        for seq, message in incarnation.at.items():
            if isinstance(message, Attempt):
                size = message.size - len(message.subject)
                require(size <= most, "limits hold", f"{incarnation.name} seq {seq} has {size} bytes, {most} are taken")

    def _bounds(self, incarnation: StreamIncarnation, seen: SeenStream) -> None:
        """Require that strict limits hold to the message. Block-aligned limits keep the first block while one message of it
        stays.

        The open block stays in any case.
        """
        config, messages = seen.config, seen.messages
        count, size = len(messages), seen.stats[3]
        if not config.strict_limits and messages:
            slack = self._first_block(config, messages)
            growing = (messages[0].seq - 1) // config.block_size == (seen.stats[1] - 1) // config.block_size
            sizes = [incarnation.at[message.seq].size for message in messages[:slack]]
            count -= slack - 1
            size = 0 if growing or not all(sizes) else size - sum(sizes[:-1])
            count = 0 if growing else count
        if config.max_msgs:
            require(
                count <= config.max_msgs, "limits hold", f"{incarnation.name}: {count} messages of {config.max_msgs}"
            )
        if config.max_bytes:
            require(size <= config.max_bytes, "limits hold", f"{incarnation.name}: {size} bytes of {config.max_bytes}")
        if config.max_msgs_per_subject:
            found: dict[str, int] = {}
            for message in messages:
                subject = incarnation.at[message.seq].subject
                found[subject] = found.get(subject, 0) + 1
            most = max(found.values(), default=0)
            require(most <= config.max_msgs_per_subject, "limits hold", f"{incarnation.name}: {found}")
        if config.retention is Retention.WORK_QUEUE:
            for group in incarnation.groups:
                for message in messages:
                    acked = message.seq in group.acked_ok and not incarnation.may_be_dropped(group, message.seq)
                    require(
                        not acked,
                        "limits hold",
                        f"{incarnation.name} seq {message.seq} was acked by {group.config.name}",
                    )

    def _ages(self, incarnation: StreamIncarnation, seen: SeenStream) -> None:
        """Require that no message is there long after it expired, except behind an older one at its subject.

        With block-aligned limits, fewer messages than one block holds may stay. A message stamped by a wrong clock is
        as old as the correction, which the node has noticed once all machines are up.
        """
        config, access = seen.config, self.view.access
        if not config.max_age_ms:
            return
        cutoff = access.now().wall_ms - config.max_age_ms - LATE_MS
        healed_ms = access.now().wall_ms - (self.now_ns - self.history.healed_ns) // MS
        latest_ms = self._latest_ms()
        greatest: dict[str, int] = {}
        expired: list[int] = []
        for message in seen.messages:
            stored, time_ms = incarnation.at[message.seq], message.time_ms
            subject = stored.subject
            if time_ms > latest_ms and not (isinstance(stored, Attempt) and not stored.server_timed):
                time_ms = healed_ms
                self.view.mark("stamped by a wrong clock")
            greatest[subject] = max(greatest.get(subject, 0), time_ms)
            if greatest[subject] <= cutoff:
                expired.append(message.seq)
        most = 0 if config.strict_limits else config.block_size - 1
        require(
            len(expired) <= most,
            "limits hold",
            f"{incarnation.name}: {listed(expired[:9])} are older than {config.max_age_ms} ms",
        )

    def _letters(self, incarnation: StreamIncarnation, seen: SeenStream) -> None:
        """Require that in a work queue a dead letter replaces its original."""
        if incarnation.config.retention is not Retention.WORK_QUEUE:
            return
        there = {message.seq for message in seen.messages}
        for seq, letter in incarnation.at.items():
            if isinstance(letter, Letter) and not (incarnation.rolled_back and seq not in there):
                what = f"{incarnation.name}: {letter.of_seq} is there beside its letter {seq}"
                require(letter.of_seq not in there, "dead letter once", what)

    def _interest(self, incarnation: StreamIncarnation, seen: SeenStream) -> None:
        """Require that the first block is pruned once every consumer has acked all of it."""
        if not seen.messages:
            return
        floor = min((consumer.floor for consumer in seen.consumers.values()), default=seen.stats[1])
        last = seen.messages[self._first_block(seen.config, seen.messages) - 1].seq
        require(last > floor, "limits hold", f"{incarnation.name}: up to {last} nobody is interested, floor {floor}")

    @staticmethod
    def _first_block(config: StreamConfig, messages: list[ReceivedMessage]) -> int:
        """Return the number of messages in the first block, all but one of which may exceed the bound."""
        block = (messages[0].seq - 1) // config.block_size
        return sum(1 for message in messages if (message.seq - 1) // config.block_size == block)

    def _condition(self, incarnation: StreamIncarnation, attempt: Attempt) -> None:
        """Require that a stored conditional publish found the last sequence that it expected."""
        if (
            incarnation.config.retention is Retention.WORK_QUEUE
            or attempt.incarnation is not incarnation
            or not attempt.seq
        ):
            return
        for seq, other in incarnation.at.items():
            if seq in incarnation.unsynced or attempt.seq in incarnation.unsynced:
                continue
            if other.subject == attempt.subject and attempt.expected < seq < attempt.seq:
                removed = attempt.expected == 0 and seq not in incarnation.live
                require(
                    removed,
                    "compare and set",
                    f"{incarnation.name} {attempt.seq} expected {attempt.expected}, found {seq}",
                )

    def _refused(self, refused: Refused) -> None:
        """Require that the answer to a refused conditional publish was true at some moment of the call."""
        incarnation, actual = refused.incarnation, refused.actual
        if (
            incarnation.damaged
            or incarnation.rolled_back
            or incarnation.config.retention is Retention.WORK_QUEUE
            or incarnation.config.ephemeral
        ):
            return
        what = f"{incarnation.name} at {refused.subject}: expected {refused.expected}, told {actual}"
        known = incarnation.at.get(actual)
        if actual:
            require(known is None or known.subject == refused.subject, "compare and set", what)
            require(
                incarnation.ended or actual <= incarnation.last_seq,
                "compare and set",
                f"{what}, which never came to be",
            )
        for seq, message in incarnation.live.items():
            if seq > actual and message.subject == refused.subject and message.confirmed_ns < refused.asked_ns:
                removed = incarnation.ended and incarnation.may_be_removed(seq, self.view.access.wall_max_ms)
                require(removed, "compare and set", f"{what}, but {seq} had been confirmed")

    # ------------------------------------------------------------ consumers

    def _consumer(
        self, incarnation: StreamIncarnation, seen: SeenStream, group: Group, consumer: SeenConsumer, drained: bool
    ) -> None:
        what = f"{incarnation.name}/{group.config.name}"
        require(consumer.floor >= group.floor, "monotone", f"{what} floor {group.floor} went to {consumer.floor}")
        require(consumer.dropped >= group.dropped, "monotone", f"{what} dropped {group.dropped} went back")
        letters = [m for m in incarnation.at.values() if isinstance(m, Letter) and m.group is group]
        require(len(letters) <= consumer.dropped, "dead letter once", f"{what}: {len(letters)} > {consumer.dropped}")
        owed = self._letters_owed(incarnation, seen, group, consumer.dropped)
        if owed:
            # A message that is a dead letter already, perhaps of the same consumer, is dropped without another one.
            most = group.config.max_deliver
            silent = sum(
                1 for s, m in incarnation.at.items() if isinstance(m, Letter) and group.delivered_most(s, 0) >= most
            )
            found = f"{what} dropped {consumer.dropped}, of them at most {silent} letters, and wrote {len(letters)}"
            require(len(letters) + silent >= owed, "dead letter once", found)
        start = group.start_known(message.seq for message in seen.messages)
        if group.config.policy is DeliveryPolicy.BY_START_TIME and seen.messages and seen.messages[0].seq < start:
            self.view.mark("passed over by time")
        matching = [m for m in seen.messages if matches(group.config.filter_subject, incarnation.at[m.seq].subject)]
        for message in matching:
            seq = message.seq
            if start <= seq <= consumer.floor and seq in incarnation.live:
                done = incarnation.may_be_settled(group, seq)
                require(done, "floor honest", f"{what} floor {consumer.floor} passed {seq}, never answered")
        if drained and (not consumer.pending or not self._keeps(incarnation, seen, group)):
            require(consumer.pending == 0, "progress", f"{what}: {consumer.pending} pending after all was acked")
            last = seen.stats[1]
            require(consumer.floor >= last or not matching or matching[-1].seq <= consumer.floor or
                    group.config.start_seq > last, "progress", f"{what}: floor {consumer.floor} of {last}")  # fmt: skip

    def _keeps(self, incarnation: StreamIncarnation, seen: SeenStream, group: Group) -> bool:
        """Return True if the dead letter of a dropped message cannot stay: the stream is too small, or has no reader
        for it."""
        subject = group.config.dead_letter_subject
        read = any(matches(each.config.filter_subject, subject) for each in seen.consumers.values())
        keeps = incarnation.may_keep(group) and (seen.config.strict_limits or not read)
        if keeps:
            self.view.mark("kept for want of a place for its dead letter")
        return keeps

    @staticmethod
    def _letters_owed(incarnation: StreamIncarnation, seen: SeenStream, group: Group, dropped: int) -> int:
        """Return how many dead letters of a group must have been read by now.

        All of them if nothing was ever removed. In a queue, where an ack removes only what was delivered, all of them
        if no delivery was missed: none whose group is unknown, and not so many that a dropped message was missed. Where
        their subject is capped, the last of them.
        """
        rivals = [each for each in incarnation.groups if each.config.dead_letter_subject]
        if group not in rivals or any(isinstance(m, Letter) and m.group is None for m in incarnation.at.values()):
            return 0
        if incarnation.config.retention is not Retention.WORK_QUEUE:
            return dropped if seen.stats[2] == seen.stats[1] else 0
        if incarnation.unsure or any(len(each.lost_ns) >= each.config.max_deliver for each in incarnation.groups):
            return 0
        if incarnation.config.max_msgs_per_subject:
            return min(1, dropped) if len(rivals) == 1 else 0
        return dropped
