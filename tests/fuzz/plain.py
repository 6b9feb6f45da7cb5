"""The plain driver: random mutations of the seeds, without coverage. Runs everywhere; what it does follows from its seed."""

from __future__ import annotations

import time
from random import Random

from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target, limited_address_space, run_bounded


class Found(Exception):
    """An input on which a target failed."""

    def __init__(self, data: bytes, problem: BaseException) -> None:
        super().__init__(f"{type(problem).__name__}: {problem}")
        self.data = data
        self.problem = problem


def run(target: Target, seed: int, seconds: float, executions_max: int | None = None) -> int:
    """Run mutations for as long as that; how many. Raises `Found` at the first failure."""
    random = Random(f"{target.name} {seed}")
    corpus = target.seeds()
    deadline = time.monotonic() + seconds
    executions = 0
    with limited_address_space():
        while time.monotonic() < deadline and (executions_max is None or executions < executions_max):
            data = mutated(random, corpus, target.tokens)
            try:
                run_bounded(target, data)
            except Exception as problem:
                raise Found(smallest(target, data, problem), problem) from problem
            executions += 1
    return executions


def smallest(target: Target, data: bytes, problem: BaseException, tries_max: int = 2_000) -> bytes:
    """A shorter input that fails in the same way: pieces are left out as long as that works."""
    size, tries = max(1, len(data) // 2), 0
    while size and tries < tries_max:
        at = 1
        while at < len(data) and tries < tries_max:
            shorter = data[:at] + data[at + size :]
            tries += 1
            if _fails_alike(target, shorter, problem):
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _fails_alike(target: Target, data: bytes, problem: BaseException) -> bool:
    try:
        run_bounded(target, data)
    except Exception as other:
        return type(other) is type(problem) and str(other)[:40] == str(problem)[:40]
    return False
