"""A nemesis of real servers: members are killed and paused, links between them are cut, while clients publish and read.

``python -m tests.shell.cluster_nemesis --seconds 600`` is the long form; a test runs a short one. At the end, and whenever a
reader looks, everything that was confirmed is there, once, where its answer said. One member at a time is in trouble, or all of
them are killed at once: a majority that answers again has all that was confirmed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.kit.real_cluster import Publisher, RealCluster

STREAMS = ("a", "b", "c")
CALL_S = 60.0


class Nemesis:
    """One run against one cluster."""

    def __init__(self, cluster: RealCluster, seed: int) -> None:
        self.cluster = cluster
        self.random = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.reads = 0
        self.broken: list[BaseException] = []
        self.publishers = [Publisher(cluster, stream) for stream in STREAMS]
        self._over = threading.Event()
        self.fault = "none"
        self.longest_s: dict[str, float] = {}
        """By the last fault that began before its end: the longest time between two confirmed publishes of one stream."""

    def run(self, seconds: float) -> None:
        """Run for a while, heal, and compare. Raises what was broken."""
        for publisher, stream in zip(self.publishers, STREAMS, strict=True):
            publisher.client.create(stream)
        threads = [threading.Thread(target=self._guarded, args=(self._publish, each)) for each in self.publishers]
        threads += [threading.Thread(target=self._guarded, args=(self._read, each)) for each in self.publishers]
        for thread in threads:
            thread.start()
        try:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and not self.broken:
                self._fault()
                self._over.wait(self.random.uniform(0.2, 2.0))
        finally:
            self._over.set()
            for thread in threads:
                thread.join(CALL_S)
        if self.broken:
            raise self.broken[0]
        for node in self.cluster.servers:
            self.cluster.await_ready(node, CALL_S)
        for publisher in self.publishers:
            publisher.publish_one(CALL_S)
            publisher.check()
            publisher.close()

    # ------------------------------------------------------------ clients

    def _guarded(self, work: Callable[[Publisher], None], publisher: Publisher) -> None:
        try:
            work(publisher)
        except BaseException as error:
            self.broken.append(error)
            self._over.set()

    def _publish(self, publisher: Publisher) -> None:
        last = time.monotonic()
        while not self._over.is_set():
            is_confirmed = publisher.publish(CALL_S)
            if is_confirmed:
                now = time.monotonic()
                self.longest_s[self.fault], last = max(self.longest_s.get(self.fault, 0.0), now - last), now
            self._over.wait(0.005 if is_confirmed else 0.1)

    def _read(self, publisher: Publisher) -> None:
        """Read whatever was confirmed before the reading began."""
        client = self.cluster.client()
        try:
            while not self._over.wait(0.5):
                before = dict(publisher.confirmed)
                found = dict(client.read(publisher.stream))
                missing = {seq: payload for seq, payload in before.items() if found.get(seq) != payload}
                assert not missing, f"{publisher.stream} lacks {missing}\n{self.cluster.logs()}"
                self.reads += 1
        finally:
            client.close()

    # ------------------------------------------------------------ faults

    def _fault(self) -> None:
        name, fault = self.random.choice(
            [
                ("kill", self._kill), ("pause", self._pause), ("isolate", self._isolate), ("cut", self._cut),
                ("cut one way", self._cut_one_way), ("kill all", self._kill_all),
            ]
        )  # fmt: skip
        self.fault = name
        self.faults[name] += 1
        fault(self.random.choice(list(self.cluster.servers)))

    def _wait(self) -> None:
        self._over.wait(self.random.uniform(0.2, 4.0))

    def _kill(self, node: int) -> None:
        self.cluster.kill(node)
        self._wait()
        self.cluster.servers[node].start()

    def _pause(self, node: int) -> None:
        self.cluster.pause(node)
        self._wait()
        self.cluster.resume(node)

    def _isolate(self, node: int) -> None:
        assert self.cluster.links is not None
        self.cluster.links.isolate(node)
        self._wait()
        self.cluster.links.heal()

    def _cut(self, node: int) -> None:
        assert self.cluster.links is not None
        other = node % len(self.cluster.servers) + 1
        self.cluster.links.cut([(node, other), (other, node)])
        self._wait()
        self.cluster.links.heal()

    def _cut_one_way(self, node: int) -> None:
        assert self.cluster.links is not None
        self.cluster.links.cut([(node, node % len(self.cluster.servers) + 1)])
        self._wait()
        self.cluster.links.heal()

    def _kill_all(self, _: int) -> None:
        for node in self.cluster.servers:
            self.cluster.kill(node)
        starting = [threading.Thread(target=server.start) for server in self.cluster.servers.values()]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()


def run(folder: Path, seconds: float, seed: int) -> Nemesis:
    """Run a nemesis on a new cluster; return what it did. Raises what was broken."""
    cluster = RealCluster(folder, with_links=True)
    try:
        cluster.start()
        nemesis = Nemesis(cluster, seed)
        nemesis.run(seconds)
        return nemesis
    finally:
        cluster.close()


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        nemesis = run(Path(folder), arguments.seconds, arguments.seed)
    confirmed = sum(len(each.confirmed) for each in nemesis.publishers)
    doubtful = sum(len(each.doubtful) for each in nemesis.publishers)
    print(
        f"{confirmed:,} messages confirmed, {doubtful} unknown, {nemesis.reads} readings; {dict(nemesis.faults)}; "
        "nothing was lost\nlongest times without a confirmation: "
        + ", ".join(f"{fault} {seconds:.1f} s" for fault, seconds in sorted(nemesis.longest_s.items()))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
