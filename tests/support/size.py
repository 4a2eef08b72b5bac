"""How much a test does: a size that finds faults in `make test`, and the full one in `make test-long`."""

from __future__ import annotations

import os
from typing import Final

IS_LONG: Final = os.environ.get("TEST_LONG") == "1"


def size(usual: int, full: int) -> int:
    """Return the number of requests, examples or outputs that this run has time for."""
    return full if IS_LONG else usual
