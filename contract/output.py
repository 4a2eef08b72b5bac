"""What a program prints last, also where nothing takes it."""

from __future__ import annotations

import contextlib
import sys


def write_error(text: str) -> None:
    """Write to stderr, if it takes it: an exit code must not depend on the log's disk."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text)


def end_output() -> None:
    """Write what stdout and stderr still hold; give up what they do not take.

    Python would try it once more at its very end, and turn the failure, as of a log on a full disk, into exit code 120.
    """
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError:
            setattr(sys, name, None)
