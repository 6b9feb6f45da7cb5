"""The consumers of one stream: by name, by id, and in queue groups, with what is decided about them and not committed.

Decisions see the names as they will be once everything staged is committed; all others see committed consumers only. A
group is created with its first member and removed with its last; its id is its first member's, and is as unique.

The registry draws the ids. A counter that only records of creations raise makes sure that none is given twice: not after a
deletion, and not after a restart, because snapshots hold it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from waymaker_core.consumer.answers import CreateDecision
from waymaker_core.consumer.config import check_agreement, check_letters_stay, validate
from waymaker_core.consumer.group import Group, Member
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import ConsumerCreated, ConsumerDeleted
from waymaker_core.model.result_codes import ALREADY_EXISTS, NO_SUCH_CONSUMER, CodeError, resource_exhausted
from waymaker_core.model.subjects import Pattern
from waymaker_core.model.types import ConsumerId
from waymaker_core.stream import reads
from waymaker_core.stream.stream import Stream


@dataclass(slots=True, eq=False)
class ConsumerOverlay:
    """Creations and deletions of consumers that are decided and not committed: an overlay (docs/architecture.md).

    `names`: the last staged record of each name that has one. `creates`: staged creations by id, also of consumers that a
    staged deletion ends. `deletes`: ids of consumers, committed or staged, that a staged deletion ends.
    """

    names: dict[str, ConsumerCreated | ConsumerDeleted] = field(default_factory=dict)
    creates: dict[int, ConsumerCreated] = field(default_factory=dict)
    deletes: dict[int, ConsumerDeleted] = field(default_factory=dict)

    def stage(self, name: str, record: ConsumerCreated | ConsumerDeleted) -> None:
        """Stage a decided record about a name."""
        self.names[name] = record
        if isinstance(record, ConsumerCreated):
            self.creates[record.consumer_id] = record
        else:
            self.deletes[record.consumer_id] = record

    def commit(self, name: str, record: ConsumerCreated | ConsumerDeleted) -> None:
        """Let go of a record that is applied; a replayed one was never staged."""
        if self.names.get(name) is record:
            del self.names[name]
        if isinstance(record, ConsumerCreated):
            self.creates.pop(record.consumer_id, None)
        else:
            self.deletes.pop(record.consumer_id, None)

    def discard(self) -> None:
        """Drop all that is staged."""
        self.names.clear()
        self.creates.clear()
        self.deletes.clear()

    def surviving_creations(self) -> list[ConsumerCreated]:
        """Return the staged creations of consumers that no staged deletion ends, in the order of their decisions."""
        return [record for consumer_id, record in self.creates.items() if consumer_id not in self.deletes]


class ConsumerRegistry:
    """Consumers of one stream by name and by id, and their groups by id and by name."""

    __slots__ = ("next_id", "names", "_order", "groups_by_consumer", "groups", "_queue_groups", "overlay")

    def __init__(self) -> None:
        self.next_id = 1
        """An id that no committed record has given, nor any later one."""
        self.names: dict[str, int] = {}
        self._order: list[str] | None = None
        """The names, sorted; None since they changed. A sorted dictionary for each stream makes a start slow."""
        self.groups_by_consumer: dict[int, Group] = {}
        self.groups: dict[int, Group] = {}
        """In the order of their ids, which are drawn in the order of the log."""
        self._queue_groups: dict[str, Group] = {}
        self.overlay = ConsumerOverlay()

    def find_consumer(self, name: str) -> ConsumerId:
        """Return the committed consumer of a name, unless a staged deletion ends it. CodeError (`no_such_consumer`)."""
        consumer_id = self.names.get(name)
        if consumer_id is not None and consumer_id not in self.overlay.deletes:
            return ConsumerId(consumer_id)
        raise CodeError(NO_SUCH_CONSUMER, f"there is no consumer {name[:80]!r}")

    def names_after(self, name: str) -> list[str]:
        """Return the committed names that sort behind this one, sorted; every one sorts behind the empty name."""
        if self._order is None:
            self._order = sorted(self.names)
        return self._order[bisect_right(self._order, name) :]

    def is_surviving(self, consumer_id: int) -> bool:
        """Return True for a committed consumer that no staged deletion ends."""
        return consumer_id in self.groups_by_consumer and consumer_id not in self.overlay.deletes

    def surviving_members(self, group: Group) -> list[int]:
        """Return the members that no staged deletion ends, in the order of ids."""
        return sorted(key for key in group.members if key not in self.overlay.deletes)

    # ------------------------------------------------------------ decisions

    def draw_id(self) -> int:
        """Return an id that no consumer of the stream ever had: it lies behind all that records gave, staged ones too."""
        return max(self.next_id, next(reversed(self.overlay.creates), 0) + 1)

    def decide_create(self, config: ConsumerConfig, wall_ms: int, stream: Stream, limits: Limits) -> CreateDecision:
        """Stage a creation; see `Consumers.decide_create`."""
        config = validate(config, stream.config, limits)
        existing = self._surviving(config.name)
        if existing is not None:
            if existing != config:
                raise CodeError(ALREADY_EXISTS, f"a consumer {config.name!r} exists with another configuration")
            return CreateDecision(None, depends_on_uncommitted=config.name in self.overlay.names)
        check_letters_stay(config, stream.config)
        if self._surviving_count() >= limits.consumers_max:
            raise resource_exhausted(f"a stream has {limits.consumers_max} consumers at most")
        peer = self._peer(config.deliver_group)
        if peer is not None:
            check_agreement(config, peer)
        record = ConsumerCreated(self.draw_id(), config, start_of(config, stream), wall_ms)
        self.overlay.stage(config.name, record)
        return CreateDecision(record, depends_on_uncommitted=True)

    def _surviving_count(self) -> int:
        """Return how many consumers there are once everything staged is committed."""
        return len(self.groups_by_consumer) + len(self.overlay.creates) - len(self.overlay.deletes)

    def _surviving(self, name: str) -> ConsumerConfig | None:
        """Return the configuration under a name once everything staged is committed."""
        staged = self.overlay.names.get(name)
        if isinstance(staged, ConsumerCreated):
            return staged.config
        if staged is not None or name not in self.names:
            return None
        consumer_id = self.names[name]
        return self.groups_by_consumer[consumer_id].members[consumer_id].config

    def _peer(self, deliver_group: str) -> ConsumerConfig | None:
        """Return some member of a queue group once everything staged is committed, or None."""
        if not deliver_group:
            return None
        group = self._queue_groups.get(deliver_group)
        if group is not None:
            surviving = self.surviving_members(group)
            if surviving:
                return group.members[surviving[0]].config
        for record in self.overlay.surviving_creations():
            if record.config.deliver_group == deliver_group:
                return record.config
        return None

    def decide_delete(self, name: str) -> ConsumerDeleted:
        """Stage a deletion. CodeError (`no_such_consumer`)."""
        staged = self.overlay.names.get(name)
        if isinstance(staged, ConsumerCreated):
            consumer_id = staged.consumer_id
        else:
            consumer_id = self.find_consumer(name)
        record = ConsumerDeleted(consumer_id)
        self.overlay.stage(name, record)
        return record

    # ------------------------------------------------------------ commits

    def created(self, record: ConsumerCreated) -> Group:
        """Add a committed consumer to its group, or as a group of its own; return the group."""
        config = record.config
        group = self._queue_groups.get(config.deliver_group) if config.deliver_group else None
        if group is None:
            group = Group(record.consumer_id, config, record.start_seq)
            self.add_group(group)
        self._join(group, record.consumer_id, Member(config, record.created_ms))
        self.next_id = max(self.next_id, record.consumer_id + 1)
        self.overlay.commit(config.name, record)
        return group

    def add_group(self, group: Group) -> None:
        """Add a group with the members that it has."""
        self.groups[group.id] = group
        if group.config.deliver_group:
            self._queue_groups[group.config.deliver_group] = group
        for consumer_id, member in sorted(group.members.items()):
            self._join(group, consumer_id, member)

    def _join(self, group: Group, consumer_id: int, member: Member) -> None:
        assert consumer_id not in self.groups_by_consumer and member.config.name not in self.names
        group.members[consumer_id] = member
        self.groups_by_consumer[consumer_id] = group
        self.names[member.config.name] = consumer_id
        self._order = None

    def deleted(self, record: ConsumerDeleted) -> Group | None:
        """Remove a consumer; return its group, for `Group.leave`, or None where there was no such consumer."""
        group = self.groups_by_consumer.pop(record.consumer_id, None)
        if group is None:
            return None
        name = group.members[record.consumer_id].config.name
        del self.names[name]
        self._order = None
        self.overlay.commit(name, record)
        if len(group.members) == 1:
            del self.groups[group.id]
            if group.config.deliver_group:
                del self._queue_groups[group.config.deliver_group]
        return group

    def check(self) -> None:
        """Assert that names, ids and groups agree, and that staged deletions end a consumer."""
        assert sorted(self.names.values()) == sorted(self.groups_by_consumer)
        assert self._order is None or self._order == sorted(self.names)
        assert list(self.groups) == sorted(self.groups)
        assert max(self.groups_by_consumer, default=0) < self.next_id
        for consumer_id, group in self.groups_by_consumer.items():
            assert self.groups[group.id] is group and consumer_id in group.members
            assert self.names[group.members[consumer_id].config.name] == consumer_id
        assert all(each in self.groups_by_consumer or each in self.overlay.creates for each in self.overlay.deletes)
        assert all(each not in self.groups_by_consumer for each in self.overlay.creates)
        assert sum(len(group.members) for group in self.groups.values()) == len(self.groups_by_consumer)
        for name, group in self._queue_groups.items():
            assert self.groups[group.id] is group and group.config.deliver_group == name


def start_of(config: ConsumerConfig, stream: Stream) -> int:
    """Return the first sequence that a new consumer looks at. Raises `NeedBlocks`."""
    match config.policy:
        case DeliveryPolicy.ALL:
            return stream.first_seq
        case DeliveryPolicy.LAST:
            pattern = Pattern(config.filter_subject) if config.filter_subject else None
            return reads.last_matching(stream, pattern) or stream.last_seq + 1
        case DeliveryPolicy.BY_START_SEQ:
            return max(config.start_seq, stream.first_seq)
        case DeliveryPolicy.BY_START_TIME:
            return reads.first_seq_at_or_after_time(stream, config.start_time_ms)
