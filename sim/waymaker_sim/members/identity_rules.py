"""The rules of founding, identity and doubt in the catalog's group by name. Each can be left out for a while.

`caught_by` names the promise that breaks then, of those in `raft/promises`, or `one group`.
"""

from __future__ import annotations

from typing import Any, Final

from waymaker_core.cluster import catalog_group, founding
from waymaker_core.node import opening
from waymaker_core.raft import elections, raft
from waymaker_core.raft.state import MemberState
from waymaker_sim.mutants.planting import Mutant, giving

ONE_LEADER: Final = ("election safety",)
COMPLETE: Final = ("leader completeness",)
ONE_GROUP: Final = ("one group",)


def _with_any_directory(_: Any) -> Any:
    return lambda self, members: self.id in members.voters


IDENTITY_RULES: Final[dict[str, Mutant]] = {
    "vote_in_doubt": Mutant(
        "the vote of a member in doubt counts only if all voters give theirs",
        COMPLETE, elections, "is_certain", giving(True),
    ),
    "doubt_until_later_term": Mutant(
        "a member is in doubt until it has applied an entry of a later term than any it may have voted in",
        COMPLETE, raft, "proves_complete", giving(True),
    ),
    "skip_terms": Mutant(
        "a member that may have forgotten votes enters a term in which it gave none",
        ONE_LEADER, opening, "term_without_votes", lambda _: lambda known: known,
    ),
    "vote_as_named": Mutant(
        "a member campaigns only in the directory that the members name",
        ONE_LEADER, MemberState, "_votes_in", _with_any_directory,
    ),
    "answer_as_named": Mutant(
        "an answer counts only from the directory that the members name",
        COMPLETE, catalog_group, "counts", giving(True),
    ),
    "found_hearing_all": Mutant(
        "a group is founded by a member that hears all others",
        ONE_GROUP, founding, "has_heard_all", giving(True),
    ),
    "found_beside_empty": Mutant(
        "a group is founded where no other member has data or a group",
        ONE_GROUP, founding, "are_empty", giving(True),
    ),
    "one_founder": Mutant(
        "of empty members the first one founds the group",
        ONE_GROUP, founding, "is_founder", giving(True),
    ),
}  # fmt: skip
