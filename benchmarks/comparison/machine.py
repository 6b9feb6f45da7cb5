"""The circumstances of a run: the date, the machine and its load at the start, and the versions of all contestants."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.contestants import nats_program

PACKAGES = {
    "Waymaker": "waymaker-streams",
    "nats-py": "nats-py",
    "redis-py": "redis",
    "hiredis": "hiredis",
    "uvloop": "uvloop",
}


def circumstances(folder: Path) -> dict[str, str]:
    """Describe this moment, this machine and what is installed on it; the disk is that of the folder."""
    load = os.getloadavg()
    return {
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "machine": ", ".join((f"{os.cpu_count()} cores", _processor(), _system(), _file_system(folder))),
        "load at the start": ", ".join(f"{each:.2f}" for each in load),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        **versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of contestants and of their clients, as far as they are installed."""
    found = {}
    for name, package in PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    for name, program in (("NATS", nats_program()), ("Redis", shutil.which("redis-server"))):
        if program is not None:
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
            version = re.search(r"\d+\.\d+\.\d+", said)
            found[name] = version[0] if version else "unknown"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(folder: Path) -> str:
    """Return the kind of file system that holds a folder: the mount with the longest path above it."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown file system"
    place = folder.resolve()
    above = [(len(path), kind) for path, kind in mounts if place.is_relative_to(path)]
    return max(above)[1] if above else "unknown file system"


def _system() -> str:
    """Return the operating system with its release, without the name of its build."""
    return f"{platform.system()} {platform.release().partition('-')[0]}"
