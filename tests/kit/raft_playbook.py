"""Playbooks of a consensus group: text in, text out. A line with `> ` is a command; what follows is its output.

The group is the core's own; machines and disks are the simulator's. Nothing happens by itself: a playbook says when a clock
goes on, which write becomes durable, and which message arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from waymaker_core.raft.effects import (
    Accepted,
    Apply,
    Effect,
    Install,
    Readable,
    Refused,
    Role,
    RoleChanged,
    Send,
    SnapshotWanted,
    Write,
)
from waymaker_core.raft.entries import Entry, EntryKind, HardState, SnapshotMeta
from waymaker_core.raft.inputs import (
    Applied,
    DiskRecovered,
    DiskStalled,
    Input,
    Propose,
    ProposeChange,
    Read,
    Received,
    Saved,
    SnapshotLost,
    SnapshotTaken,
    Transfer,
    WriteFailed,
)
from waymaker_core.raft.members import Change, ChangeKind, Members, decode_members
from waymaker_core.raft.messages import (
    AppendRefused,
    AppendRequest,
    AppendResponse,
    Message,
    SnapshotRequest,
    VoteRequest,
    VoteResponse,
)
from waymaker_core.raft.raft import Raft
from waymaker_core.raft.settings import RaftSettings
from waymaker_sim.raft.machine import Machine

CHANGES = {
    "learn": ChangeKind.ADD_LEARNER,
    "promote": ChangeKind.PROMOTE,
    "demote": ChangeKind.DEMOTE,
    "remove": ChangeKind.REMOVE,
}
KINDS = {
    "vote": VoteRequest,
    "votes": VoteResponse,
    "append": AppendRequest,
    "answer": AppendResponse,
    "refusal": AppendRefused,
    "snapshot": SnapshotRequest,
}


def entry_text(entry: Entry) -> str:
    """Return an entry's data as a playbook names it."""
    if entry.kind == EntryKind.NOOP:
        return "-"
    if entry.kind == EntryKind.MEMBERS:
        return members_text(decode_members(entry.data))
    return entry.data.decode()


def members_text(members: Members) -> str:
    """Return a set of members: voters, and learners behind a plus."""
    learners = "".join(f"+{node}" for node in members.learners)
    return f"[{' '.join(map(str, members.voters))}{learners}]"


def terms_text(entries: list[Entry]) -> str:
    """Return the terms of entries, repeated ones as `term x count`."""
    runs = [(term, len(list(run))) for term, run in groupby(entries, key=lambda entry: entry.term)]
    return " ".join(f"{term}x{count}" if count > 1 else f"{term}" for term, count in runs) or "nothing"


def message_text(message: Message) -> str:
    """Return a message in a line."""
    way = f"{message.sender}>{message.to} t{message.term}"
    if isinstance(message, VoteRequest):
        kind = "would you vote" if message.pre else "vote"
        return f"{way} {kind}? my log ends at {message.last_index} t{message.last_term}{' (told)' * message.forced}"
    if isinstance(message, VoteResponse):
        return f"{way} {'would ' * message.pre}{'yes' if message.granted else 'no'}"
    if isinstance(message, AppendRequest):
        data = ", ".join(map(entry_text, message.entries))
        text = f"{way} append after {message.prev_index} t{message.prev_term}: {data or 'nothing'}; commit {message.commit}"
        return text + (f"; round {message.round}" if message.round else "")
    if isinstance(message, AppendResponse):
        text = f"{way} agree to {message.verified}, durable to {message.durable}"
        return text + (f"; round {message.round}" if message.round else "")
    if isinstance(message, AppendRefused):
        return f"{way} no entry {message.prev_index} of yours; perhaps {message.hint_index} t{message.hint_term}"
    if isinstance(message, SnapshotRequest):
        snapshot = message.snapshot
        return f"{way} snapshot at {snapshot.index} t{snapshot.term} {members_text(snapshot.members)}"
    return f"{way} campaign now"


