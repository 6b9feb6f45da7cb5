"""A lister of keys: reads the keys of the bucket page by page, and judges each entry against what is known of its key."""

from __future__ import annotations

from dataclasses import replace

from waymaker_core.api.kv_requests import KvKey, KvKeys
from waymaker_core.api.requests import Page
from waymaker_core.model import result_codes as outcomes
from waymaker_core.model.result_codes import Answer, Refusal
from waymaker_sim.clients.client_view import Ask, ClientView
from waymaker_sim.clients.key_client import BUCKET, BucketPlan
from waymaker_sim.history.keys import NOTHING, Key, KeyBook, Snapshot
from waymaker_sim.kernel.checks import require
from waymaker_sim.kernel.events import MS
from waymaker_sim.kernel.tape import Track
from waymaker_sim.machine.process import ReceivedMessage, StepId

TOMBSTONE_MS_ALWAYS = 1 << 40
"""Longer than any run, as the default is."""


class KeyLister:
    """Asks for one page at a time; `busy` while it waits."""

    def __init__(self, view: ClientView, track: Track, plan: BucketPlan, book: KeyBook) -> None:
        self.view = view
        self.track = track
        self.book = book
        self.tombstone_ms = plan.tombstone_ms or TOMBSTONE_MS_ALWAYS
        self.busy = False
        self._after = ""

    def act(self) -> None:
        """Ask for the next page, or from the beginning."""
        self.track.begin()
        if self.busy:
            return
        after = self._after if self.track.draw("go on", 2) else ""
        limit = self.track.pick("limit", (1, 2, 5))
        now_ns = self.view.events.now_ns
        before = {key.name: self._snapshot(key, now_ns) for key in self.book.keys.values()}

        def replied(ask: Ask, answer: Answer | Refusal, got: list[ReceivedMessage] | None, step_id: StepId) -> None:
            self.busy = False
            if isinstance(answer, Answer) and answer.code == outcomes.OK:
                assert isinstance(answer.value, Page)
                self._check_page(answer.value, after, limit, before)

        self.busy = True
        if self.view.ask(KvKeys(BUCKET, after, limit), replied, self._lost) is None:
            self.busy = False

    def _lost(self) -> None:
        self.busy = False

    def _snapshot(self, key: Key, now_ns: int) -> Snapshot:
        found = self.book.snapshot(key, now_ns, changes=False)
        return found if found.exact is None else replace(found, exact=replace(found.exact))

    def _check_page(self, page: Page[KvKey], after: str, limit: int, before: dict[str, Snapshot]) -> None:
        names = [entry.key for entry in page.entries]
        require(names == sorted(set(names)), "keys", f"keys are listed as {names}")
        require(len(names) <= limit and all(name > after for name in names), "keys", f"behind {after!r}: {names}")
        self._after = page.next_after
        for entry in page.entries:
            require(entry.key in before, "keys", f"{entry.key} is listed and was never written")
            self._check_entry(entry, self.book.keys[entry.key], before[entry.key])
        for name, at in sorted(before.items()):
            if name not in names and after < name and (not page.next_after or name <= page.next_after):
                self._check_missing(self.book.keys[name], at)
        self.view.mark("keys listed")

    def _check_entry(self, entry: KvKey, key: Key, at: Snapshot) -> None:
        require(
            entry.revision >= at.newest,
            "keys",
            f"{key.name} is listed at revision {entry.revision} after {at.newest} had been seen",
        )
        value = key.values.get(entry.revision)
        if value is not None:
            require(
                entry.deleted == (value == NOTHING),
                "keys",
                f"revision {entry.revision} of {key.name} is value {value}, and listed as {entry}",
            )
        elif entry.deleted:
            key.saw(entry.revision, NOTHING)
        exact = at.exact
        if exact is not None and key.changes == at.changes and not exact.ttl_ms:
            require(entry.revision == exact.revision, "keys", f"{key.name} is listed as {entry} and is {exact}")

    def _check_missing(self, key: Key, at: Snapshot) -> None:
        """Require a reason why a key is not listed: it was never there, or its tombstone stayed long enough."""
        exact = at.exact
        if exact is None or key.changes != at.changes or exact.ttl_ms or not exact.fresh:
            return
        now_ns = self.view.events.now_ns
        gone = exact.value == NOTHING and (
            not self.book.sane_clocks or now_ns >= exact.asked_ns + self.tombstone_ms * MS - 2 * MS
        )
        require(gone, "keys", f"{key.name} is {exact} and is not listed at {now_ns}")
