"""`python -m waymaker.cli`."""

from __future__ import annotations

import sys

from waymaker.cli import main

sys.exit(main())