class RaftPlay:
    """One playbook under way."""

    def __init__(self) -> None:
        self.machines: dict[int, Machine] = {}
        self.clocks: dict[int, int] = {}
        self.network: list[Message] = []
        self.cut: list[int] = []
        self.out: list[str] = []
        self.token = 0

    def run(self, text: str) -> str:
        """Return the playbook with the output that its commands have now."""
        lines: list[str] = []
        for line in text.splitlines():
            if line.startswith("#") or (not line and (not lines or lines[-1].startswith("#"))):
                lines.append(line)
            elif line.startswith("> "):
                self.out = []
                words = line[2:].split("#")[0].split()
                command: Callable[..., None] = getattr(self, f"do_{words[0]}")
                command(*words[1:])
                if lines and lines[-1] and not lines[-1].startswith(("#", ">")):
                    lines.append("")
                lines += [line, *(f"  {each}" for each in self.out)]
        spaced: list[str] = []
        for line in lines:
            if line.startswith("#") and spaced and spaced[-1] and not spaced[-1].startswith("#"):
                spaced.append("")
            spaced.append(line)
        return "\n".join(spaced) + "\n"

    # ------------------------------------------------------------ setting up

    def do_group(self, *words: str) -> None:
        """Begin with voters, then `learners`, `spare` nodes without a state, and settings as `name=value`."""
        self.machines, self.clocks, self.network, self.cut = {}, {}, [], []
        parts: dict[str, list[int]] = {"voters": [], "learners": [], "spare": []}
        settings: dict[str, int] = {"snapshot_after_entries": 1_000_000}
        part = "voters"
        for word in words:
            if "=" in word:
                name, value = word.split("=")
                settings[name] = int(value)
            elif word in parts:
                part = word
            else:
                parts[part].append(int(word))
        first = SnapshotMeta(1, 0, Members(tuple(parts["voters"]), tuple(parts["learners"])))
        for node in sorted(node for nodes in parts.values() for node in nodes):
            snapshot = SnapshotMeta() if node in parts["spare"] else first
            self.machines[node] = Machine(node, RaftSettings(**settings), snapshot, 1000, node)
            self.clocks[node] = 0
            self.start(node)

    def do_disk(self, node: str, *words: str) -> None:
        """Replace what a node's disk holds: the terms of its entries, from index 2 on, and its own term as `term=T`."""
        terms: list[int] = []
        term = 0
        for word in words:
            if word.startswith("term="):
                term = int(word[5:])
            else:
                of, _, count = word.partition("x")
                terms += [int(of)] * int(count or 1)
        disk = self.machines[int(node)].disk
        data = [f"{each}.{at}".encode() for at, each in enumerate(terms, 2)]
        disk.entries = [Entry(each, EntryKind.DATA, text) for each, text in zip(terms, data, strict=True)]
        disk.hard = HardState(max([term, *terms]), 0)
        self.start(int(node))

    def start(self, node: int) -> None:
        machine = self.machines[node]
        machine.start(self.clocks[node])
        self.step(node)

    def raft(self, node: int) -> Raft:
        raft = self.machines[node].raft
        assert raft is not None, f"node {node} is down"
        return raft

    # ------------------------------------------------------------ steps

    def step(self, node: int, *inputs: Input) -> None:
        for effect in self.raft(node).step(self.clocks[node], inputs):
            self.perform(node, effect)

    def perform(self, node: int, effect: Effect) -> None:
        machine, say = self.machines[node], self.out.append
        if isinstance(effect, Write | Install):
            machine.disk.pending.append(effect)
            if isinstance(effect, Install):
                say(f"{node} installs a snapshot at {effect.snapshot.index}")
            elif effect.cut_from:
                say(f"{node} cuts its log at {effect.cut_from}")
        elif isinstance(effect, Send):
            if effect.message.to not in self.cut and node not in self.cut:
                self.network.append(effect.message)
        elif isinstance(effect, Apply):
            end = effect.first + len(effect.entries) - 1
            say(f"{node} applies {effect.first}: {', '.join(map(entry_text, effect.entries))}")
            self.step(node, Applied(end))
            machine.applied = end
        elif isinstance(effect, RoleChanged):
            leader = f" of {effect.leader}" if effect.leader and effect.role == Role.FOLLOWER else ""
            say(f"{node} is {effect.role.name.lower().replace('_', '-')}{leader} in term {effect.term}")
        elif isinstance(effect, Accepted):
            say(f"{node} accepts {effect.index} t{effect.term}")
        elif isinstance(effect, Refused):
            leader = f", {effect.leader} leads" if effect.leader else ""
            say(f"{node} refuses: {effect.reason.name.lower().replace('_', ' ')}{leader}")
        elif isinstance(effect, Readable):
            say(f"{node} may answer reads {' '.join(map(str, effect.tokens))} at {effect.index}")
        elif isinstance(effect, SnapshotWanted):
            say(f"{node} wants a snapshot at {effect.snapshot.index}")
        else:
            say(f"{node} releases entries to {effect.index}")

    def do_timeout(self, *nodes: str) -> None:
        """Let the clocks of nodes go on to their next deadline."""
        for node in map(int, nodes):
            self.clocks[node] = max(self.raft(node).next_deadline(), self.clocks[node])
            self.step(node)

    def do_wait(self, ms: str, *nodes: str) -> None:
        """Let clocks go on, of all nodes if none is named; only what is due at the end happens."""
        for node in [*map(int, nodes)] or list(self.machines):
            self.clocks[node] += int(ms)
            if self.machines[node].raft is not None:
                self.step(node)

    def do_save(self, *nodes: str) -> None:
        """Make durable what nodes have written."""
        for node in map(int, nodes):
            self.save(node)

    def save(self, node: int) -> bool:
        disk = self.machines[node].disk
        number = disk.sync(len(disk.pending))
        if number and self.machines[node].raft is not None:
            self.step(node, Saved(number))
        return number > 0

    def _matching(self, words: tuple[str, ...]) -> list[Message]:
        """Return the messages on their way of a kind, or of a way `1>2`, `1>`, `>2`."""
        found = self.network
        for word in words:
            if ">" in word:
                sender, to = word.split(">")
                found = [m for m in found if str(m.sender).startswith(sender or "") and (not to or m.to == int(to))]
            else:
                found = [m for m in found if type(m) is KINDS[word]]
        return list(found)

    def _taken(self, words: tuple[str, ...]) -> list[Message]:
        taken = self._matching(words)
        self.network = [each for each in self.network if not any(each is one for one in taken)]
        return taken

    def deliver(self, message: Message) -> None:
        machine = self.machines.get(message.to)
        if machine is not None and machine.raft is not None:
            self.step(message.to, Received(message))

    def do_deliver(self, *words: str) -> None:
        """Let messages arrive, in order, and print them. `twice`: each two times; `backwards`: the last one first."""
        kinds = tuple(word for word in words if word not in ("twice", "backwards"))
        messages = self._taken(kinds)
        if "backwards" in words:
            messages.reverse()
        for message in messages:
            self.out.append(message_text(message))
            for _ in range(2 if "twice" in words else 1):
                self.deliver(message)

    def do_lose(self, *words: str) -> None:
        """Lose messages."""
        self.out += [f"lost: {message_text(message)}" for message in self._taken(words)]

    def do_messages(self, *words: str) -> None:
        """Print the messages on their way."""
        self.out += list(map(message_text, self._matching(words))) or ["none"]

    def do_settle(self, *nodes: str) -> None:
        """Save and deliver between nodes, all if none is named, until nothing is on its way."""
        among = [*map(int, nodes)] or list(self.machines)
        for _ in range(200):
            busy = [self.save(node) for node in among]
            messages = [m for m in self.network if m.to in among and m.sender in among]
            self.network = [m for m in self.network if not any(m is each for each in messages)]
            for message in messages:
                self.deliver(message)
            if not messages and not any(busy):
                return
        raise AssertionError("the group does not settle")

    # ------------------------------------------------------------ wishes

    def do_propose(self, node: str, *data: str) -> None:
        tokens = range(self.token + 1, self.token + 1 + len(data))
        self.token += len(data)
        self.step(int(node), *(Propose(token, each.encode()) for token, each in zip(tokens, data, strict=True)))

    def do_read(self, node: str, count: str = "1") -> None:
        tokens = list(range(self.token + 1, self.token + 1 + int(count)))
        self.token = tokens[-1]
        self.out.append(f"read {' '.join(map(str, tokens))}")
        self.step(int(node), *map(Read, tokens))

    def do_change(self, node: str, kind: str, which: str) -> None:
        self.token += 1
        self.step(int(node), ProposeChange(self.token, Change(CHANGES[kind], int(which))))

    def do_transfer(self, node: str, to: str = "0") -> None:
        self.token += 1
        self.step(int(node), Transfer(self.token, int(to)))

    def do_snapshot(self, node: str) -> None:
        """Store a snapshot of all that a node has applied."""
        machine = self.machines[int(node)]
        meta = self.raft(int(node)).meta_at(machine.applied)
        assert machine.disk.keep_snapshot(meta)
        self.step(int(node), SnapshotTaken(meta.index))

    # ------------------------------------------------------------ faults

    def do_cut(self, *nodes: str) -> None:
        """Cut nodes off: what they send, and what is sent to them, is lost from now on."""
        self.cut += map(int, nodes)

    def do_mend(self) -> None:
        self.cut = []

    def do_crash(self, node: str, keep: str = "0", parts: str = "0") -> None:
        """Crash a node. Its disk keeps what was saved, the first `keep` writes behind it, and some parts of the next."""
        self.machines[int(node)].stop(int(keep), int(parts))

    def do_restart(self, node: str) -> None:
        self.start(int(node))

    def do_stall(self, node: str) -> None:
        self.step(int(node), DiskStalled())

    def do_recover(self, node: str) -> None:
        self.step(int(node), DiskRecovered())

    def do_fail(self, node: str) -> None:
        self.step(int(node), WriteFailed())

    def do_snapshot_lost(self, node: str, to: str) -> None:
        self.step(int(node), SnapshotLost(int(to)))

    # ------------------------------------------------------------ looking

    def do_status(self, *nodes: str) -> None:
        """Print role, term and log of nodes, of all if none is named."""
        for node in [*map(int, nodes)] or list(self.machines):
            if self.machines[node].raft is None:
                self.out.append(f"{node} is down")
                continue
            raft = self.raft(node)
            last = raft.last_index
            self.out.append(
                f"{node} {raft.role.name.lower()} t{raft.term}, log to {last} t{raft.term_at(last)},"
                f" {raft.commit} committed, {members_text(raft.members)}"
            )

    def do_disks(self, *nodes: str) -> None:
        """Print what is durable: term and vote, and the terms of the entries."""
        for node in [*map(int, nodes)] or list(self.machines):
            disk = self.machines[node].disk
            vote = f" voted {disk.hard.vote}" if disk.hard.vote else ""
            self.out.append(f"{node} t{disk.hard.term}{vote}, behind {disk.base}: {terms_text(disk.entries)}")
