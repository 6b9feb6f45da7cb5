"""Coverage marks of a cluster's worlds: the situations that a campaign over them has to reach, with their meanings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

NETWORK_MARKS: dict[str, str] = {
    "message lost": "a link loses a message",
    "message duplicated": "a link delivers a message twice",
    "message overtaken": "a later message of a link arrives first",
    "queue full": "a message finds no room among those on their way",
    "connection broken": "the connection of two machines breaks",
    "lost with a connection": "what is on its way is lost with its connection",
    "partition": "some machines and clients are cut off from the others",
    "one-way partition: mute": "some machines and clients are heard by none of the others",
    "one-way partition: deaf": "some machines and clients hear none of the others",
    "lost in a partition": "a message meets a partition",
    "link clogged": "a link delivers nothing for a while, and then all",
    "sent to a machine that is down": "a message arrives where no process runs",
}
MACHINE_MARKS: dict[str, str] = {
    "kill": "a process is killed, its page cache stays",
    "kill at effect": "a process is killed between two effects of one step",
    "power loss": "a machine stops, and loses what was not synced",
    "crash while recovering": "a start is interrupted",
    "restart": "a machine starts again",
    "pause": "a process is stopped for a while, and goes on with what it knew",
    "disk full": "a disk fills, and has room again later",
    "halted: unclean": "a server halts, for it cannot promise durability any more",
    "clock rate": "a monotonic clock runs faster or slower than true time",
    "clock skew": "a wall clock is wrong from the beginning",
    "clock jumped back": "a wall clock is set back",
    "clock jumped ahead": "a wall clock is set ahead",
    "directory lost": "a machine gets an empty disk",
    "damage": "a bit flips in what was durable",
    "synced end torn": "a disk has not what it said was synced, after a loss of power",
    "fault forbidden by the atlas": "a fault would have left some stream without a majority of good copies",
    "fault withheld: a majority stays well": "a fault would have put more than a minority in trouble",
}
CLIENT_MARKS: dict[str, str] = {
    "client's connection broken": "the network breaks the connection of a client",
    "client lost its connection": "a client notices that its connection has ended",
    "client found no connection": "a client meets a machine that is down, or out of reach",
    "client changed the machine": "a client connects to another machine than before",
    "client refused, and goes elsewhere": "a machine refuses a call that another one may serve",
    "call lost": "a connection ends before the answer to a call that was sent on it",
    "call given up": "a client stops waiting for an answer",
    "call of unknown outcome": "a call has ended without an answer, and may have had its effect",
}
REDIRECT_MARKS: dict[str, str] = {
    "client redirected": "a machine says that another one serves a call",
    "client told of an older epoch": "a redirect tells less than the client knows from a newer one",
    "client redirected too often": "a client has followed as many redirects as it may",
}


def never_reached(marks: Mapping[str, int], wanted: Iterable[str]) -> list[str]:
    """Return the marks that were never counted."""
    return [name for name in wanted if not marks.get(name)]
