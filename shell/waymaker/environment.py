"""The environment variables with this program's prefix that it does not know.

Responsible for finding them, and for saying of each whether it looks like a slip of the pen; it reads no value. A variable
that is known is judged where it is used, strictly. One that is not known is only reported: other programs set names with any
prefix, above all Kubernetes, which describes a service named `waymaker` as `WAYMAKER_PORT`, `WAYMAKER_SERVICE_HOST` and so on
in the environment of every container beside it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final

PREFIX: Final = "WAYMAKER_"
CLIENT_VARIABLES: Final = frozenset({"WAYMAKER_SERVER", "WAYMAKER_TOKEN", "WAYMAKER_CA", "WAYMAKER_CONFIG"})
"""The command line's own variables, which are not settings of a server."""
_SERVICE: Final = re.compile(
    r"WAYMAKER_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""Names that Kubernetes makes of a service whose name begins with `waymaker`."""


def unknown_variables(environment: Mapping[str, str], known: Iterable[str]) -> dict[str, str]:
    """Return the variables with the prefix that are not among `known`; each with the known name it resembles, or ''."""
    names = sorted(set(known) | CLIENT_VARIABLES)
    unknown = (name for name in sorted(environment) if name.startswith(PREFIX) and name not in names)
    return {name: "" if _SERVICE.fullmatch(name) else _resembling(name, names) for name in unknown}


def _resembling(name: str, names: list[str]) -> str:
    """Return the known name that differs little from this one; the prefix, which all share, is not compared."""
    near = difflib.get_close_matches(
        name.removeprefix(PREFIX), [n.removeprefix(PREFIX) for n in names], n=1, cutoff=0.7
    )
    return PREFIX + near[0] if near else ""
