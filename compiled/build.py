"""The build: a copy of the core, its dataclasses written out, through mypyc and the C compiler.

The result is a directory with the package `waymaker_core`: the real sources, and an extension module beside each that is
compiled, which Python prefers. The source tree gets no file of this, so that nothing old ever stands before an edited module.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from compiled.modules import COMPILED, CORE, is_compiled, sources
from compiled.plain_classes import NotUnderstood, write_out
from compiled.refusals import misread

if TYPE_CHECKING:
    from setuptools import Extension
    from setuptools.command.build_ext import build_ext

OPTIMIZATION: Final = "2"
OPTIMIZATIONS: Final = ("0", "1", "2", "3")
FOLDER: Final = "compiled-core"
STAMP: Final = "built-from"
GROUP: Final = "waymaker_core_compiled"
"""Name of the shared library that holds the code; each module's own extension only finds its part there."""
_SETTINGS: Final = """[mypy]
strict = true
local_partial_types = true
"""


def has_compiler() -> bool:
    """Return True if the C compiler that made this Python, or another named `cc`, can be found."""
    named = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(str(named).split()[0]) is not None


def fingerprint(optimization: str = OPTIMIZATION, packages: Sequence[str] = COMPILED) -> str:
    """Return what a build depends on, as one hash: sources, this package, versions, settings."""
    parts = hashlib.blake2b(digest_size=16)
    for path in sources():
        parts.update(str(path).encode() + b"\0" + (CORE / path).read_bytes() + b"\0")
    for path in sorted(Path(__file__).parent.glob("*.py")):
        parts.update(path.read_bytes())
    parts.update(f"{sys.version} {version('mypy')} {optimization} {packages}".encode())
    return parts.hexdigest()


def existing(target: Path) -> Path | None:
    """Return the folder of an up-to-date build, whatever its optimization; None where there is none."""
    stamp = target / STAMP
    said = stamp.read_text() if stamp.exists() else ""
    return target / FOLDER if any(fingerprint(each) == said for each in OPTIMIZATIONS) else None


def build(target: Path, optimization: str = OPTIMIZATION, jobs: int = 1, packages: Sequence[str] = COMPILED) -> Path:
    """Build into a directory and return the folder to put on the path; nothing is done where it is up to date.

    `packages`: those of the core that are compiled; they import no other.
    """
    out, work = target / FOLDER, target / "work"
    stamp = target / STAMP
    wanted = fingerprint(optimization, packages)
    if stamp.exists() and stamp.read_text() == wanted:
        return out
    stamp.unlink(missing_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    staged = _stage(work, out, packages)
    _compile(work, out, staged, optimization, jobs)
    stamp.write_text(wanted)
    return out


def _stage(work: Path, out: Path, packages: Sequence[str]) -> list[str]:
    """Copy the sources, those to be compiled written out in `work`, and return the names of these."""
    shutil.rmtree(work / "core", ignore_errors=True)
    staged: list[str] = []
    for path in sources():
        for copy in (work / "core" / path, out / path):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CORE / path, copy)
        if is_compiled(path, packages):
            copy = work / "core" / path
            source = copy.read_text()
            if wrong := misread(ast.parse(source)):
                raise NotUnderstood(f"{path}: {'; '.join(wrong)}")
            copy.write_text(write_out(source))
            staged.append(str(Path("core") / path))
    (work / "mypy.ini").write_text(_SETTINGS)
    return staged


def _compile(work: Path, out: Path, staged: Sequence[str], optimization: str, jobs: int) -> None:
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    # mypyc names source files in tracebacks as they are named here, relative to the directory it runs in.
    with chdir(work), _environment("MYPYPATH", "core"):
        extensions: list[Extension] = mypycify(
            ["--config-file=mypy.ini", "--no-warn-unused-ignores", *staged],
            opt_level=optimization, debug_level="0", multi_file=True, target_dir="c", group_name=GROUP,
        )  # fmt: skip
        distribution = Distribution({"name": GROUP, "ext_modules": extensions})
        command = build_ext(distribution)
        command.build_lib, command.build_temp = str(out), "objects"
        command.ensure_finalized()
        _let_compile_in_parallel(command, jobs)
        command.run()


def _let_compile_in_parallel(command: build_ext, jobs: int) -> None:
    """Let setuptools run so many C compilers at a time: it would run one, for all files belong to one extension."""
    begin = command.build_extensions

    def build_extensions() -> None:
        compiler = command.compiler
        compile_in_turn = compiler.compile

        def compile_all(sources: list[str], *settings: object, **named: object) -> list[str]:
            with ThreadPoolExecutor(jobs) as pool:
                made = pool.map(lambda source: compile_in_turn([source], *settings, **named), sources)
                return [name for names in made for name in names]

        compiler.compile = compile_all
        begin()

    command.build_extensions = build_extensions


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
