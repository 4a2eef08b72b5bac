"""`python -m coordinator.main` without restart back-off: every run of a child counts as a steady one.

Otherwise a child would have to be READY for a minute before each round of a benchmark.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from coordinator.main import main

if __name__ == "__main__":
    lifecycle: Any = importlib.import_module("coordinator.supervision.lifecycle")
    lifecycle.STEADY_AFTER_S = 0.0
    sys.exit(main(sys.argv[1:]))
