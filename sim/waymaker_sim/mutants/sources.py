"""Rules of sources: each message once and in order, whatever stops; the position in the very record of the copies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from waymaker_core.layers.layer import SKETCHES
from waymaker_core.layers.layer import SOURCES as LAYER_OF_SOURCES
from waymaker_core.node import feed
from waymaker_core.node.feed import Feed
from waymaker_core.node.sourcing import letter_box, sourcing
from waymaker_core.node.sourcing.counting import CountRule
from waymaker_core.node.sourcing.sourcing import Sourcing
from waymaker_core.sketches.layer import SketchLayer
from waymaker_core.sources.copies import CopyRule
from waymaker_core.sources.positions import Incarnation, Position, Positions
from waymaker_core.storage.config_codec import encode_plain
from waymaker_sim.machine.swarm import Plan
from waymaker_sim.mutants.planting import Mutant, giving, nothing

ONCE = ("copied once", "copied all")


def _sourcing(plan: Plan) -> bool:
    """Return True for worlds with streams that copy from others."""
    return plan.sources


def _restarting(plan: Plan) -> bool:
    """Return True for such worlds whose process stops now and then."""
    return plan.sources and plan.kill + plan.power + plan.drain + plan.kill_at_effect > 10_000


def _deposed(plan: Plan) -> bool:
    """Return True for such worlds in which another node leads the streams now and then."""
    return plan.sources and plan.quorum is not None and plan.quorum.deposes > 0


def _churning(plan: Plan) -> bool:
    """Return True for such worlds whose streams are deleted and created anew."""
    return plan.sources and plan.churn > 5_000


def _writing_no_position(_: Any) -> Any:
    return lambda positions: encode_plain([])


def _writing_the_position_behind(original: Any) -> Any:
    """Commit a position apart from its copies: a record carries the position of the batch before."""
    last: dict[tuple[int, Any], Position] = {}

    def encode_positions(positions: dict[int, Position]) -> bytes:
        ((index, position),) = positions.items()
        before = last.get((index, position.incarnation), position)
        last[index, position.incarnation] = position
        return original({index: before if before.seq <= position.seq else position})  # type: ignore[no-any-return]

    return encode_positions


def _forgetting_the_skipped(original: Any) -> Any:
    def read_stretch(stream: Any, from_seq: int, *rest: Any) -> Any:
        stretch = original(stream, from_seq, *rest)
        if stretch.runs:
            last = stretch.runs[-1].sequences()[-1]
            stretch.next_seq = min(stretch.next_seq, last + 1)
        elif not stretch.torn:
            stretch.next_seq = from_seq
        return stretch

    return read_stretch


def _noticing_no_gap(original: Any) -> Any:
    def read_stretch(*arguments: Any) -> Any:
        stretch = original(*arguments)
        stretch.torn = False
        return stretch

    return read_stretch


def _one_incarnation(_: Any) -> Any:
    return lambda stream_id, created_ms: Incarnation(1, 1)


def _missing_changes(_: Any) -> Any:
    def wait_in(self: Sourcing, stage: Any, leading: Any, run: Any) -> None:
        run.stage = stage

    return wait_in


def _copying_what_was_refused(original: Any) -> Any:
    """Leave out of a batch what follows a message that cannot be copied."""

    def take_messages(self: CopyRule, messages: Any, bounds: Any) -> Any:
        copies = original(self, messages, bounds)
        if copies.failures:
            place = copies.failures[0].place
            kept = place - sum(each.place < place for each in copies.failures)
            lengths = copies.lengths[:kept]
            body = copies.body[: sum(lengths)]
            copies = replace(
                copies, subjects=copies.subjects[:kept], sizes=copies.sizes[:kept], lengths=lengths, body=body
            )
        return copies

    return take_messages


def _numbering_no_letter(original: Any) -> Any:
    return lambda *arguments: replace(original(*arguments), producer=None)


def _counting(plan: Plan) -> bool:
    """Return True for worlds with sketches of a stream."""
    return plan.sketches


def _counting_and_stopping(plan: Plan) -> bool:
    """Return True for such worlds whose process stops now and then."""
    return plan.sketches and plan.kill + plan.power + plan.drain + plan.kill_at_effect > 500


def _hiding_what_has_stopped(_: Any) -> Any:
    return lambda self, run, text: run.show_trouble(text, self._state.now.wall_ms, passing=True)


def _without_the_batch(original: Any) -> Any:
    def take_messages(self: CountRule, messages: Any, bounds: Any) -> Any:
        return replace(original(self, messages, bounds), facts=[])

    return take_messages


def _without_the_position(original: Any) -> Any:
    """Commit what a sketch adds without the position behind it."""

    def decide_draft(stream: Any, draft: Any, wall_ms: int) -> Any:
        if any(kind == SKETCHES for kind, _ in draft.facts):
            draft.facts = [each for each in draft.facts if each[0] != LAYER_OF_SOURCES]
        return original(stream, draft, wall_ms)

    return decide_draft


def _skipping_nothing(original: Any) -> Any:
    def restore(self: SketchLayer, snapshot: Any) -> None:
        original(self, snapshot)
        self.skipped = 0

    return restore


SOURCES = {
    "position-not-recorded": Mutant(
        "the position in a source is in the record of the copies", (*ONCE, "sources catch up"), sourcing, "encode_positions",
        _writing_no_position, _sourcing,
    ),
    "position-behind": Mutant(
        "the position in a source is committed with its copies, not apart from them", ONCE, sourcing, "encode_positions",
        _writing_the_position_behind, _sourcing,
    ),
    "position-forgotten-by-checkpoints": Mutant(
        "a checkpoint holds the positions in sources", (*ONCE, "recovery twice"), Positions, "restore", nothing, _restarting,
    ),
    "skip-forgotten": Mutant(
        "a position moves over what the filter excludes, and over what is no more", ("sources catch up", *ONCE),
        feed, "read_stretch", _forgetting_the_skipped, _sourcing,
    ),
    "gap-unnoticed": Mutant(
        "messages that were pruned before they were copied stop copying, unless skipping is wanted", ("copied all",),
        feed, "read_stretch", _noticing_no_gap, _sourcing,
    ),
    "recreated-source-unnoticed": Mutant(
        "a source that is created anew is told by its incarnation, and copied from its beginning",
        ("copied all", "sources catch up"), feed, "Incarnation", _one_incarnation, _churning,
    ),
    "copy-though-deposed": Mutant(
        "copying that a leader began ends with its leading", ("one leader", "sources catch up", *ONCE),
        Sourcing, "_goes_on", giving(True),
        _deposed,
    ),
    "change-while-pulling-missed": Mutant(
        "a change of a source that comes while it is pulled is not missed", ("sources catch up",), Sourcing, "_wait_in",
        _missing_changes, _sourcing,
    ),
    "source-not-watched": Mutant(
        "a source that was read to its end is watched", ("sources catch up",), Feed, "wake", nothing, _sourcing,
    ),
    "hide-what-has-stopped": Mutant(
        "a trouble that passes does not hide what has stopped copying", ("sources catch up",),
        Sourcing, "_show_passing", _hiding_what_has_stopped, _sourcing,
    ),
    "batch-cut-at-what-fails": Mutant(
        "a message that cannot be copied is passed over, and no other", ("copied all",), CopyRule, "take_messages",
        _copying_what_was_refused, _sourcing,
    ),
    "letters-unnumbered": Mutant(
        "a letter about a message is stored once, however often it is sent", ("copied once",), letter_box, "letters",
        _numbering_no_letter, _restarting,
    ),
    "sketch-without-its-batch": Mutant(
        "a record that moves a sketch's position carries what the sketch adds", ("sketch sourced",),
        CountRule, "take_messages", _without_the_batch, _counting,
    ),
    "sketch-without-its-position": Mutant(
        "a record of what a sketch adds carries the position behind it", ("sketch sourced",),
        sourcing, "decide_draft", _without_the_position, _counting,
    ),
    "forget-what-was-skipped": Mutant(
        "a checkpoint holds how many messages a sketch has skipped", ("sketch sourced",),
        SketchLayer, "restore", _skipping_nothing, _counting_and_stopping,
    ),
}  # fmt: skip
