"""Who there is: names, lives and queue groups of one stream, with what is decided about them and not committed.

Decisions see the names as they will be once everything staged is committed; everybody else sees committed lives only. A
group begins with its first member and ends with its last; its id is its first member's, and is as unique.
"""

from __future__ import annotations

from bisect import bisect_right

from waymaker_core.consumer.answers import CreateDecision
from waymaker_core.consumer.config import check_agreement, check_letters_stay, validate
from waymaker_core.consumer.group import Group, Member
from waymaker_core.consumer.stream_view import Source
from waymaker_core.model.config import ConsumerConfig, DeliveryPolicy
from waymaker_core.model.limits import Limits
from waymaker_core.model.records import ConsumerCreated, ConsumerDeleted
from waymaker_core.model.result_codes import ALREADY_EXISTS, NO_SUCH_CONSUMER, CodeError, resource_exhausted
from waymaker_core.model.subjects import Pattern
from waymaker_core.model.types import ConsumerId


class ConsumerRegistry:
    """Consumers of one stream by name and by life, and their groups by id and by name."""

    __slots__ = (
        "names",
        "_order",
        "groups_by_consumer",
        "groups",
        "_queue_groups",
        "_pending_names",
        "_pending_creates",
        "_pending_deletes",
        "_surviving_count",
    )

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self._order: list[str] | None = None
        """The names, sorted; None since one came or went. A sorted dictionary for each stream makes a start slow."""
        self.groups_by_consumer: dict[int, Group] = {}
        self.groups: dict[int, Group] = {}
        """In the order of their ids, which are drawn in the order of the log."""
        self._queue_groups: dict[str, Group] = {}
        self._pending_names: dict[str, ConsumerCreated | ConsumerDeleted] = {}
        """The last staged record of each name that has one."""
        self._pending_creates: dict[int, ConsumerCreated] = {}
        """Staged creations by life, those ended by a staged deletion left out."""
        self._pending_deletes: dict[int, bool] = {}
        """Lives that a staged deletion ends."""
        self._surviving_count = 0

    def find_consumer(self, name: str) -> ConsumerId:
        """The committed life of a name, unless a decided deletion ends it. CodeError (`no_such_consumer`)."""
        consumer_id = self.names.get(name)
        if consumer_id is not None and consumer_id not in self._pending_deletes:
            return ConsumerId(consumer_id)
        raise CodeError(NO_SUCH_CONSUMER, f"there is no consumer {name[:80]!r}")

    def names_after(self, name: str) -> list[str]:
        """Return the committed names that sort behind this one, sorted; every one sorts behind the empty name."""
        if self._order is None:
            self._order = sorted(self.names)
        return self._order[bisect_right(self._order, name) :]

    def is_surviving(self, consumer_id: int) -> bool:
        """Return True for a committed consumer that no decided deletion ends."""
        return consumer_id in self.groups_by_consumer and consumer_id not in self._pending_deletes

    def surviving_members(self, group: Group) -> list[int]:
        """Members that no decided deletion ends, by id."""
        return sorted(key for key in group.members if key not in self._pending_deletes)

    # ------------------------------------------------------------ decisions

    def decide_create(
        self, consumer_id: int, config: ConsumerConfig, wall_ms: int, source: Source, limits: Limits
    ) -> CreateDecision:
        """See `Consumers.decide_create`."""
        config = validate(config, source.config, limits)
        existing = self._surviving(config.name)
        if existing is not None:
            if existing != config:
                raise CodeError(ALREADY_EXISTS, f"a consumer {config.name!r} exists with another configuration")
            return CreateDecision(None, depends_on_uncommitted=config.name in self._pending_names)
        check_letters_stay(config, source.config)
        if self._surviving_count >= limits.consumers_max:
            raise resource_exhausted(f"a stream has {limits.consumers_max} consumers at most")
        peer = self._peer(config.deliver_group)
        if peer is not None:
            check_agreement(config, peer)
        record = ConsumerCreated(consumer_id, config, start_of(config, source), wall_ms)
        self._pending_names[config.name] = record
        self._pending_creates[consumer_id] = record
        self._surviving_count += 1
        return CreateDecision(record, depends_on_uncommitted=True)

    def _surviving(self, name: str) -> ConsumerConfig | None:
        """The configuration under a name once everything staged is committed."""
        staged = self._pending_names.get(name)
        if isinstance(staged, ConsumerCreated):
            return staged.config
        if staged is not None or name not in self.names:
            return None
        consumer_id = self.names[name]
        return self.groups_by_consumer[consumer_id].members[consumer_id].config

    def _peer(self, deliver_group: str) -> ConsumerConfig | None:
        """Some member of a queue group once everything staged is committed."""
        if not deliver_group:
            return None
        group = self._queue_groups.get(deliver_group)
        if group is not None:
            surviving = self.surviving_members(group)
            if surviving:
                return group.members[surviving[0]].config
        for record in self._pending_creates.values():
            if record.config.deliver_group == deliver_group:
                return record.config
        return None

    def pending_creation(self) -> list[ConsumerCreated]:
        """Lives that are decided and not committed, those that end before they began left out."""
        return list(self._pending_creates.values())

    def decide_delete(self, name: str) -> ConsumerDeleted:
        """See `Consumers.decide_delete`."""
        staged = self._pending_names.get(name)
        if isinstance(staged, ConsumerCreated):
            consumer_id = staged.consumer_id
            del self._pending_creates[consumer_id]
        else:
            consumer_id = self.find_consumer(name)
        self._pending_deletes[consumer_id] = True
        self._surviving_count -= 1
        record = ConsumerDeleted(consumer_id)
        self._pending_names[name] = record
        return record

    def discard_uncommitted(self) -> None:
        """Forget what is staged."""
        self._pending_names.clear()
        self._pending_creates.clear()
        self._pending_deletes.clear()
        self._surviving_count = len(self.groups_by_consumer)

    # ------------------------------------------------------------ commits

    def created(self, record: ConsumerCreated) -> Group:
        """A consumer begins, in its group or as one."""
        config = record.config
        group = self._queue_groups.get(config.deliver_group) if config.deliver_group else None
        if group is None:
            group = Group(record.consumer_id, config, record.start_seq)
            self.add_group(group)
        self._join(group, record.consumer_id, Member(config, record.created_ms))
        if self._pending_names.get(config.name) is record:
            del self._pending_names[config.name]
        if (
            self._pending_creates.pop(record.consumer_id, None) is None
            and record.consumer_id not in self._pending_deletes
        ):
            self._surviving_count += 1
        return group

    def add_group(self, group: Group) -> None:
        """A group of its own, with the members it has."""
        self.groups[group.id] = group
        if group.config.deliver_group:
            self._queue_groups[group.config.deliver_group] = group
        for consumer_id, member in sorted(group.members.items()):
            self._join(group, consumer_id, member)
            self._surviving_count += 1

    def _join(self, group: Group, consumer_id: int, member: Member) -> None:
        assert consumer_id not in self.groups_by_consumer and member.config.name not in self.names
        group.members[consumer_id] = member
        self.groups_by_consumer[consumer_id] = group
        self.names[member.config.name] = consumer_id
        self._order = None

    def deleted(self, record: ConsumerDeleted) -> Group | None:
        """A life ends. Its group, to be told with `Group.leave`; None where there was no such life."""
        group = self.groups_by_consumer.pop(record.consumer_id, None)
        if group is None:
            return None
        if not self._pending_deletes.pop(record.consumer_id, False):
            self._surviving_count -= 1
        name = group.members[record.consumer_id].config.name
        del self.names[name]
        self._order = None
        if self._pending_names.get(name) is record:
            del self._pending_names[name]
        if len(group.members) == 1:
            del self.groups[group.id]
            if group.config.deliver_group:
                del self._queue_groups[group.config.deliver_group]
        return group

    def check(self) -> None:
        """Assert that names, lives and groups agree."""
        assert sorted(self.names.values()) == sorted(self.groups_by_consumer)
        assert self._order is None or self._order == sorted(self.names)
        assert list(self.groups) == sorted(self.groups)
        for consumer_id, group in self.groups_by_consumer.items():
            assert self.groups[group.id] is group and consumer_id in group.members
            assert self.names[group.members[consumer_id].config.name] == consumer_id
        ending = [consumer_id for consumer_id in self.groups_by_consumer if consumer_id in self._pending_deletes]
        assert self._surviving_count == len(self.groups_by_consumer) - len(ending) + len(self._pending_creates)
        assert sum(len(group.members) for group in self.groups.values()) == len(self.groups_by_consumer)
        for name, group in self._queue_groups.items():
            assert self.groups[group.id] is group and group.config.deliver_group == name


def start_of(config: ConsumerConfig, source: Source) -> int:
    """The first sequence a new consumer considers. Raises `NeedBlocks`."""
    match config.policy:
        case DeliveryPolicy.ALL:
            return source.first_seq
        case DeliveryPolicy.LAST:
            pattern = Pattern(config.filter_subject) if config.filter_subject else None
            return source.last_matching(pattern) or source.last_seq + 1
        case DeliveryPolicy.BY_START_SEQ:
            return max(config.start_seq, source.first_seq)
        case DeliveryPolicy.BY_START_TIME:
            return source.first_seq_at_or_after_time(config.start_time_ms)
