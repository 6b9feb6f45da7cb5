"""The random-mutant gate: it draws the same from the same seed, kills what is wrong, and names what nothing notices."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from waymaker_sim.cli.command import sim
from waymaker_sim.kernel.digest import Digest
from waymaker_sim.kernel.tape import Tape
from waymaker_sim.mutation import command
from waymaker_sim.mutation.child import Order
from waymaker_sim.mutation.drawing import Drawn, core_folder, draw, modules
from waymaker_sim.mutation.equivalent import EQUIVALENT, reason_for
from waymaker_sim.mutation.report import Report, ReportRefused, read, summary
from waymaker_sim.mutation.sites import mark, mutations
from waymaker_sim.mutation.survey import Seen, Survey, child, small_seeds, survey
from waymaker_sim.mutation.verdict import Bounds, Verdict, VerdictKind, try_mutant
from waymaker_sim.world.run import run_tape

SEED = 7
"""A small world that publishes, stores and reads."""
BOUNDS = Bounds(runs=2, tests_seconds=5.0)
TEXT = '''
def f(a: int, b: list[int]) -> bool:
    """Text."""
    assert a > 0, "not mutated"
    while a < 3 and b:
        a += 1
        b.append(a)
    if not b:
        raise ValueError(f"{a + 1}")
    return a == 3
'''


def changes(text: str) -> set[tuple[str, str, str]]:
    return {(one.operator, one.before, one.after) for one in mutations(ast.parse(text))}


def one_of(module: str, function: str, before: str, after: str) -> Drawn:
    """The mutant that turns one text into the other."""
    path = modules()[module]
    for one in mutations(ast.parse(path.read_text())):
        if (one.function, one.before, one.after) == (function, before, after):
            return Drawn(module, one.number, path.name, one.line, function, one.operator, before, after)
    raise AssertionError(f"{module} has no such mutation")


LENGTH = "return {} if messages is None else sum(messages.lengths)"


def wrong_length() -> Drawn:
    """A record without bodies that says it has some: every publish-free record breaks."""
    return one_of("waymaker_core.storage.record_codec", "body_bytes", LENGTH.format(0), LENGTH.format(1))


def unnoticeable() -> Drawn:
    """A cache that is emptied one subject earlier."""
    before = "if len(accepted) + len(subjects) > ACCEPTED_MAX:"
    after = "if len(accepted) + len(subjects) >= ACCEPTED_MAX:"
    return one_of("waymaker_core.stream.admission", "_judge_subjects", before, after)


def seen_seed() -> Seen:
    digest = Digest()
    run_tape(Tape(SEED), digest)
    return Seen(str(SEED), 1.0, [0], digest.hex())


def test_every_kind_of_change_is_made_and_nothing_else() -> None:
    assert changes(TEXT) == {
        ("and, or", "while a < 3 and b:", "while a < 3 or b:"),
        ("dropped operand", "while a < 3 and b:", "while b:"),
        ("dropped operand", "while a < 3 and b:", "while a < 3:"),
        ("negation", "while a < 3 and b:", "while not (a < 3 and b):"),
        ("comparison", "while a < 3 and b:", "while a <= 3 and b:"),
        ("comparison", "while a < 3 and b:", "while a >= 3 and b:"),
        ("constant", "while a < 3 and b:", "while a < 4 and b:"),
        ("constant", "while a < 3 and b:", "while a < 2 and b:"),
        ("dropped statement", "a += 1", "pass"),
        ("operator", "a += 1", "a -= 1"),
        ("constant", "a += 1", "a += 2"),
        ("constant", "a += 1", "a += 0"),
        ("dropped statement", "b.append(a)", "pass"),
        ("removed sign", "if not b:", "if b:"),
        ("dropped statement", "raise ValueError(f'{a + 1}')", "pass"),
        ("negation", "return a == 3", "return not a == 3"),
        ("comparison", "return a == 3", "return a != 3"),
        ("constant", "return a == 3", "return a == 4"),
        ("constant", "return a == 3", "return a == 2"),
    }
    arguments = "def f(x: X) -> None:\n    x.g(1, x.a, min(x))\n    return x.h(x.b if x else -x)\n"
    assert {
        ("swapped arguments", "x.g(1, x.a, min(x))", "x.g(x.a, 1, min(x))"),
        ("call", "x.g(1, x.a, min(x))", "x.g(1, x.a, max(x))"),
        ("swapped branches", "return x.h(x.b if x else -x)", "return x.h(-x if x else x.b)"),
        ("removed sign", "return x.h(x.b if x else -x)", "return x.h(x.b if x else x)"),
        ("early return", "def f(x: X):", "nothing is done"),
    } <= changes(arguments)


@pytest.mark.parametrize(
    "name", ["stream.admission", "storage.journal.writer", "consumer.pending.pending", "node.group_commit"]
)
def test_telling_what_a_mutation_does_leaves_the_tree_alone_and_applying_it_compiles(name: str) -> None:
    text = modules()[f"waymaker_core.{name}"].read_text()
    tree = ast.parse(text)
    found = mutations(tree)
    assert ast.dump(tree) == ast.dump(ast.parse(text))
    assert [one.number for one in found] == list(range(len(found)))
    for one in found[::29]:
        mutant = ast.parse(text)
        same = mutations(mutant, with_texts=False)[one.number]
        assert (same.function, same.operator, same.line) == (one.function, one.operator, one.line)
        same.apply()
        assert ast.dump(mutant) != ast.dump(tree)
        compile(ast.fix_missing_locations(mutant), name, "exec")
        marked = ast.parse(text)
        mark(mutations(marked, with_texts=False)[one.number], "reached", 5)
        assert ast.dump(marked).count("Name(id='reached'") == 1
        compile(ast.fix_missing_locations(marked), name, "exec")


def test_a_draw_depends_on_its_seed_alone_and_a_longer_one_goes_on() -> None:
    drawn = draw(5, 40)
    assert drawn == draw(5, 40)
    assert draw(5, 10) == drawn[:10]
    assert draw(6, 40) != drawn
    assert len({one.key() for one in drawn}) == 40
    assert not any(one.module.endswith("invariants") for one in drawn)
    assert {one.module for one in draw(5, 10, "stream.admission")} == {"waymaker_core.stream.admission"}
    assert draw(5, 10, "no.such") == []
    assert all((core_folder().parents[1] / one.path).is_file() for one in drawn)


def test_an_obvious_mutant_is_killed_and_an_unnoticeable_one_survives() -> None:
    seen = Survey(seeds=[seen_seed()])
    killed = try_mutant(0, wrong_length(), seen, BOUNDS, None)
    assert (killed.kind, killed.runs) == (VerdictKind.KILLED, 1)
    assert killed.by.startswith(f"seed {SEED}: node raised")
    survived = try_mutant(0, unnoticeable(), seen, BOUNDS, None)
    assert (survived.kind, survived.runs, survived.differed, survived.tests) == (VerdictKind.SURVIVED, 1, 0, 0)
    other = Survey(seeds=[replace(seen_seed(), digest="of another run")])
    assert try_mutant(0, unnoticeable(), other, BOUNDS, None).differed == 1
    assert try_mutant(0, wrong_length(), Survey(), BOUNDS, None).kind is VerdictKind.NOT_REACHED


def test_a_survey_finds_what_reaches_a_mutant_and_tests_kill_what_simulation_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "property"
    (folder / "storage").mkdir(parents=True)
    (folder / "storage" / "test_toy.py").write_text(
        "from waymaker_core.storage.record_codec import body_bytes\n"
        "from waymaker_core.model.records import PruneRecord\n"
        "from waymaker_core.model.limits import Limits\n"
        "def test_it() -> None:\n    assert body_bytes(PruneRecord()) == 0\n"
        "def test_other() -> None:\n    assert Limits()\n"
    )
    drawn = [unnoticeable(), wrong_length()]
    seen = survey(drawn, [SEED], folder)
    assert [(each.name, each.reached) for each in seen.seeds] == [(str(SEED), [0, 1])]
    assert [(each.name.rpartition("::")[2], each.reached) for each in seen.tests] == [
        ("test_it", [1]),
        ("test_other", []),
    ]
    assert seen.seeds[0].digest == seen_seed().digest, "markers change nothing"
    verdict = try_mutant(1, drawn[1], Survey(tests=seen.tests), BOUNDS, folder)
    assert verdict.kind is VerdictKind.KILLED
    assert (verdict.runs, verdict.tests) == (0, 1)
    assert "test_toy.py::test_it: E" in verdict.by


def test_a_run_that_does_not_end_is_ended_and_counts_as_noticed() -> None:
    order = Order(marked=[], planted=[(unnoticeable().module, unnoticeable().number)], seeds=[(SEED, 0.01)], tests=[],
                  tests_limit=1.0)  # fmt: skip
    lines, died = child(order, 60, None)
    assert [(line["seed"], line["check"]) for line in lines] == [(SEED, "time limit")]
    assert not died


def test_seeds_and_tests_are_chosen_among_those_that_reach_a_mutant() -> None:
    seeds = [Seen(str(n), float(n), [0] if n % 2 else [1]) for n in range(1, 21)]
    tests = [Seen(f"t{n}", float(n), [0]) for n in (3, 1, 2)]
    seen = Survey(seeds, tests)
    assert [each.name for each in seen.seeds_for(0, 5)] == ["1", "5", "9", "13", "17"]
    assert len(seen.seeds_for(0, 100)) == 10
    assert [each.name for each in seen.tests_for(0, 3.5)] == ["t1", "t2"]
    assert [each.name for each in seen.tests_for(0, 0.5)] == ["t1"], "one is always tried"
    assert Survey.from_json(json.loads(json.dumps(seen.as_json()))) == seen
    assert len(small_seeds(range(1, 1000), 7)) == 7


def test_the_command_goes_on_from_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []

    def judging(index: int, drawn: Drawn, *rest: object) -> Verdict:
        judged.append(index)
        if len(judged) == 3:
            raise KeyboardInterrupt
        return Verdict(drawn, VerdictKind.SURVIVED if index == 1 else VerdictKind.KILLED, "seed 1: one history", 1)

    monkeypatch.setattr(command, "try_mutant", judging)
    monkeypatch.setattr(command, "survey", lambda *arguments: Survey())
    monkeypatch.setattr(command, "small_seeds", lambda *arguments: [])
    options = [
        "mutate",
        "--count",
        "4",
        "--seed",
        "9",
        "--tests",
        str(tmp_path / "none"),
        "--report",
        str(tmp_path / "r"),
    ]
    assert CliRunner().invoke(sim, options).exit_code == 1
    held = json.loads((tmp_path / "r").read_text())
    assert len(held["verdicts"]) == 2
    again = CliRunner().invoke(sim, options)
    assert again.exit_code == command.EXIT_SURVIVED
    assert (judged.count(0), judged.count(1), judged.count(2)) == (1, 1, 2), "what has a verdict is not judged again"
    assert again.output.count("KILLED") == 3
    assert again.output.count("SURVIVED") == 1
    assert "4 mutants: 3 killed, 3 of them in simulation; 1 survived" in again.output
    other = CliRunner().invoke(sim, [*options, "--worlds", "3"])
    assert other.exit_code == 2
    assert "another draw" in other.output


def test_a_report_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    Report({"seed": 1}).write(path)
    assert read(path, {"seed": 1}).verdicts == {}
    for text in ("", "[]", '{"format": "other", "version": 1}'):
        path.write_text(text)
        with pytest.raises(ReportRefused):
            read(path, {"seed": 1})


def test_the_command_lists_and_knows_its_modules() -> None:
    listed = CliRunner().invoke(sim, ["mutate", "--list", "--count", "3", "--only", "node.maintenance.retention"])
    assert listed.exit_code == 0
    assert listed.output.count("waymaker_core/node/maintenance/retention.py:") == 3
    unknown = CliRunner().invoke(sim, ["mutate", "--only", "nothing"])
    assert unknown.exit_code == 2
    assert "stream.admission" in unknown.output


def test_equivalent_mutants_are_those_of_the_core_as_it_is() -> None:
    for each in EQUIVALENT:
        drawn = one_of(each.module, each.function, each.before, each.after)
        assert reason_for(drawn) == each.reason
        assert each.reason.strip()
    assert len({each[:4] for each in EQUIVALENT}) == len(EQUIVALENT)


def test_a_summary_counts_verdicts() -> None:
    drawn = wrong_length()
    verdicts = [
        Verdict(drawn, VerdictKind.KILLED, "seed 3: one history: twice"),
        Verdict(drawn, VerdictKind.KILLED, "tests/property/test_x.py::test_y: E assert"),
        Verdict(drawn, VerdictKind.NOT_REACHED),
        Verdict(drawn, VerdictKind.EQUIVALENT, "as said"),
    ]
    assert summary(verdicts).startswith(
        "4 mutants: 2 killed, 1 of them in simulation; 0 survived, 1 not reached, 1 equ"
    )
