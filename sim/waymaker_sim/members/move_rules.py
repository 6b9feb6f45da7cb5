"""The rules of planned moves by name. Each can be left out for a while, and a world of moves must then notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from waymaker_core.cluster import moves, sweep
from waymaker_core.cluster.liveness import Liveness
from waymaker_core.cluster.moves import Moves
from waymaker_core.node.leadership import Leadership
from waymaker_sim.mutants.planting import Mutant, giving

NO_DOUBT: Final = ("moves leave no doubt",)
IN_TIME: Final = ("moves in time",)


def _as_well(_original: Callable[..., bool]) -> Any:
    return lambda self, now, node: self.is_well(now, node)


MOVE_RULES: Final[dict[str, Mutant]] = {
    "drain_first": Mutant(
        "no call is admitted to a stream for which another node is about to be claimed",
        NO_DOUBT, Moves, "is_draining", giving(False),
    ),
    "ask_the_other_first": Mutant(
        "a stream is drained when the other node has just answered",
        IN_TIME, moves, "has_answered", giving(True),
    ),
    "move_whole_log": Mutant(
        "a claim is asked for when the other replica has the whole log, committed",
        IN_TIME, moves, "has_all", giving(True),
    ),
    "drain_when_near": Mutant(
        "a stream is drained when the other replica has nearly all",
        IN_TIME, moves, "is_near", giving(True),
    ),
    "hand_deliveries_over": Mutant(
        "what readers hold is logged before another node leads the stream",
        NO_DOUBT, Leadership, "prepare_move", giving(None),
    ),
    "keep_pinned": Mutant(
        "the sweep moves no pinned stream that was not sent back",
        ("pinned stays",), sweep, "may_sweep", giving(True),
    ),
    "return_when_settled": Mutant(
        "a stream returns by itself when its home has been well for a while",
        ("returns settled",), Liveness, "is_settled", _as_well,
    ),
}  # fmt: skip
