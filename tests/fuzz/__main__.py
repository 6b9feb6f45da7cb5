"""`python -m tests.fuzz TARGET --seconds N`: fuzz one target, or all of them one after the other.

With atheris installed (`pip install -e '.[fuzz]'`) mutations follow coverage; `--plain` does without. An input on which a
target fails is made smaller, saved under `tests/fuzz/regressions`, and from then on replayed by the tests.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", help="a target's name, `all`, or `list`")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1 << 31))
    parser.add_argument("--plain", action="store_true", help="random mutations, without atheris")
    parser.add_argument("--corpus", type=Path, help="a folder that keeps what was found interesting (with atheris)")
    options = parser.parse_args()
    if options.target in {"all", "list"}:
        from tests.fuzz.registry import TARGETS

        if options.target == "list":
            print("\n".join(TARGETS))
            return 0
        passed_on = ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        passed_on += ["--plain"] if options.plain else []
        codes = [subprocess.run([sys.executable, "-m", "tests.fuzz", name, *passed_on]).returncode for name in TARGETS]
        return max(map(abs, codes))
    if options.plain or importlib.util.find_spec("atheris") is None:
        return plainly(options.target, options.seed, options.seconds)
    from tests.fuzz import coverage_guided

    return coverage_guided.run(options.target, options.seed, options.seconds, options.corpus)


def plainly(name: str, seed: int, seconds: float) -> int:
    """The plain driver; 1 where it found something."""
    from tests.fuzz import plain
    from tests.fuzz.registry import TARGETS, save

    began = time.monotonic()
    try:
        executions = plain.run(TARGETS[name], seed, seconds)
    except plain.Found as found:
        path = save(TARGETS[name], found.data, str(found).replace("\n", " ")[:100])
        print(f"{name}, seed {seed}: {found}\nsaved as {path}")
        return 1
    took_s = time.monotonic() - began
    print(
        f"{name}, seed {seed}: {executions} inputs in {took_s:.0f} s, {executions / took_s:.0f} a second, nothing found"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
