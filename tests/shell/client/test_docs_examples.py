"""Examples of the documentation that need a server run as they are printed."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path

import pytest

import waymaker
from tests.kit.real_server import RealServer

pytestmark = [pytest.mark.process, pytest.mark.slow]
DOCS = Path(__file__).parents[3] / "docs"


def examples(page: str, section: str) -> list[str]:
    """Return the Python examples in a section of a page."""
    text = (DOCS / page).read_text()
    _, found, rest = text.partition(f"\n### {section}\n")
    assert found, f"{page} has no section {section!r}"
    return re.findall(r"```python\n(.*?)```", re.split(r"\n##", rest)[0], re.DOTALL)


@pytest.mark.parametrize(("page", "section"), [("sketches.md", "Fed by streams")])
def test_an_example_runs_as_it_is_printed(server: RealServer, page: str, section: str) -> None:
    found = examples(page, section)
    assert found

    async def run() -> None:
        async with waymaker.connect(server.address) as wm:
            for source in found:
                names: dict[str, object] = {"wm": wm, "asyncio": asyncio}
                exec("async def example(wm):\n" + textwrap.indent(source, "    "), names)  # noqa: S102 (our own documentation)
                await names["example"](wm)  # type: ignore[operator]

    asyncio.run(asyncio.wait_for(run(), 60))
