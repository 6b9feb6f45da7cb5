"""The state of one member: its term and vote, its role, its log, and what exists only while it leads.

It holds the few transitions that every part needs: a newer term, a lost leadership, a message. It decides nothing; elections,
replication, following, reads and changes of members each have a module. Time is `now`, set before every input.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from waymaker_core.raft.effects import Effect, Reason, Refused, Role
from waymaker_core.raft.entries import Durable, Entry, EntryKind, HardState
from waymaker_core.raft.log import RaftLog
from waymaker_core.raft.members import Members
from waymaker_core.raft.messages import Message
from waymaker_core.raft.random_source import RandomSource
from waymaker_core.raft.settings import RaftSettings

NEVER: Final = 1 << 62
"""A deadline that does not come."""


class Flow(IntEnum):
    """The way a leader sends to one follower."""

    PROBE = 0
    """One message at a time, until it is known where the logs part."""
    STREAM = 1
    """Ahead of the answers, within a window."""
    SNAPSHOT = 2
    """Heartbeats alone, while a snapshot is on its way."""


class Progress:
    """The knowledge of a leader about one follower. `match`: up to here the follower's log is the leader's, and durable."""

    __slots__ = ("match", "next", "flow", "paused", "round", "active", "commit_sent", "snapshot_deadline", "snapshot")

    def __init__(self, last: int) -> None:
        self.match = 0
        self.next = last + 1
        """The next entry to send."""
        self.flow = Flow.PROBE
        self.paused = False
        """True while a probe is on its way: the next one leaves after an answer, or with a heartbeat."""
        self.round = 0
        """The newest round of confirmations that it answered."""
        self.active = True
        """True if it was heard since the last check of the quorum."""
        self.commit_sent = 0
        self.snapshot_deadline = NEVER
        self.snapshot = 0
        """The index of the snapshot that is on its way."""

    def probe(self) -> None:
        """Begin again behind what is known to match, with the next heartbeat."""
        self.flow = Flow.PROBE
        self.next = self.match + 1
        self.paused = True
        self.snapshot_deadline = NEVER


class Leading:
    """All that exists only while a member leads; thrown away when it steps down."""

    __slots__ = (
        "progress", "term_start", "heartbeat_deadline", "quorum_deadline", "round", "asked", "asked_index", "waiting",
        "transfer_to", "transfer_deadline",
    )  # fmt: skip

    def __init__(self, term_start: int) -> None:
        self.progress: dict[int, Progress] = {}
        """By other member, in ascending order of first appearance."""
        self.term_start = term_start
        """The index of the first entry of its term."""
        self.heartbeat_deadline = 0
        self.quorum_deadline = 0
        self.round = 0
        """Number of the last round of confirmations that began."""
        self.asked: list[int] = []
        """Tokens of the reads of the round under way."""
        self.asked_index = 0
        self.waiting: list[int] = []
        """Tokens of the reads that join the next round."""
        self.transfer_to = 0
        self.transfer_deadline = NEVER


class MemberState:
    """One member of the group."""

    __slots__ = (
        "id", "settings", "random", "now", "term", "vote", "role", "leader", "log", "commit", "verified", "acked",
        "delivered", "applied", "votes", "leading", "stalled", "election_deadline", "last_contact", "number", "hard",
        "hard_number", "saved_number", "effects", "outbox", "held", "contradictions", "snapshot_asked", "reported",
        "directory", "doubt", "doubtful",
    )  # fmt: skip

    def __init__(
        self, id_: int, settings: RaftSettings, seed: int, now: int, durable: Durable, directory: int = 0
    ) -> None:  # fmt: skip
        self.id = id_
        self.directory = directory
        self.doubt = durable.doubt
        """The term from which on a leader's entries prove that nothing is missing here; 0 where nothing may be missing.

        Up to the last one, this member may have forgotten entries that it acknowledged. Its votes count only if all voters give
        theirs.
        """
        self.doubtful: set[int] = set()
        """Voters that may have forgotten entries, of those that granted their votes."""
        self.settings = settings
        self.random = RandomSource(seed)
        self.now = now
        self.term, self.vote = durable.hard
        self.role = Role.FOLLOWER
        self.leader = 0
        self.log = RaftLog(durable)
        self.commit = durable.snapshot.index
        """A majority has the log up to here, as far as this member knows; it may be ahead of its own disk."""
        self.verified = self.commit
        """Up to here the log is known to equal that of this term's leader."""
        self.acked = 0
        """The last durable position that this term's leader was sent."""
        self.delivered = self.commit
        """Entries up to here were handed out with `Apply`, or lie in a snapshot."""
        self.applied = self.commit
        self.votes: dict[int, bool] = {}
        self.leading: Leading | None = None
        self.stalled = False
        self.election_deadline = NEVER
        self.last_contact = 0
        """The moment of the leader's last message."""
        self.number = 0
        """Number of the last write."""
        self.hard = durable.hard
        """Term and vote as they were last handed to the disk."""
        self.hard_number = 0
        """The write that makes them durable."""
        self.saved_number = 0
        self.effects: list[Effect] = []
        self.outbox: list[Message] = []
        """Messages of this step."""
        self.held: list[Message] = []
        """Messages that wait for the term and vote to become durable."""
        self.contradictions = 0
        """Messages that no correct member can have sent."""
        self.snapshot_asked = 0
        """The index of the last snapshot that was wanted."""
        self.reported = (Role.FOLLOWER, 0, 0)
        """Role, term and leader as they were last reported."""
        self.arm_election()

    # ------------------------------------------------------------ facts

    @property
    def is_voter(self) -> bool:
        """Return True if this member votes in the set in force."""
        return self._votes_in(self.log.members)

    def _votes_in(self, members: Members) -> bool:
        """Return True for a set where this member votes, with the directory that it has (rule `vote_as_named`)."""
        return self.id in members.voters and members.directory_of(self.id) in (0, self.directory)

    @property
    def may_campaign(self) -> bool:
        """Return True if this member may ask for votes."""
        return not self.stalled and self.role not in (Role.LEADER, Role.STOPPED) and self.is_needed()

    def is_needed(self) -> bool:
        """Return True for a voter, and for one whose removal is not committed.

        The others may lack that entry, and then elect no node but this one (Raft thesis, 4.2.2).
        """
        return self.is_voter or self._votes_in(self.log.members_at(self.commit))

    def hears_leader(self) -> bool:
        """Return True while a leader is in office as far as this member knows: it then answers no candidate.

        So a node that is cut off, or was removed, deposes no leader (Raft thesis, 4.2.3).
        """
        if self.role == Role.LEADER:
            return True
        return self.leader != 0 and self.now - self.last_contact < self.settings.election_ms

    # ------------------------------------------------------------ transitions

    def arm_election(self) -> None:
        """Draw the moment of the next campaign, if no leader is heard meanwhile. The only voter waits for no other."""
        election_ms = self.settings.election_ms
        if self.log.members.voters == (self.id,):
            self.election_deadline = self.now
        else:
            self.election_deadline = self.now + election_ms + self.random.below(election_ms)

    def step_down(self, term: int, leader: int) -> None:
        """Follow in a term that is not older than the own one. Reads that wait are refused; proposals stay open."""
        if term > self.term:
            self.enter_term(term)
        leading, self.leading = self.leading, None
        self.role = Role.FOLLOWER
        self.leader = leader
        self.votes = {}
        if leading is not None:
            for token in (*leading.asked, *leading.waiting):
                self.refuse(token, Reason.NOT_LEADER)
        self.arm_election()

    def enter_term(self, term: int, vote: int = 0) -> None:
        """Go to a newer term. What was verified with an older leader need not agree with the next one's log."""
        self.term, self.vote = term, vote
        self.verified = self.commit
        self.acked = 0

    def append_own(self, kind: EntryKind, data: bytes = b"") -> int:
        """Append an entry of the own term; return its index."""
        self.log.append_entry(Entry(self.term, kind, data))
        return self.log.last

    # ------------------------------------------------------------ effects

    def send(self, message: Message) -> None:
        """Send a message at the end of the step, or when the term and vote are durable."""
        self.outbox.append(message)

    def refuse(self, token: int, reason: Reason) -> None:
        """Refuse a proposal, a read or a transfer."""
        leader = self.leader if self.leader != self.id else 0
        self.effects.append(Refused(token, reason, leader))

    def hard_unsaved(self) -> bool:
        """Return True while the term or the vote waits for the disk."""
        return self.hard_number > self.saved_number

    def next_hard(self) -> HardState | None:
        """Return the term and vote if the disk was not handed them yet."""
        if (self.term, self.vote) == self.hard:
            return None
        return HardState(self.term, self.vote)
