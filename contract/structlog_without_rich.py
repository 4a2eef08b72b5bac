"""Loads structlog without rich; imported first by both programs.

Where rich is installed structlog loads it for tracebacks of its own, which `contract.logs` never has it print:
a third of what structlog takes to load, and 6 MB, in every child.
"""

from __future__ import annotations

import sys

_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]  # as the documentation of `import` has it: it is not found
try:
    import structlog as structlog  # noqa: PLC0414
finally:
    del sys.modules["rich"]
    if _rich is not None:
        sys.modules["rich"] = _rich
