"""All conversations with services by name, and what one of them finds: each draws on a track of its own name.

A mutant that no world notices names the conversation that must; the gate holds it here instead of running worlds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from waymaker_sim.compare.conversation import Conversation
from waymaker_sim.compare.objects import ObjectCalls
from waymaker_sim.compare.pair import Disagreement
from waymaker_sim.compare.services import ServiceCalls
from waymaker_sim.compare.sketches import SketchCalls
from waymaker_sim.compare.watches import WatchCalls
from waymaker_sim.kernel.tape import Tape

CONVERSATIONS: Final[Mapping[str, type[ServiceCalls] | type[WatchCalls] | type[ObjectCalls] | type[SketchCalls]]] = {
    "services": ServiceCalls,
    "watches": WatchCalls,
    "objects": ObjectCalls,
    "sketches": SketchCalls,
}


def converse(name: str, seed: int, steps: int) -> Conversation:
    """Make so many calls. Raises `Disagreement` with the number of the step."""
    conversation = CONVERSATIONS[name](Tape(seed).track(name))
    for number in range(1, steps + 1):
        try:
            conversation.step()
        except AssertionError as error:
            raise Disagreement(f"seed {seed}, step {number} of the {name}: {error}") from error
    return conversation
