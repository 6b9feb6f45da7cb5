"""Ports of the tests' servers: each belongs to one test process until that ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kit.real_server import PORTS, free_port

EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
ROOT = Path(__file__).parents[2]
CLAIM = """
import sys
from tests.kit import real_server
real_server.PORTS = [int(sys.argv[1])]
print(real_server.free_port())
"""


def test_a_port_is_given_to_one_test_process_alone() -> None:
    first, second = free_port(), free_port()
    assert first != second
    other = [sys.executable, "-c", CLAIM, str(first)]
    ran = subprocess.run(other, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert "every port of the tests is in use" in ran.stderr, ran.stdout


def test_no_client_receives_a_port_of_a_server_that_is_down() -> None:
    if EPHEMERAL_PORTS.exists():
        assert PORTS[-1] < int(EPHEMERAL_PORTS.read_text().split()[0])
