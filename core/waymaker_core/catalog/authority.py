"""Authority: which node leads a stream, and which nodes hold it with it, as the catalog's log says.

A claim names a primary and replicas; the position of its record in the catalog's log is its epoch. One record may hold the
claims of many streams, each of which counts by itself. A claim is opened by a later record, once a majority of its replicas
has what the primary begins with. Then the primary may commit. An opening counts only while its claim is the newest one of the
stream: what a later claim has fenced never opens (docs/logs.md, "Claims").

All is decided by the log alone, so every node that has applied the same records says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Final, NamedTuple

from waymaker_core.model.records import AuthorityOpened, StreamsClaimed
from waymaker_core.model.types import StreamId


class Claim(NamedTuple):
    """A claim of a stream. `epoch`: the position of its record in the catalog's log; 0 where there is none.

    `directories`: of each replica the directory that counts, which is the one that the group's members name where the claim
    stands; 0 for any. Empty where they name none.
    """

    epoch: int = 0
    primary: int = 0
    replicas: tuple[int, ...] = ()
    directories: tuple[int, ...] = ()


DirectoryOf = Callable[[int], int]
"""Returns the directory with which a node counts, 0 for any."""
NO_CLAIM: Final = Claim()


class Conf(NamedTuple):
    """The newest claim of a stream, and the last one that was opened."""

    newest: Claim = NO_CLAIM
    opened: Claim = NO_CLAIM


NO_CONF: Final = Conf()


class Authority:
    """The claims of all streams, and the overlay of claims that are decided and not committed."""

    def __init__(self) -> None:
        self.confs: dict[StreamId, Conf] = {}
        """By stream; one without any claim has none."""
        self._staged: dict[StreamId, Claim] = {}
        """The newest claim once everything staged is committed, where one is staged."""
        self._staged_openings: dict[StreamId, int] = {}
        """The epoch whose opening is decided and not committed, where there is one."""

    def projected_claim(self, stream_id: StreamId) -> Claim:
        """Return the newest claim once everything staged is committed."""
        staged = self._staged.get(stream_id)
        return self.confs.get(stream_id, NO_CONF).newest if staged is None else staged

    def stage_claim(self, stream_id: StreamId, claim: Claim) -> None:
        """Lay a decided claim over the committed ones."""
        self._staged[stream_id] = claim

    def is_opened(self, stream_id: StreamId, epoch: int) -> bool:
        """Return True if a claim's opening is committed, or decided."""
        conf = self.confs.get(stream_id, NO_CONF)
        return epoch in (conf.opened.epoch, self._staged_openings.get(stream_id))

    def stage_opening(self, stream_id: StreamId, epoch: int) -> None:
        """Note that the opening of a claim is decided."""
        self._staged_openings[stream_id] = epoch

    def discard_uncommitted(self) -> None:
        """Drop everything that is staged."""
        self._staged.clear()
        self._staged_openings.clear()

    def apply_claims(
        self, record: StreamsClaimed, position: int, known: Container[StreamId], directory_of: DirectoryOf = lambda node: 0
    ) -> list[StreamId]:  # fmt: skip
        """Make each claim the newest one of its stream, if that is known; return the streams whose claims changed."""
        changed: list[StreamId] = []
        for number, primary, nodes in zip(record.stream_ids, record.primaries, record.replicas, strict=True):
            stream_id = StreamId(number)
            if stream_id not in known:
                continue
            staged = self._staged.get(stream_id)
            if staged is not None and staged.epoch == position:
                del self._staged[stream_id]
            claim = _named(Claim(position, primary, tuple(nodes)), directory_of)
            self.confs[stream_id] = self.confs.get(stream_id, NO_CONF)._replace(newest=claim)
            changed.append(stream_id)
        return changed

    def name_directories(self, directory_of: DirectoryOf) -> None:
        """Name the directories of claims that stand before the first members: those of a single node's streams."""
        for stream_id, conf in self.confs.items():
            self.confs[stream_id] = Conf(_named(conf.newest, directory_of), _named(conf.opened, directory_of))

    def apply_openings(self, record: AuthorityOpened) -> list[StreamId]:
        """Open each claim that is the newest one of its stream and not open yet; return the streams where it was."""
        changed: list[StreamId] = []
        for number, epoch in zip(record.stream_ids, record.epochs, strict=True):
            stream_id = StreamId(number)
            if self._staged_openings.get(stream_id) == epoch:
                del self._staged_openings[stream_id]
            conf = self.confs.get(stream_id, NO_CONF)
            if epoch != 0 and conf.newest.epoch == epoch != conf.opened.epoch:
                self.confs[stream_id] = Conf(conf.newest, conf.newest)
                changed.append(stream_id)
        return changed

    def forget_claims(self, stream_id: StreamId) -> None:
        """Forget the claims of a deleted stream."""
        self.confs.pop(stream_id, None)
        self._staged.pop(stream_id, None)
        self._staged_openings.pop(stream_id, None)

    def claims_as_list(self) -> list[object]:
        """Encode the committed claims as plain values."""
        rows = sorted(self.confs.items())
        return [[stream_id, _plain(conf.newest), _plain(conf.opened)] for stream_id, conf in rows]

    def restore(self, rows: Iterable[object], position: int) -> None:
        """Fill it from `claims_as_list`, at a position of the catalog's log; ValueError where the values are none."""
        for row in rows:
            match row:
                case [int(stream_id), newest, opened] if stream_id > max(self.confs, default=StreamId(0)):
                    conf = Conf(_claim(newest, position), _claim(opened, position))
                    if conf.newest == NO_CLAIM or conf.opened.epoch > conf.newest.epoch:
                        raise ValueError("a claim that was opened before it was made")
                    self.confs[StreamId(stream_id)] = conf
                case _:
                    raise ValueError("not the claims of a stream")


def _named(claim: Claim, directory_of: DirectoryOf) -> Claim:
    directories = tuple(map(directory_of, claim.replicas))
    return claim._replace(directories=directories) if any(directories) else claim


def _plain(claim: Claim) -> list[object]:
    plain: list[object] = [claim.epoch, claim.primary, list(claim.replicas)]
    return [*plain, list(claim.directories)] if claim.directories else plain


def _claim(value: object, position: int) -> Claim:
    match value:
        case [0, 0, []]:
            return NO_CLAIM
        case [int(epoch), int(primary), list(nodes), *rest] if 0 < epoch <= position and primary in nodes:
            replicas = tuple(node for node in nodes if type(node) is int and 0 < node < 1 << 64)
            if len(dict.fromkeys(replicas)) == len(nodes):
                return Claim(epoch, primary, replicas, _directories(rest, len(replicas)))
    raise ValueError("not a claim")


def _directories(rest: list[object], count: int) -> tuple[int, ...]:
    match rest:
        case []:
            return ()
        case [list(found)]:
            directories = tuple(each for each in found if type(each) is int and 0 <= each < 1 << 64)
            if len(directories) == len(found) == count and any(directories):
                return directories
    raise ValueError("not the directories of a claim")
