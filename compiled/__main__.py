"""`python -m compiled`: build the compiled core and print the folder to put on the path."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compiled.build import OPTIMIZATION, OPTIMIZATIONS, build, has_compiler
from compiled.modules import ROOT


def main() -> int:
    """Build, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m compiled", description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "compiled", help="default: build/compiled")
    parser.add_argument(
        "--optimization",
        default=OPTIMIZATION,
        choices=OPTIMIZATIONS,
        help="of the C compiler; default: %(default)s",
    )
    parser.add_argument("--jobs", type=int, default=1, help="C compilers at a time; default: %(default)s")
    asked = parser.parse_args()
    if not has_compiler():
        print("no C compiler was found; the pure core needs none", file=sys.stderr)
        return 1
    print(build(asked.into.resolve(), asked.optimization, asked.jobs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
