"""Mutants: rules of the core, each of which can be removed, to prove that the checks notice.

One file for each area of the core. The gate (`find_seed`) runs each through as many seeds as it needs, and fails when one
escapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from waymaker_core import is_compiled
from waymaker_sim.mutants.answers import ANSWERS
from waymaker_sim.mutants.archives import ARCHIVES
from waymaker_sim.mutants.catalog import CATALOG
from waymaker_sim.mutants.consumer import CONSUMER
from waymaker_sim.mutants.dead_letters import DEAD_LETTERS
from waymaker_sim.mutants.deferred_frames import DEFERRED_FRAMES
from waymaker_sim.mutants.interval_sync import LATE_SYNCS
from waymaker_sim.mutants.keys import KEYS
from waymaker_sim.mutants.objects import OBJECTS
from waymaker_sim.mutants.planting import Mutant
from waymaker_sim.mutants.producers import PRODUCERS
from waymaker_sim.mutants.replica_facts import REPLICA_FACTS
from waymaker_sim.mutants.replicated_log import REPLICATED_LOG
from waymaker_sim.mutants.retention import RETENTION
from waymaker_sim.mutants.sources import SOURCES
from waymaker_sim.mutants.space_reclaimed import ROOM
from waymaker_sim.mutants.store import STORE
from waymaker_sim.mutants.stores import STORES
from waymaker_sim.mutants.stream import STREAM

AREAS = (
    STORE,
    DEFERRED_FRAMES,
    ROOM,
    LATE_SYNCS,
    STREAM,
    PRODUCERS,
    RETENTION,
    CONSUMER,
    DEAD_LETTERS,
    CATALOG,
    ARCHIVES,
    REPLICATED_LOG,
    OBJECTS,
    STORES,
    REPLICA_FACTS,
    SOURCES,
    KEYS,
    ANSWERS,
)
MUTANTS: dict[str, Mutant] = {name: mutant for area in AREAS for name, mutant in area.items()}
assert len(MUTANTS) == sum(map(len, AREAS)), "names are unique"


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Remove one rule from the core meanwhile; with an empty name, none."""
    if not name:
        yield
        return
    if is_compiled():
        raise RuntimeError("a mutant needs the pure core: calls between compiled functions go past what is replaced")
    with MUTANTS[name].planted():
        yield
